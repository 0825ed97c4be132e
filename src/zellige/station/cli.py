"""The station's command line: inspect images or a recorded roll, say what a bundle is, try a camera."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from zellige import __version__
from zellige.core.bundle import read_bundle
from zellige.core.errors import USER_ERRORS, ConfigError
from zellige.core.types import PixelSize
from zellige.station import camera_command
from zellige.station.camera_source import LiveCamera
from zellige.station.describe import describe
from zellige.station.end_of_roll import ended_by_signal
from zellige.station.inspection import Options, Overlays, inspect_images
from zellige.station.roll import inspect_roll
from zellige.station.roll_setup import RollOptions

EXIT_ALL_ACCEPTED, EXIT_NOT_ALL_ACCEPTED, EXIT_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130

_EXAMPLES = """examples:
  zellige-station describe floor.zellige
  zellige-station inspect floor.zellige part.png --out results
  zellige-station inspect floor.zellige camera/2024-05-01 --out results --overlays none --threads 2
  zellige-station roll fabric.zellige recordings/roll_17 --profile line3.json --out rolls/17
  zellige-station roll web.zellige --source left=17/left --source right=17/right --profile two.json --out rolls/17

exit code of inspect:
  0  every image is ACCEPT        1  at least one is REJECT or UNDECIDED
  2  error (one line on stderr)   130  interrupted; the records so far are whole
"""

_SCREEN_HELP = "let the bundle's screen pick the tiles for the net; refused where the bundle has none"

_ROLL_HELP = """With --camera the roll ends at Ctrl-C (once), and what the camera did not deliver is undecided.
SOURCE is a recorded roll:
  a folder of frames          in natural order (frame_2 before frame_10); lines of missing, doubled, unreadable and
                              other-width frames are undecided
  NAME.pgm, NAME.ppm          one tall image, read block by block
  NAME.raw, NAME.bin          8-bit lines without header, width_px of the profile wide; read block by block
  NAME.png, NAME.tif, ...     one tall image, decoded whole: at most 2^28 pixels
Of several cameras side by side, each has a SOURCE of its own: --source NAME=SOURCE for every camera of the profile.

DIR gets defects.csv (a line for each defect, written when it ends), crops/NNNNNN.png and roll.json. They can be read
while it runs, and after it was killed; roll.json says "complete": false until the roll has ended.

The profile belongs to the camera, not to the model; every field has a default. As JSON, or as YAML where PyYAML is
installed. docs/guide/roll.md has all fields:
  {"pixel_size": {"cross_web_mm": 0.2, "down_web_mm": 0.2}, "line_rate_hz": 3300,
   "edges": {"background": "dark", "threshold_dn": 40, "width_px": 3900}, "datum": "left_edge",
   "lanes": [{"name": "A", "from_mm": 0, "to_mm": 390}, {"name": "B", "from_mm": 390, "to_mm": 780}],
   "rollers": [{"name": "nip", "circumference_mm": 314.2}], "grading": "grading.json"}

exit code of roll:
  0  no defect, nothing undecided     1  defects, or undecided stretches
  2  error (one line on stderr)       130  interrupted; what was judged is in DIR
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; a user's mistake is one line on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.command == "camera":
            return EXIT_ALL_ACCEPTED if camera_command.run(parsed) else EXIT_NOT_ALL_ACCEPTED
        if parsed.command == "describe":
            sys.stdout.write(describe(read_bundle(parsed.bundle), as_json=parsed.json))
            return EXIT_ALL_ACCEPTED
        if parsed.command == "roll":
            options = RollOptions(
                num_threads=parsed.threads,
                overwrite=parsed.overwrite,
                real_time=parsed.real_time,
                counts=parsed.counts,
                crops=not parsed.no_crops,
                screen=parsed.screen,
            )
            return EXIT_ALL_ACCEPTED if _inspect_roll(parsed, options) else EXIT_NOT_ALL_ACCEPTED
        all_accepted = inspect_images(
            parsed.bundle,
            parsed.images,
            parsed.out,
            Options(
                pixel_size=_parse_pixel_size(parsed.pixel_size_mm),
                num_threads=parsed.threads,
                overlays=Overlays(parsed.overlays),
                overwrite=parsed.overwrite,
                screen=parsed.screen,
                template=parsed.template,
            ),
        )
    except KeyboardInterrupt:
        sys.stderr.write("zellige-station: interrupted; the records so far are kept\n")
        return EXIT_INTERRUPTED
    except (*USER_ERRORS, OSError) as error:
        sys.stderr.write(f"zellige-station: {error}\n")
        return EXIT_ERROR
    return EXIT_ALL_ACCEPTED if all_accepted else EXIT_NOT_ALL_ACCEPTED


def _inspect_roll(parsed: argparse.Namespace, options: RollOptions) -> bool:
    given = [words for words in (parsed.source, parsed.sources, parsed.camera) if words is not None]
    if len(given) != 1:
        raise ConfigError(
            "roll: expected one of SOURCE, a recording, --source for each of several cameras, and --camera, got "
            + ("several of them" if given else "none")
        )
    if parsed.camera is None:
        if parsed.frames is not None:
            raise ConfigError("--frames: expected --camera with it, a recording has its own end")
        roll = parsed.source if parsed.sources is None else _named_sources(parsed.sources)
        return inspect_roll(parsed.bundle, roll, parsed.profile, parsed.out, options)
    with ended_by_signal() as is_ended:
        camera = LiveCamera(name=parsed.camera or None, num_frames=parsed.frames, is_ended=is_ended)
        return inspect_roll(parsed.bundle, camera, parsed.profile, parsed.out, options)


