"""The station's command line: inspect images with a bundle, or say what a bundle is."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from zellige import __version__
from zellige.core.bundle import read_bundle
from zellige.core.errors import USER_ERRORS, ConfigError
from zellige.core.types import PixelSize
from zellige.station.describe import describe
from zellige.station.inspection import Options, Overlays, inspect_images

EXIT_ALL_ACCEPTED, EXIT_NOT_ALL_ACCEPTED, EXIT_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130

_EXAMPLES = """examples:
  zellige-station describe floor.zellige
  zellige-station inspect floor.zellige part.png --out results
  zellige-station inspect floor.zellige camera/2024-05-01 --out results --overlays none --threads 2

exit code of inspect:
  0  every image is ACCEPT        1  at least one is REJECT or UNDECIDED
  2  error (one line on stderr)   130  interrupted; the records so far are whole
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; a user's mistake is one line on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.command == "describe":
            sys.stdout.write(describe(read_bundle(parsed.bundle), as_json=parsed.json))
            return EXIT_ALL_ACCEPTED
        all_accepted = inspect_images(
            parsed.bundle,
            parsed.images,
            parsed.out,
            Options(
                pixel_size=_parse_pixel_size(parsed.pixel_size_mm),
                num_threads=parsed.threads,
                overlays=Overlays(parsed.overlays),
                overwrite=parsed.overwrite,
            ),
        )
    except KeyboardInterrupt:
        sys.stderr.write("zellige-station: interrupted; the records so far are kept\n")
        return EXIT_INTERRUPTED
    except (*USER_ERRORS, OSError) as error:
        sys.stderr.write(f"zellige-station: {error}\n")
        return EXIT_ERROR
    return EXIT_ALL_ACCEPTED if all_accepted else EXIT_NOT_ALL_ACCEPTED


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
    inspect.add_argument("--threads", type=_positive, metavar="N", help="threads that compute (default: all CPUs)")
    inspect.add_argument(
        "--overlays",
        choices=[str(o) for o in Overlays],
        default=str(Overlays.REJECTED),
        help="which images to draw; rejected means REJECT and UNDECIDED (default: %(default)s)",
    )
    inspect.add_argument("--overwrite", action="store_true", help="replace the verdicts and overlays in DIR")

    about = commands.add_parser("describe", help="print what a bundle is, after verifying it")
    about.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle, NAME.zellige")
    about.add_argument("--json", action="store_true", help="print the id and the whole manifest as JSON")
    return parser


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
