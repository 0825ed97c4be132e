"""What became of one image in words of kinds: what it is and is said to be, and which found defect is which true."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zellige.core.types import GOOD, Decision
from zellige.evaluation.found import FoundDefect, TrueDefect
from zellige.evaluation.kind_metrics import FALSE_ALARM, MISSED
from zellige.evaluation.matching import DEEPPCB_IOU, box_ious, match


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedImage:
    """One judged image at the operating point; `index` is its place among the predictions."""

    index: int
    score: float
    decision: Decision
    true_kind: str
    """ "good", the kind, or "mixed"."""
    named_kind: str
    """The kind that the detector gives, whatever the decision."""
    true: tuple[TrueDefect, ...] | None
    """None where nobody said where the defects are, or which."""
    listed: tuple[FoundDefect, ...]
    """What the station lists, the best first."""

    @property
    def said_kind(self) -> str:
        """What is said of the whole image: "good" where it is accepted, else the kind."""
        return GOOD if self.decision is Decision.ACCEPT else self.named_kind

    def match(self) -> NDArray[np.intp]:
        """Give of each listed defect the place of the true one that it stands for, -1 for none.

        Their IoU is larger than 0.33; the kinds may differ.
        """
        return match(box_ious([row.box for row in self.listed], [row.box for row in self.true or ()]), DEEPPCB_IOU)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Give (true, said) kinds of its defects: of those that match, of false alarms, and of missed ones."""
        true, taken = self.true or (), self.match().tolist()
        for row, place in zip(self.listed, taken, strict=True):
            yield (true[place].kind if place >= 0 else FALSE_ALARM), row.kind
        for place, marked in enumerate(true):
            if place not in taken:
                yield marked.kind, MISSED
