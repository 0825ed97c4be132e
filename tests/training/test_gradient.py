import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors import safe_open

from tests.conftest import PROJECT, save_image, texture
from tests.station.conftest import small_disk
from tests.training.toy_detector import SettlingToy, Toy
from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Color, Geometry, GeometryMode, Sample
from zellige.data.augment import Augment
from zellige.data.dataset import TileDataset
from zellige.models.patchcore import PatchCore
from zellige.models.super_simple_net import SuperSimpleNet
from zellige.training import loop, one_pass
from zellige.training.gradient import GradientFitReport, fit
from zellige.training.loop import seed_of
from zellige.training.resume import RESUME_FILE, Progress, save_progress

GEOMETRY = Geometry(mode=GeometryMode.RESIZE, height=64, width=64)


def sample(root: Path, name: str, pixels: np.ndarray, *, kind: str = "good", mask: np.ndarray | None = None) -> Sample:
    save_image(root / f"{name}.png", pixels)
    if mask is not None:
        save_image(root / f"{name}_mask.png", mask)
    mask_path = root / f"{name}_mask.png" if mask is not None else None
    return Sample(id=name, image_path=root / f"{name}.png", kind=kind, group_id=name, mask_path=mask_path)


def gray(level: int, size: int = 64) -> np.ndarray:
    return np.full((size, size), level, np.uint8)


def levels(root: Path, good: list[int], defective: list[int] = (), policy: str = "none") -> TileDataset:  # type: ignore[assignment]
    """Images of one gray level each, the defective ones with a mask."""
    samples = [sample(root, f"good{i}", gray(level)) for i, level in enumerate(good)]
    defects = [sample(root, f"bad{i}", gray(level), kind="hole", mask=gray(255)) for i, level in enumerate(defective)]
    augment = Augment(policy, seed=0)
    return TileDataset(samples, geometry=GEOMETRY, color=Color.GRAY, augment=augment, defects=defects)


def run(detector: Any, train: TileDataset, val: TileDataset, run_dir: Path, **settings: Any) -> GradientFitReport:
    run_dir.mkdir(parents=True, exist_ok=True)
    return fit(detector, train, val, fabric=Fabric(accelerator="cpu", devices=1), run_dir=run_dir, **settings)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def weights(detector: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in detector.named_parameters() if value.requires_grad}


def equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    ours, theirs = weights(first), weights(second)
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_it_does_the_steps_of_adamw(tmp_path: Path) -> None:
    """Against torch's own optimizer on the same numbers, batch by batch, with a cosine by epoch."""
    train, val = levels(tmp_path, [10, 40, 90, 160, 250], [200]), levels(tmp_path / "val", [30])
    toy = Toy()
    settings = {"epochs": 3, "batch_size": 2, "learning_rate": 0.1, "weight_decay": 0.01, "defect_share": 0.0}
    run(toy, train, val, tmp_path / "run", patience=None, **settings)
    assert len(toy.seen) == 18

    weight, bias = (torch.zeros((), requires_grad=True) for _ in range(2))
    optimizer = torch.optim.AdamW([weight, bias], lr=0.1, weight_decay=0.01)
    path, seen = [], toy.seen.copy()
    for rate in (0.1, 0.075, 0.025):
        optimizer.param_groups[0]["lr"] = rate
        for _ in range(3):
            (x1, y1, _), (x2, y2, _) = seen[:2]
            seen = seen[2:]
            loss = ((weight * x1 + bias - float(y1)) ** 2 + (weight * x2 + bias - float(y2)) ** 2) / 4
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        path.append((weight.item(), bias.item(), ((weight * 30 / 256 + bias) ** 2 / 2).item()))
    best = min(path, key=lambda entry: entry[2])
    assert (toy.weight.item(), toy.bias.item()) == pytest.approx(best[:2], rel=1e-4)
    curve = json.loads((tmp_path / "run/learning_curve.json").read_text())
    assert [entry["val_loss"] for entry in curve] == pytest.approx([entry[2] for entry in path], rel=1e-4)
    assert [entry["learning_rate"] for entry in curve] == pytest.approx([0.1, 0.075, 0.025])


