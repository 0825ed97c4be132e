"""Estimate a station's flat field from dark and bright images of its camera, check it, and write it with its id.

The images hold lines as the camera gives them, each as wide as the sensor; their lines are averaged. Exit code 2 and
one line where a reference cannot be used.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from zellige.core.errors import USER_ERRORS, InputError
from zellige.core.flat_field import Reference
from zellige.core.flat_field_estimate import estimate_flat_field
from zellige.core.flat_field_file import write_flat_field
from zellige.core.image_files import read_pixels
from zellige.core.types import Pixels


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dark", type=Path, nargs="+", required=True, help="images with the lens covered")
    parser.add_argument("--bright", type=Path, nargs="+", required=True, help="images of the target, moving")
    parser.add_argument("--reference", choices=[str(r) for r in Reference], default="white", help="what bright shows")
    parser.add_argument("--target-dn", type=float, required=True, help="level that bright is brought to")
    parser.add_argument("--out", type=Path, required=True, help="the file, NAME.flat.json by custom")
    args = parser.parse_args()
    try:
        dark, bright = read_lines(args.dark), read_lines(args.bright)
        flat_field = estimate_flat_field(dark, bright, target_dn=args.target_dn, reference=Reference(args.reference))
        write_flat_field(args.out, flat_field)
    except USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    bad = ", ".join(map(str, flat_field.bad_columns)) or "none"
    print(f"flat field {flat_field.id}")
    print(f"{flat_field.width_px} columns, reference {flat_field.reference}, target {flat_field.target_dn:g} DN")
    print(f"gain {flat_field.gain.min():.3f} to {flat_field.gain.max():.3f}, dead or hot columns: {bad}")
    return 0


def read_lines(paths: list[Path]) -> Pixels:
    """Join the lines of images; frames of which `camera grab` did not get all packets are left out."""
    whole = [path for path in paths if not path.stem.endswith("_incomplete")]
    if not whole:
        raise InputError(f"image {paths[0]}: expected a complete frame, got {len(paths)} incomplete alone")
    if len(whole) < len(paths):
        print(f"left out: {len(paths) - len(whole)} incomplete frames", file=sys.stderr)
    blocks = [read_pixels(path) for path in whole]
    for path, block in zip(whole, blocks, strict=True):
        if block.shape[1:] != blocks[0].shape[1:]:
            raise InputError(f"image {path}: expected lines of shape {blocks[0].shape[1:]}, got {block.shape[1:]}")
    return np.concatenate(blocks)


if __name__ == "__main__":
    raise SystemExit(main())
