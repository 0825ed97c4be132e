from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import texture
from tests.training.test_gradient import run, small_fit
from zellige.core.errors import ConfigError, InputError
from zellige.models.dead_leaves import dead_leaves
from zellige.models.detector import Features, Targets
from zellige.models.efficient_ad import EfficientAd, hard_loss, in_other_light
from zellige.training import loop
from zellige.training.resume import Progress, save_progress

SIZE = (64, 96)


def small_net(**settings: Any) -> EfficientAd:
    return EfficientAd(**{"width": 8, "latent": 2, "smoothing_patches": 0, **settings})


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    torch.set_num_threads(1)
    return torch.from_numpy(np.stack([texture(seed, size=SIZE)[None] for seed in range(6)]))


@pytest.fixture(scope="module")
def net(images: torch.Tensor) -> EfficientAd:
    """Measured, but with its first weights."""
    net = small_net()
    with torch.no_grad():
        net.measure([net.embed(images)])
    return net


@pytest.fixture(scope="module")
def features(net: EfficientAd, images: torch.Tensor) -> Features:
    with torch.no_grad():
        return net.embed(images)


def known(*is_defective: bool) -> Targets:
    count = len(is_defective)
    masks = torch.zeros(count, 1, *SIZE, dtype=torch.bool)
    return Targets(masks=masks, is_defective=torch.tensor(is_defective), has_mask=torch.ones(count, dtype=torch.bool))


def slow_scaled(net: EfficientAd, features: Features) -> list[np.ndarray]:
    """The teacher's features (B, D, h, w) in units of what all of them show."""
    found = []
    for stage in features[1:]:
        values = stage.numpy().astype(np.float64)
        vectors = values.reshape(-1, values.shape[-1])
        spread = np.maximum(vectors.std(0), 1e-2)
        found.append(np.clip((values - vectors.mean(0)) / spread, -8, 8).transpose(0, 3, 1, 2))
    return found


def slow_hard_loss(differences: np.ndarray, quantile: float) -> float:
    squares = differences.astype(np.float64) ** 2
    return float(squares[squares >= np.quantile(squares, quantile)].mean())


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 5), (3, 8, 16, 16)])
def test_the_hard_loss_is_that_of_numpy(quantile: float, shape: tuple[int, ...]) -> None:
    differences = np.random.default_rng(0).normal(0, 2, shape).astype(np.float32)
    expected = slow_hard_loss(differences, quantile)
    assert float(hard_loss(torch.from_numpy(differences), quantile)) == pytest.approx(expected, rel=1e-5)


def test_pixels_and_every_stage_of_the_teacher_are_features(features: Features, images: torch.Tensor) -> None:
    assert torch.equal(features[0].permute(0, 3, 1, 2), images.float())
    assert [tuple(stage.shape[1:]) for stage in features[1:]] == [(8, 12, 40), (4, 6, 112)]


def test_channels_are_in_units_of_their_spread(net: EfficientAd, features: Features) -> None:
    for found, expected in zip(net.scaled(features[1:]), slow_scaled(net, features), strict=True):
        assert found.numpy() == pytest.approx(expected, abs=2e-3)


def with_constant_student(images: torch.Tensor, level: float) -> EfficientAd:
    """Its student says `level` for every feature of the teacher and 0 for the autoencoder, which says 0 itself."""
    net = small_net(hard_quantile=0.9)
    with torch.no_grad():
        net.measure([net.embed(images)])
        for head in [*(part[-1] for part in net.student.heads), *net.autoencoder.heads]:
            head.weight.zero_()
        for part in net.student.heads:
            part[-1].bias[: len(part[-1].bias) // 2] = level
    return net


def test_the_loss_is_hard_features_and_penalty_and_autoencoder(images: torch.Tensor) -> None:
    net = with_constant_student(images, 0.5)
    with torch.no_grad():
        features = net.embed(images)
        found = net.objective().eval()(features, known(*[False] * 6), 0)
    stages = slow_scaled(net, features)
    expected = [slow_hard_loss(wanted - 0.5, 0.9) + 0.5**2 + (wanted**2).mean() for wanted in stages]
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-3)