def test_every_tile_once_in_an_epoch_and_another_order_in_the_next(tmp_path: Path) -> None:
    good = list(range(10, 200, 10))
    for name, settings in {"kept": {}, "not kept": {"cache_mb": 0}}.items():
        toy = Toy()
        run(toy, levels(tmp_path, good), levels(tmp_path / "val", [9]), tmp_path / name, epochs=2, **settings)
        seen = [round(256 * brightness) for brightness, _, _ in toy.seen]
        assert sorted(seen[: len(good)]) == sorted(seen[len(good) :]) == good
        assert seen[: len(good)] != seen[len(good) :]
        assert not list((tmp_path / name).glob("features*"))


def test_features_are_made_once_where_they_are_kept(tmp_path: Path) -> None:
    train, val = levels(tmp_path, [10, 20, 30], [200]), levels(tmp_path / "val", [40, 50])
    kept, not_kept, augmented = Toy(), Toy(), Toy()
    run(kept, train, val, tmp_path / "a", epochs=4)
    run(not_kept, train, val, tmp_path / "b", epochs=4, cache_mb=0)
    run(augmented, levels(tmp_path, [10, 20, 30], [200], "flips"), val, tmp_path / "c", epochs=4)
    assert (kept.num_measured, kept.num_embedded) == (3, 6)
    assert (not_kept.num_measured, not_kept.num_embedded) == (3, 6 + 4 * 6)
    assert augmented.num_embedded == 6 + 4 * 4  # the tiles of VAL are kept all the same
    assert equal(kept, not_kept)


def test_gradients_of_several_batches_make_one_step(tmp_path: Path) -> None:
    train, val = levels(tmp_path, list(range(0, 240, 20))), levels(tmp_path / "val", [100])
    settings = {"epochs": 3, "learning_rate": 0.1, "patience": None}
    large, small = Toy(), Toy()
    large.bias.data.fill_(1.0)
    small.bias.data.fill_(1.0)
    run(large, train, val, tmp_path / "large", batch_size=6, **settings)
    run(small, train, val, tmp_path / "small", batch_size=2, accumulate=3, **settings)
    for name, value in weights(large).items():
        assert weights(small)[name].item() == pytest.approx(value.item(), rel=1e-5)
    assert large.bias.item() < 0.9


def test_a_last_group_of_fewer_batches_counts_as_its_mean(tmp_path: Path) -> None:
    """Four images in batches of one, three to a step: with plain descent the second step is the fourth image alone."""
    train, val = levels(tmp_path, [200, 200, 200, 200]), levels(tmp_path / "val", [200])
    grouped, alone = Toy(), Toy()
    for toy in (grouped, alone):
        toy.bias.data.fill_(1.0)
    settings = {"epochs": 1, "learning_rate": 0.1, "weight_decay": 0.0}
    run(grouped, train, val, tmp_path / "a", batch_size=1, accumulate=3, **settings)
    run(alone, train, val, tmp_path / "b", batch_size=2, **settings)  # two steps on equal images
    assert grouped.bias.item() == pytest.approx(alone.bias.item(), rel=1e-6)


def test_labelled_defects_are_repeated_up_to_their_share(tmp_path: Path) -> None:
    train, val = levels(tmp_path, [10] * 12, [200, 210]), levels(tmp_path / "val", [30])
    for share, repeats in ((0.0, 1), (0.25, 2), (1.0, 6)):
        toy = Toy()
        report = run(toy, train, val, tmp_path / str(share), epochs=1, defect_share=share)
        defective = sorted(round(256 * level) for level, is_defective, _ in toy.seen if is_defective)
        assert defective == [200] * repeats + [210] * repeats
        assert sum(not is_defective for _, is_defective, _ in toy.seen) == 12
        assert (report.num_images, report.num_defects, report.num_defects_left_out) == (14, 2, 0)


