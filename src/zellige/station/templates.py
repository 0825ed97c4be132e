"""Which template each image is compared with: one for all, one by name, or as a table says.

In a folder the template of NAME.png is the file NAME with any suffix of an image, and that of NAME_test.png is
NAME_temp, or NAME_test where there is none. Where several files of a folder's tree have that name, the one beside the
image counts. An image is never its own template, and NAME_temp has none where it is the template of NAME_test.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zellige.core.bundle import ModelBundle
from zellige.core.errors import InputError
from zellige.core.image_files import IMAGE_SUFFIXES, read_template
from zellige.core.types import Color, Pixels

COLUMNS = ("image", "template")
_TESTED, _TEMPLATE = "_test", "_temp"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Templates:
    """The templates of some images: `common` is everybody's, otherwise `paths` says whose is whose."""

    color: Color
    common: Pixels | None = None
    common_path: Path | None = None
    """Where `common` was read from; None where the bundle carries it."""
    paths: Mapping[Path, Path] = field(default_factory=dict)
    reasons: Mapping[Path, str] = field(default_factory=dict)
    """Why an image has none."""

    def of(self, image: Path, pixels: Pixels) -> Pixels:
        """Read the template of an image, in its color mode; `pixels` are the image's.

        Raises:
            InputError: it has none, or one that is unreadable or of another size or color.
        """
        if self.common is not None:
            return self.common
        if image not in self.paths:
            raise InputError(f"image {image}: expected a template, got none: {self.reasons[image]}")
        return read_template(self.paths[image], pixels, color=self.color)

    def without_templates(self, images: Sequence[Path]) -> list[Path]:
        """Leave out the images that only are templates; one that has a template itself is always inspected.

        Raises:
            InputError: nothing is left.
        """
        serving = {path.resolve() for path in self.paths.values()}
        if self.common_path is not None:
            serving.add(self.common_path.resolve())
        inspected = [image for image in images if image in self.paths or image.resolve() not in serving]
        if not inspected:
            raise InputError(f"image {images[0]}: expected an image besides the templates, got none")
        return inspected


def find_templates(bundle: ModelBundle, given: Path | None, images: Sequence[Path]) -> Templates | None:
    """Find the template of each image; None for a bundle that looks at images alone.

    Args:
        bundle: says whether it compares, and may carry a template, which is used where none is given.
        given: an image, a folder of images, or a CSV file with the columns image and template.
        images: what is inspected.

    Raises:
        InputError: no template for a bundle that compares, one for a bundle that does not, `given` is not usable, or no
            image has a template in it.
    """
    color = bundle.manifest.color
    if not bundle.manifest.is_pair:
        if given is not None:
            raise InputError(f"--template {given}: expected none, this bundle looks at images alone")
        return None
    if given is None:
        template = bundle.template()
        if template is None:
            raise InputError(
                f"bundle {bundle.id[:12]}: compares each image with a template and carries none; "
                "expected --template FILE, FOLDER or CSV"
            )
        return Templates(color=color, common=template)
    if given.is_dir():
        found = _by_name(given, images, color)
    elif given.suffix.lower() == ".csv":
        found = _by_table(given, images, color)
    else:
        return Templates(color=color, common=read_template(given, color=color), common_path=given)
    if not found.paths:
        raise InputError(f"--template {given}: no image has one there, first {found.reasons[images[0]]}")
    return found


def _by_name(folder: Path, images: Sequence[Path], color: Color) -> Templates:
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            by_stem.setdefault(path.stem, []).append(path)
    paths: dict[Path, Path] = {}
    reasons: dict[Path, str] = {}
    for image in images:
        stems = [image.stem]
        if image.stem.endswith(_TESTED):
            stems.insert(0, image.stem.removesuffix(_TESTED) + _TEMPLATE)
        own = image.resolve()
        candidates = [[path for path in by_stem.get(stem, []) if path.resolve() != own] for stem in stems]
        found = next((some for some in candidates if some), [])
        beside = [path for path in found if path.resolve().parent == own.parent]
        chosen = beside if len(beside) == 1 else found
        if len(chosen) == 1:
            paths[image] = chosen[0]
        else:
            reasons[image] = f"{len(chosen) or 'no'} files {' or '.join(f'{stem}.*' for stem in stems)} in {folder}"
    # Where a/1_temp is the template of a/1_test, it is no piece that b/1_temp would be the template of.
    named = {path.resolve() for image, path in paths.items() if path.stem != image.stem}
    paths = {image: path for image, path in paths.items() if image.resolve() not in named}
    return Templates(color=color, paths=paths, reasons=reasons)


def _by_table(table: Path, images: Sequence[Path], color: Color) -> Templates:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"--template {table}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"--template {table}: expected UTF-8 text") from None
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    if sorted(reader.fieldnames or []) != sorted(COLUMNS):
        got = ", ".join(reader.fieldnames or []) or "none"
        raise InputError(f"--template {table}: expected the columns {' and '.join(COLUMNS)}, got {got}")
    named: dict[Path, Path] = {}
    for cells in reader:
        image, template = cells["image"], cells["template"]
        if not image or not template or None in cells:
            raise InputError(f"--template {table} line {reader.line_num}: expected an image and its template")
        key = (table.parent / image.strip()).resolve()
        if key in named:
            raise InputError(f"--template {table} line {reader.line_num}: {image} is there twice")
        named[key] = table.parent / template.strip()
        if named[key].resolve() == key:
            raise InputError(f"--template {table} line {reader.line_num}: {image} is its own template")
    found = {image: named[image.resolve()] for image in images if image.resolve() in named}
    return Templates(
        color=color, paths=found, reasons={image: f"not in {table}" for image in images if image not in found}
    )
