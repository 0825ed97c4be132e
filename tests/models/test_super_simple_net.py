import math

import numpy as np
import pytest
import torch

from tests.conftest import texture
from zellige.core.errors import ConfigError
from zellige.models.detector import Features, Targets
from zellige.models.super_simple_net import SuperSimpleNet, focal, map_loss, masks_on_grid, score_loss


@pytest.fixture(scope="module")
def net() -> SuperSimpleNet:
    torch.set_num_threads(1)
    return SuperSimpleNet(hidden=16, score_channels=4)


@pytest.fixture(scope="module")
def features(net: SuperSimpleNet) -> Features:
    images = torch.from_numpy(np.stack([texture(seed, size=(64, 96))[None] for seed in range(6)]))
    with torch.no_grad():
        return net.embed(images)


def slow_focal(logit: float, is_defective: bool) -> float:
    p = 1 / (1 + math.exp(-logit))
    p_true = p if is_defective else 1 - p
    return -((1 - p_true) ** 4) * math.log(p_true)


def slow_map_loss(logits: np.ndarray, masks: np.ndarray, has_mask: np.ndarray) -> float:
    """Patch by patch, as the paper's formulas say."""
    good, bad, focals = [], [], []
    for tile, mask, known in zip(logits, masks, has_mask, strict=True):
        for logit, is_defective in zip(tile.ravel(), mask.ravel(), strict=True):
            if known:
                (bad if is_defective else good).append(max(0.0, 0.5 - logit if is_defective else 0.5 + logit))
                focals.append(slow_focal(logit, is_defective))
    return sum(sum(part) / len(part) for part in (good, bad, focals) if part)


@pytest.mark.parametrize("has_mask", [[True, True, True], [True, False, True], [False, False, False]])
def test_the_loss_of_the_map_is_that_of_the_slow_one(has_mask: list[bool]) -> None:
    random = np.random.default_rng(0)
    logits, masks = random.normal(0, 2, (3, 1, 4, 5)).astype(np.float32), random.random((3, 1, 4, 5)) < 0.3
    found = map_loss(torch.from_numpy(logits), torch.from_numpy(masks), torch.tensor(has_mask))
    assert float(found) == pytest.approx(slow_map_loss(logits, masks, np.array(has_mask)), rel=1e-5)


def test_the_loss_of_the_score_counts_the_judged_alone() -> None:
    scores = torch.tensor([-1.0, 2.0, 0.5])
    labels, judged = torch.tensor([False, True, True]), torch.tensor([True, False, True])
    expected = (slow_focal(-1.0, False) + slow_focal(0.5, True)) / 2
    assert float(score_loss(scores, labels, judged)) == pytest.approx(expected, rel=1e-5)


def test_focal_is_finite_far_out() -> None:
    far = torch.tensor([-1e4, 1e4, -1e4, 1e4])
    found = focal(far, torch.tensor([True, True, False, False]))
    assert found.tolist() == pytest.approx([1e4, 0, 0, 1e4])


def test_a_patch_is_defective_where_any_of_its_pixels_is() -> None:
    masks = torch.zeros(1, 1, 64, 96, dtype=torch.bool)
    masks[0, 0, 7, 8] = masks[0, 0, 63, 95] = True
    assert masks_on_grid(masks, 8, 12).nonzero()[:, 2:].tolist() == [[0, 1], [7, 11]]


def targets(is_defective: list[bool], has_mask: list[bool], box: tuple[int, int] | None = None) -> Targets:
    masks = torch.zeros(len(is_defective), 1, 64, 96, dtype=torch.bool)
    for mask, bad, known in zip(masks, is_defective, has_mask, strict=True):
        if bad and known and box is not None:
            mask[:, : box[0], : box[1]] = True
    return Targets(masks=masks, is_defective=torch.tensor(is_defective), has_mask=torch.tensor(has_mask))


def gradients(net: SuperSimpleNet, features: Features, known: Targets) -> dict[str, float]:
    net.zero_grad()
    net.objective()(features, known, 0).backward()
    return {n: float(p.grad.abs().sum()) for n, p in net.named_parameters() if p.requires_grad and p.grad is not None}