def test_defects_without_masks_in_several_tiles_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiles = Geometry(mode=GeometryMode.TILES, height=64, width=64)
    samples = [sample(tmp_path, "good", gray(10, 128))]
    defects = [sample(tmp_path, "a", gray(200, 128), kind="cut"), sample(tmp_path, "b", gray(210), kind="cut")]
    train = TileDataset(samples, geometry=tiles, color=Color.GRAY, defects=defects)
    toy = Toy()
    report = run(toy, train, TileDataset(samples, geometry=tiles, color=Color.GRAY), tmp_path / "run", epochs=1)
    assert (report.num_defects, report.num_defects_left_out, report.num_tiles) == (1, 1, 5)
    assert {(round(256 * level), has_mask) for level, is_defective, has_mask in toy.seen if is_defective} == {
        (210, False)
    }
    assert "1 labelled defective images have no mask" in caplog.text


def test_the_best_weights_on_val_are_kept_and_the_fit_stops(tmp_path: Path) -> None:
    """Training pulls the score of dark images to 0 and of bright ones to 1; bright good ones in VAL soon disagree."""
    train, val = levels(tmp_path, [10, 20], [240, 250]), levels(tmp_path / "val", [230, 20])
    toy = Toy()
    toy.bias.data.fill_(0.5)
    report = run(toy, train, val, tmp_path / "run", epochs=200, patience=3, learning_rate=0.05, schedule="constant")
    curve = json.loads((tmp_path / "run/learning_curve.json").read_text())
    losses = [entry["val_loss"] for entry in curve]
    assert report.num_epochs == len(curve) == report.best_epoch + 3 < 200
    assert report.best_epoch == int(np.argmin(losses)) + 1
    assert report.best_val_loss == min(losses)
    x = torch.tensor([230, 20]) / 256
    assert ((toy.weight * x + toy.bias) ** 2).mean().item() / 2 == pytest.approx(min(losses), rel=1e-5)
    assert json.loads((tmp_path / "run/fit.json").read_text()) == asdict(report)


@pytest.mark.parametrize("cache_mb", [4096, 0])
def test_a_detector_is_settled_on_good_images_of_val_with_its_best_weights(tmp_path: Path, cache_mb: int) -> None:
    train, val = levels(tmp_path, [10, 20], [240, 250]), levels(tmp_path / "val", [230, 20])
    bad = sample(tmp_path / "val", "bad", gray(250), kind="hole")
    val = TileDataset([*val.samples, bad], geometry=GEOMETRY, color=Color.GRAY)
    toy = SettlingToy()
    toy.bias.data.fill_(0.5)
    report = run(toy, train, val, tmp_path / "run", epochs=200, patience=3, learning_rate=0.05, cache_mb=cache_mb)
    assert report.best_epoch < report.num_epochs
    assert toy.settled_on == [230, 20]
    assert toy.bias_then == toy.bias.item()
    assert toy.unit.item() == 230


def test_looks_at_val_may_be_rarer(tmp_path: Path) -> None:
    train, val = levels(tmp_path, [10, 20]), levels(tmp_path / "val", [30])
    run(Toy(), train, val, tmp_path / "run", epochs=7, evaluate_every=3)
    curve = json.loads((tmp_path / "run/learning_curve.json").read_text())
    assert [entry["epoch"] for entry in curve if "val_loss" in entry] == [3, 6, 7]


def test_defects_in_val_are_not_looked_at(tmp_path: Path) -> None:
    train, val = levels(tmp_path, [10, 20]), levels(tmp_path / "val", [30])
    bad = sample(tmp_path / "val", "bad", gray(250), kind="hole")
    with_bad = TileDataset([*val.samples, bad], geometry=GEOMETRY, color=Color.GRAY)
    first, second = (run(Toy(), train, part, tmp_path / str(i), epochs=2) for i, part in enumerate((val, with_bad)))
    assert first.best_val_loss == second.best_val_loss


@pytest.mark.parametrize(("break_at", "where"), [(1, "epoch 1, step 1 of 2"), (6, "epoch 3, step 2 of 2")])
def test_a_loss_that_is_no_number_ends_the_fit_and_keeps_the_last_weights(
    tmp_path: Path, break_at: int, where: str
) -> None:
    train, val = levels(tmp_path, [10, 20, 30, 40]), levels(tmp_path / "val", [30])
    with pytest.raises(InputError, match=f"fit: the loss is nan in {where}; .*learning_rate") as caught:
        run(Toy(break_at=break_at), train, val, tmp_path / "run", epochs=5, batch_size=2)
    assert "\n" not in str(caught.value)
    state = tmp_path / "run" / RESUME_FILE
    assert state.is_file() == (break_at == 6)
    if break_at == 6:
        assert f"the weights of epoch 2 are in {state}" in str(caught.value)
        with safe_open(state, framework="pt") as stored:
            assert stored.get_tensor("now.detector.weight").isfinite()
    assert not list((tmp_path / "run").glob("*.partial"))


