"""What was read, what was left out and why, and what is suspicious about the set: JSON for a run's folder."""

from dataclasses import asdict, dataclass, field
from typing import Any

from zellige.data.formats import Skipped
from zellige.data.shortcut import ShortcutReport


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCounts:
    """Samples of one split; `kinds` counts its defective samples by kind."""

    good: int
    defective: int
    kinds: dict[str, int]
    groups: int
    with_mask: int
    with_template: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicatesReport:
    """What the search for near-duplicates found, and what was done with it."""

    setting: str
    exact_pairs: int
    near_pairs: int
    straddling_pairs: int
    """Pairs that would lie in two splits: 0 after grouping, a leak when ignored."""
    merged_groups: int
    """Groups of more than one image after merging."""
    largest_group: int
    examples: list[tuple[str, str, float]]
    """The weakest confirmed pairs, worth a look: two ids and their correlation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedReport:
    """Good images that joined a set which was split already."""

    root: str
    extends: str
    """Fingerprint of the set before."""
    num_listed: int
    train: int
    val: int

    @property
    def left_out(self) -> int:
        """Images that joined neither; `DataReport.skipped` says why."""
        return self.num_listed - self.train - self.val


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """The report of a data set.

    `num_listed` counts the samples of the layout: those in the splits, and the unusable and dropped ones in `skipped`.
    """

    root: str
    layout: str
    color: str
    is_calibrated: bool
    """Whether every sample has a pixel size; otherwise sizes are in px."""
    seed: int
    fingerprint: str
    num_listed: int
    splits: dict[str, SplitCounts]
    height_px: tuple[int, int]
    """Smallest and largest height of the images used."""
    width_px: tuple[int, int]
    skipped: list[Skipped]
    ignored: dict[str, int]
    """Files that are no images, by reason."""
    empty_masks: list[str]
    """Defective images whose mask is empty: kept, their label counts, their pixels do not."""
    warnings: list[str]
    duplicates: DuplicatesReport
    shortcut: ShortcutReport
    additions: list[AddedReport] = field(default_factory=list)
    """Images that were added after the set was split, in order; they are in the counts above too."""
    target_dn: float | None = None
    """Target level of the flat field that the images were corrected with; None: nobody said."""

    def to_json(self) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and numbers."""
        return asdict(self)