def test_good_tiles_teach_the_map_and_the_score(net: SuperSimpleNet, features: Features) -> None:
    found = gradients(net, features, targets([False] * 6, [True] * 6))
    assert min(found[name] for name in ("adaptor.weight", "map_head.0.weight", "score_head.join.weight")) > 0


def test_a_label_alone_teaches_the_score_alone(net: SuperSimpleNet, features: Features) -> None:
    found = gradients(net, features, targets([True] * 6, [False] * 6))
    assert found["score_head.join.weight"] > 0
    assert found["score_head.context.weight"] > 0
    assert {found[name] for name in found if not name.startswith("score_head")} == {0.0}


def test_a_label_alone_counts_once_and_as_defective(net: SuperSimpleNet, features: Features) -> None:
    """Its loss is the focal loss of its clean copy: no synthetic anomaly, no map."""
    with torch.no_grad():
        found = net.objective()(features, targets([True] * 6, [False] * 6), 0)
        scores = net.judge(net.adapt(features))[1]
    assert float(found) == pytest.approx(np.mean([slow_focal(s, True) for s in scores.tolist()]), rel=1e-4)


def test_a_real_defect_is_left_without_noise(net: SuperSimpleNet, features: Features) -> None:
    """Where the mask covers the whole tile there is no room for noise: both copies are the same, and so is any seed."""
    known = targets([True] * 6, [True] * 6, box=(64, 96))
    with torch.no_grad():
        losses = {float(net.objective()(features, known, seed)) for seed in range(4)}
        others = {float(net.objective()(features, targets([False] * 6, [True] * 6), seed)) for seed in range(4)}
        logits, scores = net.judge(net.adapt(features))
    expected = slow_map_loss(logits.numpy(), np.ones(logits.shape, bool), np.ones(6, bool))
    expected += np.mean([slow_focal(s, True) for s in scores.tolist()])
    assert list(losses) == pytest.approx([expected], rel=1e-4)
    assert len(others) == 4


def test_centers_and_spreads_are_those_of_all_patches(features: Features) -> None:
    net = SuperSimpleNet(hidden=4, score_channels=2)
    net.measure(tuple(stage[i : i + 2] for stage in features) for i in (0, 2, 4))
    joined = np.concatenate(
        [
            stage.permute(0, 3, 1, 2)
            if index == 0
            else torch.nn.functional.interpolate(
                stage.permute(0, 3, 1, 2), size=features[0].shape[1:3], mode="bilinear"
            )
            for index, stage in enumerate(features)
        ],
        axis=1,
    )
    patches = joined.transpose(0, 2, 3, 1).reshape(-1, joined.shape[1]).astype(np.float64)
    assert net.center.numpy() == pytest.approx(patches.mean(0), abs=1e-5)
    assert net.spread.numpy() == pytest.approx(np.maximum(patches.std(0), 1e-2), rel=1e-4)


def test_it_begins_without_changing_features_and_with_the_peak_of_the_map(features: Features) -> None:
    net = SuperSimpleNet(hidden=4, score_channels=2, seed=5)
    with torch.no_grad():
        adapted = net.adapt(features)
        assert torch.allclose(adapted[:, : features[0].shape[3]], features[0].permute(0, 3, 1, 2).clamp(-8, 8))
        logits, scores = net.judge(adapted)
    assert scores.numpy() == pytest.approx(logits.amax((1, 2, 3)).numpy(), abs=0.2)


def test_the_seed_alone_decides_the_first_weights() -> None:
    nets = []
    for state, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(state)
        nets.append(SuperSimpleNet(hidden=4, score_channels=2, seed=seed).state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])
    assert not torch.equal(nets[0]["map_head.0.weight"], nets[2]["map_head.0.weight"])


def test_the_backbone_does_not_learn(net: SuperSimpleNet) -> None:
    learning = {name.split(".")[0] for name, p in net.objective().detector.named_parameters() if p.requires_grad}
    assert learning == {"adaptor", "map_head", "score_head"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 0}, "hidden: expected 1 to 4096, got 0"),
        ({"score_channels": 0}, "score_channels: expected 1 to 4096, got 0"),
        ({"noise": 0.0}, "noise: expected a number above 0"),
        ({"smoothing_patches": -1}, "smoothing_patches: expected 0 to 16, got -1"),
        ({"stages": [7]}, "backbone stages"),
    ],
)
def test_settings_out_of_range(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SuperSimpleNet(**settings)