def test_a_loss_on_val_that_is_no_number_ends_the_fit(tmp_path: Path) -> None:
    """A weight that overflows in the very last step of an epoch shows there."""
    train, val = levels(tmp_path, [10]), levels(tmp_path / "val", [30])
    toy = Toy()
    toy.bias.data.fill_(3e38)
    toy.weight.data.fill_(3e38)
    with pytest.raises(InputError, match="fit: the loss is inf in epoch 1, step 1 of 1"):
        run(toy, train, val, tmp_path / "run", epochs=1)


def test_a_weight_that_is_no_number_is_never_kept(tmp_path: Path) -> None:
    """It breaks in the last step of an epoch after which nobody looks at VAL."""
    train, val = levels(tmp_path, [10, 20]), levels(tmp_path / "val", [30])
    toy = Toy(break_at=3, break_slope=True)
    with pytest.raises(InputError, match=r"fit: a weight is not finite after epoch 3; .*the weights of epoch 2 are in"):
        run(toy, train, val, tmp_path / "run", epochs=6, evaluate_every=6)
    with safe_open(tmp_path / "run" / RESUME_FILE, framework="pt") as stored:
        assert stored.get_tensor("now.detector.weight").isfinite()


def small_fit(root: Path) -> tuple[TileDataset, TileDataset]:
    mask = np.zeros((64, 64), np.uint8)
    mask[10:26, 10:26] = 255
    good = [sample(root, f"good{i}", texture(i, size=(64, 64))) for i in range(10)]
    bad = [
        sample(root, f"bad{i}", np.maximum(texture(50 + i, size=(64, 64)), mask), kind="hole", mask=mask)
        for i in (0, 1)
    ]
    train = TileDataset(good[:7], geometry=GEOMETRY, color=Color.GRAY, defects=bad)
    return train, TileDataset(good[7:], geometry=GEOMETRY, color=Color.GRAY)


def small_net() -> SuperSimpleNet:
    return SuperSimpleNet(hidden=16, score_channels=4)


EPOCHS = 30


def fit_until_killed(root: str, run_dir: str) -> None:
    """What the process does that is killed."""
    torch.set_num_threads(1)
    train, val = small_fit(Path(root))
    run(small_net(), train, val, Path(run_dir), epochs=EPOCHS, batch_size=4, patience=None)


def epoch_of(state: Path) -> int:
    if not state.exists():
        return 0
    with safe_open(state, framework="pt") as stored:
        return int(json.loads(stored.metadata()["progress"])["epoch"])


def test_a_killed_fit_goes_on_and_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    """A real SIGKILL in the middle of a fit in another process."""
    train, val = small_fit(tmp_path)
    whole, resumed = small_net(), small_net()
    expected = run(whole, train, val, tmp_path / "whole", epochs=EPOCHS, batch_size=4, patience=None)

    code = "import sys; from tests.training.test_gradient import fit_until_killed as f; f(sys.argv[1], sys.argv[2])"
    command = [sys.executable, "-c", code, tmp_path, tmp_path / "killed"]
    process = subprocess.Popen(command, cwd=PROJECT, env={**os.environ, "PYTHONPATH": f"{PROJECT}/src:{PROJECT}"})
    state, end = tmp_path / "killed" / RESUME_FILE, time.monotonic() + 60
    while epoch_of(state) < 3 and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    killed_after = epoch_of(state)
    assert 3 <= killed_after < EPOCHS
    curve = tmp_path / "killed/learning_curve.json"
    assert not curve.exists()

    found = run(resumed, train, val, tmp_path / "killed", epochs=EPOCHS, batch_size=4, patience=None)
    assert equal(whole, resumed)
    assert not equal(whole, small_net())
    assert curve.read_text() == (tmp_path / "whole/learning_curve.json").read_text()
    assert (found.best_epoch, found.best_val_loss) == (expected.best_epoch, expected.best_val_loss)


