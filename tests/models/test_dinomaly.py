import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from tests.conftest import save_image, texture
from tests.models.weight_files import named
from zellige.core.errors import ConfigError
from zellige.core.types import Color, Geometry, GeometryMode, Sample
from zellige.data.dataset import TileDataset
from zellige.models.detector import Features, Targets
from zellige.models.dinomaly import Dinomaly, DinomalyObjective, distance, dropped, linear_attention, loose_loss
from zellige.training import gradient

SMALL = {"stages": [1, 2, 3, 4], "decoder_blocks": 2}


def small(**settings) -> Dinomaly:
    return Dinomaly(**{"backbone": named("timm", "test_vit"), **SMALL, **settings})


@pytest.fixture(scope="module")
def net() -> Dinomaly:
    torch.set_num_threads(1)
    return small()


@pytest.fixture(scope="module")
def features(net: Dinomaly) -> Features:
    images = torch.from_numpy(np.stack([texture(seed, size=(64, 96))[None] for seed in range(4)]))
    with torch.no_grad():
        return net.embed(images)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_attention_is_that_of_the_slow_one() -> None:
    """Patch by patch and head by head, with its weights written out."""
    query, key, value = (noise(2, 3, 5, 4, seed=seed) for seed in range(3))
    found = linear_attention(query, key, value)

    def positive(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, np.expm1(np.minimum(x, 0))) + 1

    for tile, head, patch in np.ndindex(2, 3, 5):
        weights = positive(key[tile, head].numpy()) @ positive(query[tile, head, patch].numpy())
        expected = weights / weights.sum() @ value[tile, head].numpy()
        assert found[tile, head, patch].numpy() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.ravel() @ b.ravel() / math.sqrt((a.ravel() @ a.ravel()) * (b.ravel() @ b.ravel())))


def test_the_loss_is_the_slow_one_and_easy_patches_pull_a_tenth() -> None:
    """The gradient is that of plain cosines, scaled patch by patch after it came back, as the paper's code does."""
    wanted, start = noise(3, 4, 5, 6), noise(3, 4, 5, 6, seed=1)
    expected = np.mean([1 - cosine(a.numpy(), b.numpy()) for a, b in zip(start, wanted, strict=True)])
    ours = start.clone().requires_grad_()
    loss = loose_loss(ours, wanted)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-5)

    theirs = start.clone().requires_grad_()
    flat = nn.functional.cosine_similarity(theirs.flatten(1), wanted.flatten(1))
    (1 - flat).mean().backward()
    pairs = zip(start.view(-1, 6).numpy(), wanted.view(-1, 6).numpy(), strict=True)
    gaps = np.array([1 - cosine(a, b) for a, b in pairs])
    hardest = np.argsort(gaps)[-6:]  # a tenth of 60
    scale = np.full(60, 0.1)
    scale[hardest] = 1.0
    assert theirs.grad is not None
    assert ours.grad.numpy() == pytest.approx(theirs.grad.numpy() * scale.reshape(3, 4, 5, 1), rel=1e-4, abs=1e-8)
    assert distance(start, wanted).numpy().ravel() == pytest.approx(gaps, abs=1e-5)


