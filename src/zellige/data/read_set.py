"""Read every image of a data set once: what is known of it before it is dealt to splits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zellige.core.errors import ConfigError, InputError
from zellige.core.image_files import in_color
from zellige.core.types import Color, Pixels, PixelSize, Sample
from zellige.data.duplicates import Pair, find_pairs, merge_groups
from zellige.data.folds import Fold
from zellige.data.formats import LAYOUTS, Listing, Skipped
from zellige.data.scan import Scanned, Unusable, scan
from zellige.data.shortcut import ShortcutReport, check_shortcut
from zellige.data.splits import Fractions

AS_STORED = "as_stored"
COLORS = (AS_STORED, *(color.value for color in Color))
DUPLICATES = ("group", "error", "ignore")
ON_BAD = ("error", "skip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a set is read and split; see `zellige.data.index.load_splits`."""

    fractions: Fractions
    seed: int
    pixel_size: PixelSize | None
    duplicates: str
    on_bad: str
    needs_good: bool = True
    """Whether a set without good images is refused; detectors that learn from labels can do without."""
    fold: Fold | None = None
    """Deal by this fold of a cross-validation, not by the fractions."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadSet:
    """A data set of which every image was read, in the order of the ids."""

    root: Path
    layout: str
    listing: Listing
    items: tuple[Scanned, ...]
    unusable: tuple[Skipped, ...]
    color: Color
    pairs: tuple[Pair, ...]
    """Near-duplicates."""
    shortcut: ShortcutReport

    @property
    def own_groups(self) -> list[str]:
        """The group of each item as the layout says it."""
        return [item.row.sample.group_id for item in self.items]


def read_set(root: Path, layout: str, rules: Rules, *, color: str) -> ReadSet:
    """Read a data set; `rules.fractions` and `rules.fold` do not matter yet.

    Raises:
        InputError: no images, no good images, unusable images, mixed color, contradicting labels.
        ConfigError: an unknown setting.
    """
    _check_settings(layout=layout, color=color, duplicates=rules.duplicates, on_bad=rules.on_bad)
    listing = LAYOUTS[layout](root, rules.pixel_size)
    if rules.needs_good and not any(not row.sample.is_defective for row in listing.rows):
        kinds = ", ".join(sorted({row.sample.kind for row in listing.rows})[:5])
        raise InputError(f"data {root}: expected good images, got none among {len(listing.rows)} images of {kinds}")
    items, unusable = read_all(listing, partial(_check_color, color), rules.on_bad, needs_good=rules.needs_good)
    mode = _resolve_color(items, color, root)
    _refuse_contradictions(items)
    pairs = find_pairs([item.thumbnail for item in items], [item.content for item in items])
    shortcut = check_shortcut(
        [item.metadata for item in items],
        [item.row.sample.is_defective for item in items],
        merge_groups([item.row.sample.group_id for item in items], pairs),
        seed=rules.seed,
    )
    return ReadSet(
        root=root,
        layout=layout,
        listing=listing,
        items=tuple(items),
        unusable=tuple(unusable),
        color=mode,
        pairs=tuple(pairs),
        shortcut=shortcut,
    )


def _check_settings(**settings: str) -> None:
    known = {"layout": tuple(LAYOUTS), "color": COLORS, "duplicates": DUPLICATES, "on_bad": ON_BAD}
    for name, value in settings.items():
        if value not in known[name]:
            raise ConfigError(f"data {name}: expected one of {', '.join(known[name])}, got {value!r}")


def read_all(
    listing: Listing, check: Callable[[Pixels, str], object], on_bad: str, *, needs_good: bool = True
) -> tuple[list[Scanned], list[Skipped]]:
    """Read every image of a listing, in the order of the ids, and list those that cannot be used.

    Raises:
        InputError: an unusable image where `on_bad` is error, or no usable one, a good one where `needs_good`.
    """
    rows = sorted(listing.rows, key=lambda row: row.sample.id)
    results = scan(rows, listing.good_masks, check)
    bad = [result for result in results if isinstance(result, Unusable)]
    if bad and on_bad == "error":
        raise InputError(
            f"{len(bad)} of {len(rows)} images cannot be used (on_bad=skip leaves them out), first: {bad[0].reason}"
        )
    usable = [result for result in results if isinstance(result, Scanned)]
    if not any(not needs_good or not item.row.sample.is_defective for item in usable):
        wanted = "readable good images" if needs_good else "readable images"
        raise InputError(f"expected {wanted}, got none; first: {bad[0].reason}")
    return usable, [Skipped(path=item.row.sample.id, reason=item.reason) for item in bad]


def _check_color(color: str, pixels: Pixels, where: str) -> None:
    if color != AS_STORED:
        in_color(pixels, Color(color), where)


def _resolve_color(scanned: Sequence[Scanned], color: str, root: Path) -> Color:
    if color != AS_STORED:
        return Color(color)
    num_gray = sum(item.is_gray for item in scanned)
    if num_gray not in (0, len(scanned)):
        odd = next(item for item in scanned if item.is_gray == (2 * num_gray < len(scanned)))
        raise InputError(
            f"data {root}: expected all gray or all color, got {num_gray} gray and {len(scanned) - num_gray} color "
            f"(such as {odd.row.sample.id}); color=luma turns all into luminance"
        )
    other = next((item for item in scanned if item.is_template_gray not in (None, bool(num_gray))), None)
    if other is not None:
        words = ("gray", "color") if num_gray else ("color", "gray")
        raise InputError(
            f"template {other.row.sample.template_path}: expected {words[0]} as the images, got {words[1]}; "
            "color=luma turns all into luminance"
        )
    return Color.GRAY if num_gray else Color.RGB


def _refuse_contradictions(scanned: Sequence[Scanned]) -> None:
    first: dict[str, Sample] = {}
    for item in scanned:
        other = first.setdefault(item.content, item.row.sample)
        if other.is_defective != item.row.sample.is_defective:
            raise InputError(
                f"{other.id} ({other.kind}) and {item.row.sample.id} ({item.row.sample.kind}) are the same file: "
                "labels contradict"
            )