def test_defective_tiles_teach_nothing(net: EfficientAd, features: Features) -> None:
    objective = net.objective()
    with torch.no_grad():
        objective.eval()
        good = objective(tuple(part[:4] for part in features), known(*[False] * 4), 3)
        mixed = objective(features, known(False, False, False, False, True, True), 3)
    assert torch.equal(good, mixed)
    objective.train()
    net.zero_grad()
    loss = objective(features, known(*[True] * 6), 3)
    loss.backward()
    assert loss.item() == 0
    assert all(not p.grad.any() for p in net.parameters() if p.requires_grad)


def test_the_autoencoder_does_not_follow_the_student(net: EfficientAd, features: Features) -> None:
    """With a teacher that agrees with it, nothing is left that moves it."""
    drawn = net.autoencoder(net.patches.backbone.scale(features[0].permute(0, 3, 1, 2)))
    wanted = [part.detach() for part in drawn]
    objective = net.objective().eval()
    net.zero_grad()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(net, "scaled", lambda stages: wanted)
        objective(features, known(*[False] * 6), 0).backward()
    assert all(not p.grad.any() for p in net.autoencoder.parameters())
    assert all(p.grad.any() for name, p in net.student.named_parameters() if name.endswith("2.weight"))


def test_light_changes_by_a_factor_around_black_the_mean_or_gray() -> None:
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.uniform(90, 160, (60, 3, 8, 8)).astype(np.float32))
    changed = in_other_light(images, torch.Generator().manual_seed(0)).numpy().astype(np.float64)
    kinds = set()
    for before, after in zip(images.numpy().astype(np.float64), changed, strict=True):
        matches = {}
        for kind, fixed in {"brightness": 0.0, "contrast": before.mean(), "saturation": before.mean(0)}.items():
            away = before - fixed
            factor = ((after - fixed) * away).sum() / (away**2).sum()
            if np.abs(fixed + factor * away - after).max() < 0.01:
                matches[kind] = factor
        assert len(matches) == 1, matches
        (kind, factor), *_ = matches.items()
        assert 0.8 - 1e-3 <= factor <= 1.2 + 1e-3
        kinds.add(kind)
    assert kinds == {"brightness", "contrast", "saturation"}


@pytest.mark.parametrize("channels", [1, 3])
def test_dead_leaves_are_gray_levels_of_many_sizes_that_the_seed_decides(channels: int) -> None:
    def drawn(seed: int) -> torch.Tensor:
        return dead_leaves(8, channels, 64, 48, generator=torch.Generator().manual_seed(seed))

    pictures = drawn(0)
    assert pictures.shape == (8, channels, 64, 48)
    assert pictures.min() >= 0
    assert pictures.max() <= 255
    assert torch.equal(pictures, drawn(0))
    assert (pictures[0] != pictures[1]).any()
    assert (pictures != drawn(1)).any()
    assert pictures.std((1, 2, 3)).median() > 10
    if channels == 3:
        assert (pictures[:, 0] - pictures[:, 1]).abs().max() > 10