def _named_sources(texts: Sequence[str]) -> dict[str, Path]:
    sources: dict[str, Path] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not (name and path):
            raise ConfigError(f"--source: expected NAME=SOURCE, the camera's name in the profile, got {text!r}")
        if name in sources:
            raise ConfigError(f"--source: expected camera {name} once, got {sources[name]} and {path}")
        sources[name] = Path(path)
    return sources


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zellige-station",
        description="Inspect images with an exported bundle: no training packages, no network, no GPU.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"zellige-station {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    inspect = commands.add_parser(
        "inspect",
        help="decide on each image: ACCEPT, REJECT or UNDECIDED",
        description="Verify the bundle, replay its golden frames, then decide on each image. Writes DIR/verdicts.jsonl "
        "(one JSON object per image, in order) and DIR/overlays.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inspect.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle, NAME.zellige")
    inspect.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE_OR_FOLDER", help="image files, or folders (searched recursively)"
    )
    inspect.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go; made if needed")
    inspect.add_argument(
        "--pixel-size-mm",
        metavar="X[xY]",
        help="this camera's pixel size in mm, cross-web x down-web, such as 0.05 or 0.05x0.1 (default: the bundle's; "
        "refused outside its tolerance)",
    )
    inspect.add_argument(
        "--template",
        type=Path,
        metavar="FILE_OR_FOLDER",
        help="what the images are compared with, for a bundle that compares: an image for all, a folder (of NAME.png "
        "its NAME.*, of NAME_test.png its NAME_temp.*), or a CSV file image,template (default: the bundle's own)",
    )
    inspect.add_argument("--threads", type=_positive, metavar="N", help="threads that compute (default: all CPUs)")
    inspect.add_argument(
        "--overlays",
        choices=[str(o) for o in Overlays],
        default=str(Overlays.REJECTED),
        help="which images to draw; rejected means REJECT and UNDECIDED (default: %(default)s)",
    )
    inspect.add_argument("--screen", action="store_true", help=_SCREEN_HELP)
    inspect.add_argument("--overwrite", action="store_true", help="replace the verdicts and overlays in DIR")

    _add_roll(commands)
    about = commands.add_parser("describe", help="print what a bundle is, after verifying it")
    about.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle, NAME.zellige")
    about.add_argument("--json", action="store_true", help="print the id and the whole manifest as JSON")
    camera_command.add_parser(commands)
    return parser


def _add_roll(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    roll = commands.add_parser(
        "roll",
        help="inspect a roll of web, recorded or from a camera: defects in mm, repeats, grades",
        description="Verify the bundle, replay its golden frames, then inspect every line of a roll.",
        epilog=_ROLL_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    roll.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle, NAME.zellige")
    roll.add_argument("source", type=Path, nargs="?", metavar="SOURCE", help="folder of frames, tall image or raw file")
    roll.add_argument(
        "--source",
        action="append",
        dest="sources",
        metavar="NAME=SOURCE",
        help="instead of SOURCE, once for each camera of the profile: its recording",
    )
    roll.add_argument(
        "--camera",
        nargs="?",
        const="",
        metavar="CAMERA",
        help="instead of SOURCE: a GigE camera by id, serial, IP or MAC address (default: the first found)",
    )
    roll.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="with --camera: the roll ends after so many frames (default: at Ctrl-C)",
    )
    roll.add_argument("--profile", type=Path, metavar="FILE", help="the station's profile (default: see below)")
    roll.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go; made if needed")
    roll.add_argument(
        "--counts",
        type=Path,
        metavar="FILE",
        help="encoder's count at each line (text or .npy); needs encoder in the profile",
    )
    roll.add_argument("--real-time", action="store_true", help="replay at the profile's line_rate_hz, not faster")
    roll.add_argument("--threads", type=_positive, metavar="N", help="threads that compute (default: all CPUs)")
    roll.add_argument("--screen", action="store_true", help=_SCREEN_HELP)
    roll.add_argument("--no-crops", action="store_true", help="write no picture of each defect")
    roll.add_argument("--overwrite", action="store_true", help="replace the results in DIR")


def _positive(text: str) -> int:
    value = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= value <= 1024:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 1024, got {text!r}")
    return value


def _parse_pixel_size(text: str | None) -> PixelSize | None:
    if text is None:
        return None
    try:
        sizes = [float(part) for part in text.split("x")]
    except ValueError:
        sizes = []
    if len(sizes) not in (1, 2):
        raise ConfigError(f"--pixel-size-mm: expected one or two numbers such as 0.05 or 0.05x0.1, got {text!r}")
    return PixelSize(cross_web_mm=sizes[0], down_web_mm=sizes[-1])


if __name__ == "__main__":
    raise SystemExit(main())
