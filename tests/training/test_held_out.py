import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from tests.training.conftest import GEOMETRY, Fitted
from zellige.core.errors import InputError
from zellige.data.dataset import TileDataset
from zellige.data.synthetic_anomalies import KINDS
from zellige.models.detector import DetectorOutput
from zellige.training.held_out import behind, hold_out, score_held_out


class Spread(nn.Module):
    """Score: standard deviation of the gray levels; map: distance of each pixel from the mean. Remembers its scores."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.scores: list[float] = []

    def forward(self, images: Tensor) -> DetectorOutput:
        away = self.weight * (images.float() - images.float().mean(dim=(1, 2, 3), keepdim=True)).abs()
        score = away.square().mean(dim=(1, 2, 3)).sqrt()
        self.scores += score.tolist()
        return DetectorOutput(anomaly_map=away.mean(1, keepdim=True), score=score)


@pytest.fixture(scope="module")
def held_out(fitted: Fitted) -> TileDataset:
    return hold_out(fitted.dataset("train"), seed=3)[1]


def test_the_parts_are_disjoint_and_complete(fitted: Fitted) -> None:
    train = fitted.dataset("train")
    fit, judged = hold_out(train, seed=3)
    ids = [[sample.id for sample in part.samples] for part in (fit, judged)]
    assert sorted(ids[0] + ids[1]) == sorted(sample.id for sample in train.samples)
    assert not {s.group_id for s in fit.samples} & {s.group_id for s in judged.samples}
    assert len(judged) == pytest.approx(len(train) / 4, abs=1)
    with pytest.raises(InputError, match="expected at least 8 good training images, got 7"):
        hold_out(TileDataset(train.samples[:7], geometry=GEOMETRY, color=train.color), seed=0)


def test_the_image_criterion_is_the_auroc(fitted: Fitted, held_out: TileDataset) -> None:
    detector = Spread(1.0)
    score = score_held_out(detector, held_out, fabric=fitted.fabric, seed=0)
    labels = [0] * score.num_good_tiles + [1] * (16 * len(KINDS))
    assert len(detector.scores) == len(labels)
    assert score.image_auroc == pytest.approx(roc_auc_score(labels, detector.scores))
    assert score.criterion == pytest.approx((score.image_auroc + score.aupro) / 2)
    assert score.criterion == pytest.approx(np.mean(list(score.by_kind.values())))
    assert set(score.by_kind) == set(KINDS)
    again = score_held_out(Spread(1.0), held_out, fabric=fitted.fabric, seed=0)
    assert again.values == score.values


def test_a_blind_detector_is_behind_one_that_sees(fitted: Fitted, held_out: TileDataset) -> None:
    blind, seeing, learned = (
        score_held_out(detector, held_out, fabric=fitted.fabric, seed=0)
        for detector in (Spread(0.0), Spread(1.0), fitted.detector)
    )
    assert (blind.image_auroc, blind.aupro) == (0.5, 0.0)
    assert learned.criterion > seeing.criterion > blind.criterion
    gap, error = behind(learned, blind)
    assert gap == pytest.approx(learned.criterion - blind.criterion)
    assert 0 < error < gap
    assert behind(learned, learned) == (0.0, 0.0)


def test_scores_of_other_anomalies_are_not_compared(fitted: Fitted, held_out: TileDataset) -> None:
    fewer = TileDataset(held_out.samples[:1], geometry=held_out.geometry, color=held_out.color)
    first, second = (score_held_out(Spread(1.0), part, fabric=fitted.fabric, seed=0) for part in (held_out, fewer))
    with pytest.raises(InputError, match="of the same anomalies"):
        behind(first, second)


def test_the_seed_decides_the_anomalies(fitted: Fitted, held_out: TileDataset) -> None:
    first, second = (score_held_out(Spread(1.0), held_out, fabric=fitted.fabric, seed=seed) for seed in (0, 1))
    assert first.values != second.values
