"""Say which known defects of a roll a station found, which it missed, and how often it was wrong.

    zellige-station roll NAME.zellige recordings/roll_9 --out first
    python scripts/compare_roll.py first defects.csv --tolerance-mm 0.5 --out compared
    python scripts/compare_roll.py first defects.csv --recording recordings/roll_9 --pixel-size-mm 0.2 --out compared

defects.csv has the columns roll, x_mm, y_mm, w_mm, h_mm, kind, as data=roll reads it. OUT gets comparison.json,
comparison.csv (a line for each known defect and each false alarm) and, with --recording, comparison.png with pictures.
"""

import argparse
import json
import sys
from pathlib import Path

from zellige.core.errors import USER_ERRORS, ConfigError, InputError
from zellige.core.known_defects import read_known_defects
from zellige.core.types import Color, PixelSize
from zellige.data.roll_comparison_sheet import comparison_sheet
from zellige.data.roll_tiles import roll_name
from zellige.data.whole_folder import check_new, whole_folder
from zellige.evaluation.roll_comparison import RollComparison, compare_roll
from zellige.evaluation.roll_comparison_text import in_words, to_json, write_table
from zellige.station.recent_lines import encode_png
from zellige.station.roll_files import read_roll
from zellige.station.sources import RollSource, open_source


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("judged", type=Path, help="folder that `zellige-station roll` wrote")
    parser.add_argument("defects", type=Path, help="CSV of the known defects, mm from column 0 and line 0")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--roll", help="its name in the CSV (default: the recording's; needed of several cameras)")
    parser.add_argument("--tolerance-mm", type=float, default=0.0, help="how far apart boxes of one defect may lie")
    parser.add_argument("--datum-mm", type=float, default=0.0, help="where the station's datum lies, from column 0")
    parser.add_argument("--recording", type=Path, help="the roll's recording, for pictures; needs --pixel-size-mm")
    parser.add_argument("--pixel-size-mm", type=float, nargs="+", metavar="MM", help="one number, or across and along")
    parser.add_argument("--color", type=Color, choices=list(Color), default=Color.GRAY, help="of the recording")
    parser.add_argument("--width-px", type=int, help="columns of a raw recording")
    args = parser.parse_args()
    try:
        check_new(args.out)
        pictures = open_pictures(args)
        comparison = compare(args)
        with whole_folder(args.out) as folder:
            (folder / "comparison.json").write_text(json.dumps(to_json(comparison), indent=2) + "\n", encoding="utf-8")
            write_table(folder / "comparison.csv", comparison)
            if pictures is not None:
                (folder / "comparison.png").write_bytes(encode_png(comparison_sheet(comparison, *pictures)))
    except (*USER_ERRORS, OSError) as error:
        is_ours = isinstance(error, USER_ERRORS)
        print(f"error: {error if is_ours else f'out {args.out}: cannot be written ({error})'}", file=sys.stderr)
        return 2
    print("\n".join([*in_words(comparison), f"written: {args.out}"]))
    return 0


def compare(args: argparse.Namespace) -> RollComparison:
    judged = read_roll(args.judged)
    summary = judged.summary
    if not summary.complete or summary.width_mm is None:
        raise InputError(f"{args.judged}: expected a roll that was judged to its end, it says: {summary.reason}")
    if not args.roll and summary.cameras:
        cameras = ", ".join(camera.name for camera in summary.cameras)
        raise ConfigError(
            f"--roll: expected the roll's name in {args.defects} for a roll of cameras ({cameras}), got none"
        )
    known = read_known_defects(args.defects)
    name = args.roll or roll_name(Path(summary.source))
    if name not in known:
        raise InputError(
            f"{args.defects}: expected defects of the roll {name}, got {', '.join(known) or 'none'}; see --roll"
        )
    return compare_roll(
        known[name],
        judged.defects,
        width_mm=summary.width_mm,
        length_mm=judged.length_mm,
        left_mm=judged.left_mm + args.datum_mm,
        undecided=judged.undecided_boxes(datum_mm=args.datum_mm),
        tolerance_mm=args.tolerance_mm,
        datum_mm=args.datum_mm,
    )


def open_pictures(args: argparse.Namespace) -> tuple[RollSource, PixelSize] | None:
    if (args.recording is None) != (args.pixel_size_mm is None):
        raise ConfigError("--recording and --pixel-size-mm: expected both or none, got one of them")
    if args.recording is None:
        return None
    if len(args.pixel_size_mm) > 2:
        raise ConfigError(f"--pixel-size-mm: expected one or two numbers, got {len(args.pixel_size_mm)}")
    size = PixelSize(cross_web_mm=args.pixel_size_mm[0], down_web_mm=args.pixel_size_mm[-1])
    return open_source(args.recording, width_px=args.width_px, color=args.color), size


if __name__ == "__main__":
    raise SystemExit(main())