def test_what_is_dropped() -> None:
    values = torch.ones(200, 100)
    found = dropped(values, 0.2, torch.Generator().manual_seed(0))
    assert set(found.unique().tolist()) == {0.0, 1.25}
    assert float((found == 0).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert torch.equal(found, dropped(values, 0.2, torch.Generator().manual_seed(0)))
    assert not torch.equal(found, dropped(values, 0.2, torch.Generator().manual_seed(1)))
    assert dropped(values, 0.2, None) is values


class _Add(nn.Module):
    """A decoder block of which it is known what it does."""

    def forward(self, tokens: torch.Tensor, *args: object) -> torch.Tensor:
        return tokens + 1


def test_the_last_blocks_rebuild_the_first_stages() -> None:
    net = small(decoder_blocks=5, stages=[0, 1, 2, 3, 4])
    net.decoder, net.bottleneck = nn.ModuleList(_Add() for _ in range(5)), _Add()
    first, second = noise(1, 2, 3, 64), noise(1, 2, 3, 64, seed=1)
    fine, deep = net.rebuild((first, second), None)
    mean = (2 * first + 3 * second) / 5
    # After the bottleneck's 1 the blocks give 2 to 6: the groups of two and of three, from the last on.
    assert torch.allclose(fine, mean + (6 + 5) / 2, atol=1e-5)
    assert torch.allclose(deep, mean + (4 + 3 + 2) / 3, atol=1e-5)


def test_embedding_is_the_mean_of_neighboring_blocks(net: Dinomaly, features: Features) -> None:
    images = torch.from_numpy(np.stack([texture(seed, size=(64, 96))[None] for seed in range(4)]))
    with torch.no_grad():
        maps = net.backbone(images)
    assert len(features) == 2
    for group, (a, b) in zip(features, ((0, 1), (2, 3)), strict=True):
        assert torch.allclose(group.permute(0, 3, 1, 2), (maps[a] + maps[b]) / 2, atol=1e-6)


def targets(is_defective: list[bool]) -> Targets:
    count = len(is_defective)
    masks = torch.zeros(count, 1, 64, 96, dtype=torch.bool)
    return Targets(masks=masks, is_defective=torch.tensor(is_defective), has_mask=torch.ones(count, dtype=torch.bool))


def gradients(
    net: Dinomaly, features: Features, known: Targets, seed: int = 0
) -> tuple[float, dict[str, torch.Tensor]]:
    net.zero_grad()
    loss = net.objective().train()(features, known, seed)
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def test_defects_teach_nothing(net: Dinomaly, features: Features) -> None:
    mixed = gradients(net, features, targets([False, True, False, True]))
    good = gradients(net, tuple(group[::2] for group in features), targets([False, False]))
    assert mixed[0] == pytest.approx(good[0])
    assert all(torch.allclose(mixed[1][name], good[1][name], atol=1e-7) for name in good[1])
    loss, found = gradients(net, features, targets([True] * 4))
    assert loss == 0.0
    assert all(not value.any() for value in found.values())


def test_the_seed_decides_what_is_dropped_and_at_a_look_nothing_is(net: Dinomaly, features: Features) -> None:
    known = targets([False] * 4)
    losses = [gradients(net, features, known, seed)[0] for seed in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]
    with torch.no_grad():
        looks = {float(net.objective().eval()(features, known, seed)) for seed in range(3)}
        rebuilt = net.rebuild(features, None)
        expected = torch.stack([loose_loss(a, b) for a, b in zip(rebuilt, features, strict=True)]).mean()
    assert looks == {float(expected)}


def test_the_seed_alone_decides_the_first_weights_and_the_encoder_does_not_learn() -> None:
    nets = []
    for state, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(state)
        nets.append(small(seed=seed))
    first, again, other = (dict(net.named_parameters()) for net in nets)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["bottleneck.widen.weight"], other["bottleneck.widen.weight"])
    learning = {name.split(".")[0] for name, value in first.items() if value.requires_grad}
    assert learning == {"bottleneck", "decoder"}


def dataset(folder: Path) -> TileDataset:
    samples = []
    for index in range(6):
        save_image(folder / f"{index}.png", texture(index, size=(64, 64)))
        samples.append(Sample(id=str(index), image_path=folder / f"{index}.png", kind="good", group_id=str(index)))
    return TileDataset(samples, geometry=Geometry(mode=GeometryMode.RESIZE, height=64, width=64), color=Color.GRAY)


def test_a_fit_that_is_cut_short_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, settings = dataset(tmp_path / "images"), {"epochs": 4, "batch_size": 3, "patience": None}

    def fit(run_dir: Path) -> Dinomaly:
        run_dir.mkdir(exist_ok=True)
        net = small()
        gradient.fit(net, data, data, fabric=Fabric(accelerator="cpu", devices=1), run_dir=run_dir, **settings)
        return net

    straight = fit(tmp_path / "straight")
    count, forward = 0, DinomalyObjective.forward

    def stop_at_7(self: DinomalyObjective, *args: object) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == 7:  # in the second epoch: two steps to learn and two looks make an epoch
            raise KeyboardInterrupt
        return forward(self, *args)

    monkeypatch.setattr(DinomalyObjective, "forward", stop_at_7)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut")
    monkeypatch.setattr(DinomalyObjective, "forward", forward)
    resumed = fit(tmp_path / "cut")
    state, other = straight.state_dict(), resumed.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_one_stage_of_a_convolutional_net_will_do() -> None:
    net = Dinomaly(decoder_blocks=1).eval()
    with torch.inference_mode():
        output = net(torch.from_numpy(texture(0, size=(64, 96))[None, None]))
    assert output.anomaly_map.shape == (1, 1, 64, 96)
    assert net.decoder[0].num_heads == 7  # 112 features in heads of 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"backbone": "efficientnet_lite0", "stages": [2, 3]},
            "one stage alone, got strides (8, 16) of (40, 112) channels",
        ),
        ({"decoder_blocks": 0}, "decoder_blocks: expected 1 to 64, got 0"),
        ({"num_groups": 0}, "num_groups: expected 1 or more, got 0"),
        ({"dropout": 1.0}, "dropout: expected a number in [0, 1), got 1.0"),
        ({"top_share": 0.0}, "top_share: expected a number in (0, 1], got 0.0"),
        ({"smoothing_patches": 17}, "smoothing_patches: expected 0 to 16, got 17"),
        ({"stages": [5, 6], "decoder_blocks": 2}, "backbone stages: expected ascending indices from 0 to 5"),
    ],
)
def test_settings_out_of_range(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        small(**settings)
    assert message in str(caught.value)
