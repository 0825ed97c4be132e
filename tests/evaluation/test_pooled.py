"""The numbers of all folds together, against scikit-learn and counts by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, roc_auc_score

from zellige.core.errors import InputError
from zellige.core.types import Decision
from zellige.evaluation.folds_html import NAMES, pooled_lines, write_folds_html
from zellige.evaluation.intervals import rate
from zellige.evaluation.pooled import JudgedFold, mean_and_range, pool
from zellige.evaluation.predictions_csv import JudgedSample
from zellige.evaluation.report import SampleResult

KINDS = ("cut", "dent", "good")


def judged_folds(seed: int = 0, sizes: tuple[int, ...] = (40, 55, 23)) -> list[JudgedFold]:
    """Scores of each fold on a scale of its own; threshold of the fold is its scale."""
    rng, folds = np.random.default_rng(seed), []
    for number, size in enumerate(sizes):
        scale = 10.0**number
        samples = []
        for index in range(size):
            kind, named = KINDS[rng.integers(3)], KINDS[rng.integers(2)]
            score = scale * (1 + 0.5 * (kind != "good") * rng.random() + rng.normal(0, 0.2))
            decision = Decision.REJECT if score > scale else Decision.ACCEPT
            result = SampleResult(
                id=f"{number}-{index}",
                kind=kind,
                group_id=f"{number}-{index // 2}",
                score=score,
                decision=decision,
                reason="",
                size_class="",
            )
            named = kind if kind != "good" and rng.random() < 0.7 else named
            samples.append(JudgedSample(result=result, true_kind=kind, named_kind=named))
        folds.append(JudgedFold(samples=tuple(samples), two_class_threshold=scale))
    return folds


def test_decisions_and_names_are_pooled_and_scores_compared_within_a_fold() -> None:
    folds = judged_folds()
    report = pool(folds, times=50)
    rows = [sample for fold in folds for sample in fold.samples]
    true = [row.true_kind for row in rows]
    said = ["good" if row.result.decision is Decision.ACCEPT else row.named_kind for row in rows]
    assert report.whole is not None
    assert report.whole.accuracy.value == pytest.approx(accuracy_score(true, said))
    assert report.whole.macro_f1.value == pytest.approx(f1_score(true, said, average="macro"))
    order = ["good", "cut", "dent"]
    assert report.whole.confusion.counts.tolist() == confusion_matrix(true, said, labels=order).tolist()
    escapes = sum(t != "good" and s == "good" for t, s in zip(true, said, strict=True))
    assert report.defective.error_rate == rate(escapes, sum(t != "good" for t in true))
    # A threshold at the fold's scale decides both.
    right = sum((t != "good") == (s != "good") for t, s in zip(true, said, strict=True))
    assert report.good_or_defective == rate(right, len(rows))
    aurocs, pairs = [], []
    for fold in folds:
        labels = [row.kind != "good" for row in fold.results]
        aurocs.append(roc_auc_score(labels, [row.score for row in fold.results]))
        pairs.append(sum(labels) * (len(labels) - sum(labels)))
    assert report.auroc_within_folds == pytest.approx(np.average(aurocs, weights=pairs))
    low, high = report.auroc_interval
    assert low < report.auroc_within_folds < high


def test_an_image_of_two_folds_is_refused() -> None:
    fold = judged_folds()[0]
    with pytest.raises(InputError, match="expected each image in one fold"):
        pool([fold, fold])


def test_a_detector_that_names_nothing_and_folds_without_a_class() -> None:
    plain = [
        JudgedFold(samples=tuple(JudgedSample(result=s.result, true_kind="", named_kind="") for s in fold.samples))
        for fold in judged_folds()
    ]
    report = pool(plain)
    assert report.whole is None
    assert report.good_or_defective.n == 0
    only_bad = [JudgedFold(samples=tuple(s for s in fold.samples if s.result.kind != "good")) for fold in plain]
    content = json.loads(json.dumps(pool(only_bad).to_json(), allow_nan=False))
    assert content["image_auroc_within_folds"] is None
    assert content["false_reject_rate"]["n"] == 0


@pytest.mark.parametrize("has_names", [True, False])
def test_the_page_and_the_lines(tmp_path: Path, has_names: bool) -> None:
    folds = judged_folds()
    if not has_names:
        folds = [
            JudgedFold(samples=tuple(JudgedSample(result=s.result, true_kind="", named_kind="") for s in fold.samples))
            for fold in folds
        ]
    pooled = pool(folds, times=20).to_json()
    names = dict.fromkeys(NAMES) | {"image_auroc": 0.75, "escape_rate": 0.125}
    records = [{"fold": n + 1, "run": f"<n>-fold{n + 1}", "num_images": 9, **names} for n in range(3)]
    content = {
        "name": "a <b>",
        "pooled": pooled,
        "folds": records,
        "mean": {key: mean_and_range([record[key] for record in records]) for key in NAMES},
        "facts": {"Data": "x"},
        "next": {"words": "take another", "command": "python <x>"},
    }
    write_folds_html(content, tmp_path, tmp_path / "folds.html")
    page = (tmp_path / "folds.html").read_text(encoding="utf-8")
    for words in ("a &lt;b&gt;", "118 images", "&lt;n&gt;-fold2", "0.7500", "take another", "python &lt;x&gt;"):
        assert words in page
    assert ("Macro-averaged F1" in page) is has_names
    lines = "\n".join(pooled_lines(pooled))
    assert "118 images from 60 groups" in lines
    assert ("kinds named right" in lines) is has_names