@pytest.mark.parametrize("how", ["augmented", "not kept", "accumulated, looked at rarely", "ranked once it goes on"])
def test_it_goes_on_to_the_bit_however_it_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    train, val = small_fit(tmp_path)
    settings: dict[str, Any] = {"epochs": 6, "batch_size": 2}
    if how == "augmented":
        augment = Augment("line", seed=3)
        train = TileDataset(train.samples, geometry=GEOMETRY, color=Color.GRAY, augment=augment, defects=train.defects)
    settings |= {"cache_mb": 0} if how == "not kept" else {}
    settings |= {"accumulate": 3, "evaluate_every": 4} if how.startswith("accumulated") else {}
    whole, resumed = small_net(), small_net()
    run(whole, train, val, tmp_path / "whole", **settings)

    def save_and_stop(path: Path, identity: str, done: Progress, *rest: Any) -> None:
        save_progress(path, identity, done, *rest)
        if done.epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_progress", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(small_net(), train, val, tmp_path / "cut", **settings)
    assert epoch_of(tmp_path / "cut" / RESUME_FILE) == 3
    is_ranked = how.startswith("ranked")
    run(resumed, train, val, tmp_path / "cut", rank_suspicious=is_ranked, **settings)
    assert equal(whole, resumed)
    assert (tmp_path / "cut/suspicious_train.json").exists() == is_ranked
    curves = [(tmp_path / name / "learning_curve.json").read_text() for name in ("whole", "cut")]
    assert curves[0] == curves[1]


def test_it_does_not_go_on_from_another_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, val = levels(tmp_path, [10, 200]), levels(tmp_path / "val", [30])
    run(Toy(), train, val, tmp_path / "run", epochs=2)
    for what, again in {
        "a setting": (Toy(), train, {"epochs": 2, "learning_rate": 0.5}),
        "a setting of the detector": (Toy(noise=0.1), train, {"epochs": 2}),
        "an image": (Toy(), levels(tmp_path / "other", [10, 201]), {"epochs": 2}),
        "a label": (Toy(), levels(tmp_path / "labels", [10], [200]), {"epochs": 2}),
    }.items():
        caplog.clear()
        detector, data, settings = again
        before = (tmp_path / "run" / RESUME_FILE).read_bytes()
        run(detector, data, val, tmp_path / "run", **settings)
        assert "the fit begins anew" in caplog.text, what
        assert len(detector.seen) == 4, what
        (tmp_path / "run" / RESUME_FILE).write_bytes(before)
    caplog.clear()
    same = Toy()
    run(same, train, val, tmp_path / "run", epochs=2)
    assert same.seen == []
    assert "anew" not in caplog.text


@pytest.mark.parametrize("content", [b"", b"\x80\x04 a pickle", b"\xff" * 400])
def test_a_damaged_state_is_not_used(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    train, val = levels(tmp_path, [10, 200]), levels(tmp_path / "val", [30])
    clean, toy = Toy(), Toy()
    run(clean, train, val, tmp_path / "clean", epochs=2)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / RESUME_FILE).write_bytes(content)
    run(toy, train, val, tmp_path / "run", epochs=2)
    assert "cannot be used" in caplog.text
    assert equal(clean, toy)


def test_a_full_disk_ends_the_fit_in_one_line(tmp_path: Path) -> None:
    train, val = small_fit(tmp_path)
    with small_disk(tmp_path / "disk", "1m") as disk:
        (disk / "filler").write_bytes(b"x" * (2**20 - 64 * 1024))
        with pytest.raises(InputError, match=r"features .*cannot be written \(.*\); set trainer.cache_mb=0"):
            run(small_net(), train, val, disk, epochs=2)
        assert [path.name for path in disk.iterdir()] == ["filler"]


def test_the_seed_decides_and_no_global_state_does(tmp_path: Path) -> None:
    train, val = small_fit(tmp_path)
    fits = []
    for index, (seed, state) in enumerate([(0, 1), (0, 2), (1, 1)]):
        torch.manual_seed(state)
        net = small_net()
        run(net, train, val, tmp_path / str(index), epochs=2, seed=seed)
        fits.append(net)
    assert equal(fits[0], fits[1])
    assert not equal(fits[0], fits[2])