def slow_maps(net: EfficientAd, pictures: torch.Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per stage the mean squared differences (B, h, w) of student and teacher, and of student and autoencoder."""
    with torch.no_grad():
        pixels = net.patches.backbone.scale(pictures)
        wanted = [stage.numpy() for stage in net.scaled(net.patches(pictures))]
        drawn = [stage.numpy() for stage in net.autoencoder(pixels)]
        guessed = [(teacher.numpy(), autoencoder.numpy()) for teacher, autoencoder in net.student(pixels)]
    return [
        (((first - target) ** 2).mean(1), ((second - picture) ** 2).mean(1))
        for (first, second), target, picture in zip(guessed, wanted, drawn, strict=True)
    ]


def test_maps_are_joined_in_units_of_held_out_quantiles(images: torch.Tensor) -> None:
    """Against the paper's 0.1 (M - q_a) / (q_b - q_a), of which the constants are left out here."""
    net = small_net(autoencoder_share=0.25)
    held_out, unseen = images[:4], images[4:]
    with torch.no_grad():
        net.measure([net.embed(held_out)])
        net.settle(net.embed(part) for part in (held_out[:1], held_out[1:]))
        found = net.joined(net.gaps(unseen, net.scaled(net.patches(unseen))))
    for ours, references, maps in zip(found, slow_maps(net, held_out), slow_maps(net, unseen), strict=True):
        expected, constant = np.zeros(ours[:, 0].shape), 0.0
        for reference, seen, share in zip(references, maps, (0.75, 0.25), strict=True):
            low, high = np.quantile(reference, [0.9, 0.995])
            expected += share * 0.1 * (seen - low) / (high - low)
            constant += share * 0.1 * low / (high - low)
        assert ours[:, 0].numpy() == pytest.approx(expected + constant, rel=1e-3)


def test_equal_maps_have_no_unit_and_are_finite(images: torch.Tensor) -> None:
    flat = torch.full_like(images[:2], 100)
    other = small_net()
    with torch.no_grad():
        other.measure([other.embed(flat)])
        other.settle([other.embed(flat)])
        output = other(images)
    assert output.score.isfinite().all()


def test_settling_on_nothing_is_refused(net: EfficientAd) -> None:
    with pytest.raises(InputError, match="expected at least one good image in VAL, got none"):
        net.settle(iter([]))


@pytest.mark.parametrize("stages", [[2], [1, 2], [3, 4], [0, 3]])
def test_any_stages_and_stride(stages: list[int], images: torch.Tensor) -> None:
    net = small_net(stages=stages, grid_stride=4)
    odd = images[:2, :, :50, :70]
    with torch.no_grad():
        net.measure([net.embed(odd)])
        assert net(odd).anomaly_map.shape == (2, 1, 50, 70)


def test_student_and_autoencoder_alone_learn(net: EfficientAd) -> None:
    learning = {name.split(".")[0] for name, p in net.objective().detector.named_parameters() if p.requires_grad}
    assert learning == {"student", "autoencoder"}


def test_the_seed_alone_decides_the_first_weights() -> None:
    nets = []
    for state, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(state)
        nets.append(small_net(seed=seed).state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])
    assert not torch.equal(nets[0]["student.down.0.weight"], nets[2]["student.down.0.weight"])


def test_a_fit_that_was_cut_short_ends_as_if_nothing_had_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = small_fit(tmp_path)
    whole, resumed = small_net(), small_net()
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 4}
    run(whole, train, val, tmp_path / "whole", **settings)

    def save_and_stop(path: Path, identity: str, done: Progress, *rest: Any) -> None:
        save_progress(path, identity, done, *rest)
        if done.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_progress", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(small_net(), train, val, tmp_path / "cut", **settings)
    run(resumed, train, val, tmp_path / "cut", **settings)
    state, other = whole.state_dict(), resumed.state_dict()
    assert [name for name in state if not torch.equal(state[name], other[name])] == []
    assert not torch.equal(state["student.down.0.weight"], small_net().state_dict()["student.down.0.weight"])
    assert not torch.equal(state["high"], small_net().high)
    curves = [(tmp_path / name / "learning_curve.json").read_text() for name in ("whole", "cut")]
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width: expected 1 to 1024, got 0"),
        ({"latent": 2000}, "latent: expected 1 to 1024, got 2000"),
        ({"hard_quantile": 1.0}, r"hard_quantile: expected a number in \[0, 1\), got 1.0"),
        ({"autoencoder_share": 1.5}, "autoencoder_share: expected a number from 0 to 1, got 1.5"),
        ({"top_share": 0.0}, "top_share"),
        ({"stages": [7]}, "backbone stages"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_net(**settings)


def multiply_adds(net: torch.nn.Module, run: Any) -> int:
    """Those of all convolutions below `net` while `run()` goes through them once, one tile."""
    total = 0

    def count(layer: torch.nn.Conv2d, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        total += output[0].numel() * layer.weight[0].numel()

    hooks = [part.register_forward_hook(count) for part in net.modules() if isinstance(part, torch.nn.Conv2d)]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return total


def test_what_follows_the_teacher_costs_less_than_the_banks_of_patchcore() -> None:
    """Both have the same teacher and grids; a bank of M vectors multiplies each patch with M x D numbers."""
    net, image = EfficientAd(), torch.zeros(1, 1, 256, 256, dtype=torch.uint8)
    whole = multiply_adds(net, lambda: net(image))
    teacher = multiply_adds(net, lambda: net.patches(image))
    assert 0 < whole - teacher < 4096 * (32 * 32 * 40 + 16 * 16 * 112)
