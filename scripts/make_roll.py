"""Write a recorded roll of the synthetic web: numbered frames without gaps, and a CSV of the defects drawn in it.

    python scripts/make_roll.py OUT [--material zellige] [--frames 24] [--defects 8]

OUT/l_LINE.png are what `zellige-station roll BUNDLE OUT` reads; OUT.csv says which defect lies where, in mm. It is a
roll that `make demo` has not learned from.
"""

import argparse
import sys
from pathlib import Path

from zellige.core.errors import USER_ERRORS
from zellige.data.synthetic import SyntheticWeb
from zellige.data.synthetic_materials import Material
from zellige.data.synthetic_roll import write_roll


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--material", type=Material, choices=list(Material), default=Material.ZELLIGE)
    parser.add_argument("--frames", type=int, default=24, help="of 384 lines each (default: 24, which is 1.8 m)")
    parser.add_argument("--defects", type=int, default=8)
    parser.add_argument(
        "--background", type=int, default=0, help="dark columns beside the web, whose edges wander then"
    )
    args = parser.parse_args()
    web = SyntheticWeb(material=args.material, num_rolls=32)
    try:
        drawn = write_roll(
            args.out, web, num_frames=args.frames, num_defects=args.defects, background_px=args.background
        )
    except USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    length_m = args.frames * web.height * web.pixel_size.down_web_mm / 1000
    print(f"{args.out}: {length_m:g} m with {len(drawn)} defects, listed in {args.out.with_suffix('.csv')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