def test_half_precision_learns_nearly_the_same_with_whole_weights(tmp_path: Path) -> None:
    train, val = small_fit(tmp_path)
    nets = []
    for precision in ("32-true", "bf16-mixed"):
        (tmp_path / precision).mkdir()
        fabric, net = Fabric(accelerator="cpu", devices=1, precision=precision), small_net()
        fit(net, train, val, fabric=fabric, run_dir=tmp_path / precision, epochs=4, batch_size=4)
        nets.append(net)
    assert not equal(*nets)
    for name, value in weights(nets[1]).items():
        assert value.dtype == torch.float32
        assert (value - weights(nets[0])[name]).abs().max() < 0.02


def test_seeds_of_steps_differ() -> None:
    seeds = {
        seed_of(seed, part, epoch, step, 0)
        for seed in (0, 1)
        for part in (0, 1)
        for epoch in range(9)
        for step in range(9)
    }
    assert len(seeds) == 2 * 2 * 9 * 9
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, r"trainer\.epochs: expected 1 or more, got 0"),
        ({"batch_size": 0}, r"trainer\.batch_size: expected 1 or more, got 0"),
        ({"accumulate": 0}, r"trainer\.accumulate"),
        ({"evaluate_every": 0}, r"trainer\.evaluate_every"),
        ({"patience": 0}, r"trainer\.patience: expected 1 or more, or null, got 0"),
        ({"learning_rate": 0.0}, r"trainer\.learning_rate: expected a number above 0"),
        ({"learning_rate": float("nan")}, r"trainer\.learning_rate"),
        ({"weight_decay": -1.0}, r"trainer\.weight_decay: expected 0 to 10, got -1"),
        ({"defect_share": -1.0}, r"trainer\.defect_share"),
        ({"schedule": "wild"}, r"trainer\.schedule: expected one of cosine, step, constant, got 'wild'"),
        ({"cache_mb": -1}, r"trainer\.cache_mb: expected 0 or more"),
        ({"seed": -1}, r"trainer\.seed: expected 0 or more, got -1"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(Toy(), levels(tmp_path, [1]), levels(tmp_path, [2]), tmp_path / "run", **settings)


def test_each_trainer_refuses_the_others_detectors(tmp_path: Path) -> None:
    data, fabric = levels(tmp_path, [1]), Fabric(accelerator="cpu", devices=1)
    with pytest.raises(ConfigError, match="PatchCore does not learn by gradient, expected trainer=one_pass"):
        fit(PatchCore(bank_size=8), data, data, fabric=fabric, run_dir=tmp_path)
    with pytest.raises(ConfigError, match="SuperSimpleNet does not learn in one pass, expected trainer=gradient"):
        one_pass.fit(small_net(), data, data, fabric=fabric, run_dir=tmp_path)


def test_a_detector_without_patch_features_is_not_ranked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run(Toy(), levels(tmp_path, [1, 2]), levels(tmp_path, [3]), tmp_path / "run", epochs=1, rank_suspicious=True)
    assert "not ranked by how suspicious they look: Toy has no patch features" in caplog.text
    assert not list((tmp_path / "run").glob("suspicious*"))


def test_one_pass_says_that_it_does_not_use_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with_labels, without = levels(tmp_path, [10, 90], [200]), levels(tmp_path, [10, 90])
    banks = []
    for data in (with_labels, without):
        detector = PatchCore(bank_size=8)
        one_pass.fit(detector, data, data, fabric=Fabric(accelerator="cpu", devices=1), run_dir=tmp_path)
        banks.append(detector.banks[0].vectors)
    assert torch.equal(*banks)
    assert caplog.text.count("1 labelled defective images in train are not used") == 1


def test_no_images(tmp_path: Path) -> None:
    none = TileDataset([], geometry=GEOMETRY, color=Color.GRAY)
    with pytest.raises(InputError, match="expected at least one good training image, got none"):
        run(Toy(), none, levels(tmp_path, [1]), tmp_path / "run")
    with pytest.raises(InputError, match="expected at least one good image in VAL, got none"):
        run(Toy(), levels(tmp_path, [1]), none, tmp_path / "run")
