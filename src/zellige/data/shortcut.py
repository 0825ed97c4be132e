"""Can the label be told from metadata alone? Then a good score may come from how the pictures were made.

A small gradient boosting on the size of the image, its mean and spread, and the size of its file is cross-validated
against good/defective. It sees no pixel's place, so whatever it predicts is a shortcut that a model may learn as well
(a crop's size, an exposure, an encoder's setting) and that will not be there on the line. A large defect changes mean,
spread and file size by itself, so the warning names the strongest feature; the image's size has no such excuse.

On the magnetic-tile set height and width alone reach AUROC 0.73 to 0.75 over random folds, and 0.65 where the six shots
of a tile stay in one fold: part of the first figure is the tile recognized by its size. A logistic regression (tried
first) sees neither, 0.57 and 0.55: the crops' sizes tell the label in no monotone way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from zellige.core.errors import InputError

FEATURES = ("height", "width", "aspect", "mean", "spread", "file_bytes", "bytes_per_pixel")
MIN_GROUPS = 10
"""Groups of good and of defective images below which the check says nothing."""
MARGIN = 0.05
"""The warning is given where the lower bound of the AUROC's 95 % interval is above 0.5 by more than this."""

_NUM_FOLDS = 5
_NUM_RESAMPLES = 500
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What is known of an image without looking at where anything is. Mean and spread in gray levels (0 to 255)."""

    height: int
    width: int
    mean: float
    spread: float
    file_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortcutReport:
    """AUROC of the metadata classifier, with its interval; every number is None where there are too few groups.

    `by_feature` holds the AUROC of the same classifier on one feature alone, "size" on height and width together.
    `warning` is empty where all is well.
    """

    auroc: float | None
    low: float | None
    high: float | None
    by_feature: dict[str, float]
    warning: str
    note: str


def check_shortcut(
    metadata: Sequence[Metadata], is_defective: Sequence[bool], groups: Sequence[str], *, seed: int
) -> ShortcutReport:
    """Cross-validate a classifier on metadata alone against the labels.

    Folds are stratified and keep groups whole; the interval is a bootstrap over groups (500 resamples, 95 %), since
    the images of a group are not independent.

    Raises:
        InputError: the three sequences differ in length.
    """
    if not len(metadata) == len(is_defective) == len(groups):
        raise InputError(
            f"shortcut check: expected equal lengths, got {len(metadata)}, {len(is_defective)}, {len(groups)}"
        )
    labels, names = np.asarray(is_defective, bool), np.asarray(groups, object)
    num_good, num_defective = len(set(names[~labels])), len(set(names[labels]))
    if min(num_good, num_defective) < MIN_GROUPS:
        note = f"too few to tell: {num_good} groups with good and {num_defective} with defective images"
        note += f", expected {MIN_GROUPS} of each"
        return ShortcutReport(auroc=None, low=None, high=None, by_feature={}, warning="", note=note)
    table = _table(metadata)
    scores = _held_out_scores(table, labels, names, seed)
    auroc = float(roc_auc_score(labels, scores))
    low, high = _interval(scores, labels, names, seed)
    subsets = {name: [i] for i, name in enumerate(FEATURES)} | {"size": [0, 1]}
    by_feature = {
        name: float(roc_auc_score(labels, _held_out_scores(table[:, columns], labels, names, seed)))
        for name, columns in subsets.items()
    }
    return ShortcutReport(
        auroc=auroc,
        low=low,
        high=high,
        by_feature=by_feature,
        warning=_warning(auroc, low, high, by_feature) if low > 0.5 + MARGIN else "",
        note=f"gradient boosting, {_NUM_FOLDS} folds by group, {len(labels)} images",
    )


def _table(metadata: Sequence[Metadata]) -> NDArray[np.float64]:
    """(N, 7) in the order of FEATURES."""
    rows = [
        (m.height, m.width, m.width / m.height, m.mean, m.spread, m.file_bytes, m.file_bytes / (m.height * m.width))
        for m in metadata
    ]
    return np.array(rows, np.float64)


def _held_out_scores(
    table: NDArray[np.float64], labels: NDArray[np.bool_], groups: NDArray[np.object_], seed: int
) -> NDArray[np.float64]:
    """Log-odds of each image from the model that did not see its group."""
    scores = np.zeros(len(labels))
    folds = StratifiedGroupKFold(n_splits=_NUM_FOLDS, shuffle=True, random_state=seed)
    with threadpool_limits(1):  # on so small a table threads cost ten times what they save
        for seen, held_out in folds.split(table, labels, groups):
            leaf = max(2, min(20, len(seen) // 20))
            model = HistGradientBoostingClassifier(max_iter=60, max_depth=3, min_samples_leaf=leaf, random_state=seed)
            model.fit(table[seen], labels[seen])
            scores[held_out] = model.decision_function(table[held_out])
    return scores


def _interval(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], groups: NDArray[np.object_], seed: int
) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    _, number = np.unique(groups.astype(str), return_inverse=True)
    members = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    values = []
    for _ in range(_NUM_RESAMPLES):
        drawn = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        if labels[drawn].any() and not labels[drawn].all():
            values.append(roc_auc_score(labels[drawn], scores[drawn]))
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _warning(auroc: float, low: float, high: float, by_feature: dict[str, float]) -> str:
    strongest = max(by_feature, key=lambda name: by_feature[name])
    return (
        f"metadata alone predicts the label: AUROC {auroc:.2f} [{low:.2f}, {high:.2f}], "
        f"strongest {strongest} ({by_feature[strongest]:.2f}); a model's score may rest on it"
    )
