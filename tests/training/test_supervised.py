import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors import safe_open

from tests.conftest import PROJECT
from tests.training.test_gradient import epoch_of, equal, weights
from tests.training.toy_detector import Toy
from tests.training.toy_supervised import GEOMETRY, SupervisedToy, small_sets
from zellige.core.errors import ConfigError, InputError
from zellige.core.types import Geometry, GeometryMode
from zellige.data.dataset import TileDataset
from zellige.training import gradient, loop
from zellige.training.resume import RESUME_FILE, Progress, save_progress
from zellige.training.supervised import SupervisedFitReport, fit

QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 4, "learning_rate": 0.05, "warmup_epochs": 0, "patience": None}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def run(detector: Any, sets: tuple[TileDataset, TileDataset], run_dir: Path, **settings: Any) -> SupervisedFitReport:
    run_dir.mkdir(parents=True, exist_ok=True)
    fabric = Fabric(accelerator="cpu", devices=1)
    return fit(detector, *sets, fabric=fabric, run_dir=run_dir, **QUICK | settings)


def test_it_does_the_steps_of_adamw_with_warmup_clipping_and_a_mean(tmp_path: Path) -> None:
    """Against torch's own optimizer on the same batches, step by step."""
    toy, sets = SupervisedToy(), small_sets(tmp_path)
    settings = {"epochs": 4, "warmup_epochs": 2, "clip_norm": 0.3, "average": 0.8, "weight_decay": 0.1}
    report = run(toy, sets, tmp_path / "run", **settings)
    assert len(toy.batches) == 4 * 4  # sixteen images a time
    assert (report.num_good, report.num_defects, report.num_left_out, report.num_val) == (8, 8, 0, 8)

    other, mean = SupervisedToy(), {}
    optimizer = torch.optim.AdamW(other.parameters(), lr=0.05, weight_decay=0.1)
    rates = [0.05 / 3, 0.05 * 2 / 3, 0.05, 0.05 * (1 + math.cos(math.pi / 2)) / 2]
    longest = 0.0
    for step, (images, truth) in enumerate(toy.batches):
        optimizer.param_groups[0]["lr"] = rates[step // 4]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(other.logits(images), truth.kind).backward()
        longest = max(longest, float(torch.nn.utils.clip_grad_norm_(other.parameters(), 0.3)))
        optimizer.step()
        for name, value in weights(other).items():
            mean[name] = value if step == 0 else 0.8 * mean[name] + 0.2 * value
    assert longest > 0.3
    curve = json.loads((tmp_path / "run/learning_curve.json").read_text())
    assert [entry["learning_rate"] for entry in curve] == pytest.approx(rates)
    assert report.best_epoch == 4  # so that what is left is the mean at the end
    for name, value in mean.items():
        assert torch.allclose(weights(toy)[name], value, rtol=1e-5, atol=1e-6), name


def test_the_loss_of_val_is_that_of_all_its_tiles(tmp_path: Path) -> None:
    toy, sets = SupervisedToy(), small_sets(tmp_path)
    report = run(toy, sets, tmp_path / "run", epochs=1)
    losses = []
    for number, sample in enumerate(sets[1].samples):
        tiles = sets[1][number].pixels
        for tile in tiles:
            # The squares are the only pixels at the ends of the scale.
            flat = tile.ravel()
            areas = [np.sum(flat == 0), np.sum(flat == 255)]
            kind = 0 if sample.kind == "good" or not any(areas) else 1 + int(np.argmax(areas))
            logits = toy.logits(torch.from_numpy(tile)[None])
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor([kind])).item())
    assert len(losses) == 8 * 4
    assert report.best_val_loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert toy.seen_kinds.sum() == len(losses)
    assert toy.seen_kinds[1:].min() > 0


def test_it_learns_and_says_what_it_did(tmp_path: Path) -> None:
    toy, sets = SupervisedToy(), small_sets(tmp_path, "flips")
    report = run(toy, sets, tmp_path / "run", epochs=40, learning_rate=0.2)
    curve = json.loads((tmp_path / "run/learning_curve.json").read_text())
    losses = [entry["val_loss"] for entry in curve]
    assert report.best_epoch == int(np.argmin(losses)) + 1
    assert report.best_val_loss == min(losses) < 0.85 * losses[0]
    assert json.loads((tmp_path / "run/fit.json").read_text()) == asdict(report) | {"kinds": list(report.kinds)}


def test_the_backbone_learns_at_a_rate_of_its_own(tmp_path: Path) -> None:
    from zellige.models.classifier import Classifier

    first, sets = Classifier(kinds=("dark", "light"), hidden=8).state_dict(), small_sets(tmp_path, num=(2, 1))
    moved = {}
    for rate in (0.0, 0.1):
        net = Classifier(kinds=("dark", "light"), hidden=8)
        run(net, sets, tmp_path / str(rate), epochs=1, backbone_rate=rate, weight_decay=0.0, learning_rate=1e-3)
        state = net.state_dict()
        moved[rate] = {
            part: max(float((state[name] - first[name]).abs().max()) for name in first if name.startswith(part))
            for part in ("backbone.body.net.blocks.4", "backbone.body.net.blocks.0", "hidden.weight")
        }
    assert moved[0.0]["backbone.body.net.blocks.4"] == 0
    assert 0 < moved[0.1]["backbone.body.net.blocks.4"] < 3e-4
    assert moved[0.1]["backbone.body.net.blocks.0"] == 0  # of the frozen stages
    assert moved[0.1]["hidden.weight"] > 5e-4


@pytest.mark.parametrize("settings", [{}, {"num_workers": 3, "cache_mb": 0}])
def test_workers_and_memory_change_nothing(tmp_path: Path, settings: dict[str, Any]) -> None:
    sets = small_sets(tmp_path)
    first, second = SupervisedToy(), SupervisedToy()
    run(first, sets, tmp_path / "a")
    run(second, sets, tmp_path / "b", **settings)
    assert equal(first, second)
    for (images, truth), (others, theirs) in zip(first.batches, second.batches, strict=True):
        assert torch.equal(images, others)
        assert all(torch.equal(a, b) for a, b in zip(truth, theirs, strict=True))


def test_the_seed_decides_and_no_global_state_does(tmp_path: Path) -> None:
    sets, toys = small_sets(tmp_path), [SupervisedToy() for _ in range(3)]
    for number, (toy, (seed, state)) in enumerate(zip(toys, [(0, 1), (0, 2), (1, 1)], strict=True)):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002  albumentations must not look at it
        run(toy, sets, tmp_path / str(number), seed=seed)
    assert equal(toys[0], toys[1])
    assert not equal(toys[0], toys[2])


EPOCHS = 10


def fit_until_killed(root: str, run_dir: str) -> None:
    """What the process does that is killed."""
    torch.set_num_threads(1)
    run(SupervisedToy(), small_sets(Path(root)), Path(run_dir), epochs=EPOCHS, average=0.9)


def test_a_killed_fit_goes_on_and_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    """A real SIGKILL in the middle of a fit in another process."""
    sets, whole, resumed = small_sets(tmp_path), SupervisedToy(), SupervisedToy()
    expected = run(whole, sets, tmp_path / "whole", epochs=EPOCHS, average=0.9)
    code = "import sys; from tests.training.test_supervised import fit_until_killed as f; f(sys.argv[1], sys.argv[2])"
    command = [sys.executable, "-c", code, tmp_path, tmp_path / "killed"]
    process = subprocess.Popen(command, cwd=PROJECT, env={**os.environ, "PYTHONPATH": f"{PROJECT}/src:{PROJECT}"})
    state, end = tmp_path / "killed" / RESUME_FILE, time.monotonic() + 60
    while epoch_of(state) < 3 and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 3 <= epoch_of(state) < EPOCHS

    found = run(resumed, sets, tmp_path / "killed", epochs=EPOCHS, average=0.9)
    assert len(resumed.batches) < len(whole.batches)
    assert equal(whole, resumed)
    assert torch.equal(whole.seen_kinds, resumed.seen_kinds)
    curves = [(tmp_path / name / "learning_curve.json").read_text() for name in ("whole", "killed")]
    assert curves[0] == curves[1]
    assert (found.best_epoch, found.best_val_loss) == (expected.best_epoch, expected.best_val_loss)


def test_a_fit_goes_on_with_less_memory_and_begins_anew_with_other_tiles(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = small_sets(tmp_path)

    def save_twice(path: Path, identity: str, done: Progress, *state: Any) -> None:
        save_progress(path, identity, done, *state)
        if done.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_progress", save_twice)
        with pytest.raises(KeyboardInterrupt):
            run(SupervisedToy(), (train, val), tmp_path / "run", epochs=5)
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    others = [
        TileDataset(one.samples, defects=one.defects, geometry=replace(GEOMETRY, overlap_px=8), color=one.color)
        for one in (train, val)
    ]
    with caplog.at_level("INFO"):
        run(SupervisedToy(), (others[0], others[1]), tmp_path / "other", epochs=5)
        assert "the fit begins anew" in caplog.text
        caplog.clear()
        run(SupervisedToy(), (train, val), tmp_path / "run", epochs=5, cache_mb=1)
        assert "going on after epoch 2" in caplog.text


def test_a_loss_that_is_no_number_ends_the_fit_and_keeps_the_last_weights(tmp_path: Path) -> None:
    sets = small_sets(tmp_path)
    with pytest.raises(InputError, match=r"fit: the loss is nan in epoch 3, step 2 of 4; .*the weights of epoch 2"):
        run(SupervisedToy(break_at=10), sets, tmp_path / "run", epochs=5)
    with safe_open(tmp_path / "run" / RESUME_FILE, framework="pt") as stored:
        assert stored.get_tensor("now.detector.linear.weight").isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_epochs": 3}, r"trainer\.warmup_epochs: expected fewer than the 3 epochs, got 3"),
        ({"clip_norm": 0.0}, r"trainer\.clip_norm: expected a number above 0, or null, got 0"),
        ({"average": 1.0}, r"trainer\.average: expected 0 to below 1, got 1"),
        ({"crop_px": 40}, r"trainer\.crop_px: expected a multiple of 32 from 32 to 4096, got 40"),
        ({"crop_zoom": 1.5}, r"trainer\.crop_zoom: expected 0 to 1, got 1\.5"),
        ({"crop_stretch": -0.1}, r"trainer\.crop_stretch: expected 0 to 1, got -0\.1"),
        ({"opposites": {"a": "b", "b": "c"}}, r"trainer\.opposites: expected each kind in one pair, got 'b' in two"),
        ({"opposites": {"a": "c", "b": "c"}}, r"trainer\.opposites: expected each kind in one pair, got 'c' in two"),
        ({"crop_zoom": 0.2, "crops": "grid"}, r"trainer\.crop_zoom: expected trainer\.crops=random with it, got grid"),
        ({"crop_px": 32, "crops": "grid"}, r"trainer\.crop_px: expected trainer\.crops=random with it, got grid"),
        ({"crops": "some"}, r"trainer\.crops: expected one of random, grid, got 'some'"),
        ({"draws_per_image": 0}, r"trainer\.draws_per_image: expected 1 to 1000, got 0"),
        ({"num_workers": -1}, r"trainer\.num_workers: expected 0 to 1000, got -1"),
        ({"balance": 1.5}, r"trainer\.balance: expected 0 to 1, got 1.5"),
        ({"backbone_rate": -1.0}, r"trainer\.backbone_rate: expected 0 to 1, got -1"),
        ({"marks": {"light": ["a", "b", "c"]}}, r"trainer\.marks: expected light and dark, got light"),
        (
            {"marks": {"light": ["a", "b", "c"], "dark": ["a", "b"]}},
            r"trainer\.marks\.dark: expected 3 kinds, .*, got 2",
        ),
        ({"epochs": 0}, r"trainer\.epochs: expected 1 or more, got 0"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    nothing = TileDataset([], geometry=GEOMETRY, color="gray")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        run(SupervisedToy(), (nothing, nothing), tmp_path, **settings)


def test_what_cannot_be_fitted_is_refused(tmp_path: Path) -> None:
    train, val = small_sets(tmp_path)
    good = TileDataset(train.samples, geometry=GEOMETRY, color=train.color)
    nothing = TileDataset([], geometry=GEOMETRY, color=train.color)
    with pytest.raises(InputError, match=r"expected labelled defective images in train, got none; set data\.fractions"):
        run(SupervisedToy(), (good, val), tmp_path)
    with pytest.raises(InputError, match="expected at least 1 images in VAL that can be learned from, got 0 of 0"):
        run(SupervisedToy(), (train, nothing), tmp_path)
    with pytest.raises(ConfigError, match=r"trainer\.crop_px: expected at most the tile's 32 px, got 64"):
        run(SupervisedToy(), (train, val), tmp_path, crop_px=64)
    with pytest.raises(ConfigError, match=r"trainer\.opposites: expected kinds of the training split, .*got 'burr'"):
        run(SupervisedToy(), (train, val), tmp_path, opposites={"burr": "burr"})
    marks = {"light": ["burr"] * 3, "dark": ["burr"] * 3}
    with pytest.raises(ConfigError, match=r"trainer\.marks: expected kinds of the training split, .*got 'burr'"):
        run(SupervisedToy(), (train, val), tmp_path, marks=marks)
    marks = {tone: [train.defects[0].kind] * 3 for tone in ("light", "dark")}
    with pytest.raises(InputError, match=r"trainer\.marks: expected labelled defects on products of two tones"):
        run(SupervisedToy(), (train, val), tmp_path, marks=marks)
    squashed = Geometry(mode=GeometryMode.RESIZE, height=32, width=32)
    bare = tuple(replace(one, mask_path=None, boxes=()) for one in train.defects)
    unplaced = TileDataset(train.samples, defects=bare, geometry=squashed, color=train.color)
    with pytest.raises(InputError, match=rf"trainer\.crop_px: expected boxes or masks .* got {len(bare)} defective"):
        run(SupervisedToy(), (unplaced, val), tmp_path, crop_px=32)
    with pytest.raises(ConfigError, match=r"model\.kinds: expected the kinds of the training split, got none"):
        run(SupervisedToy(()), (train, val), tmp_path)
    with pytest.raises(ConfigError, match="Toy does not learn from labels, expected another trainer"):
        run(Toy(), (train, val), tmp_path)
    fabric = Fabric(accelerator="cpu", devices=1)
    with pytest.raises(ConfigError, match="does not learn by gradient, expected trainer=supervised"):
        gradient.fit(SupervisedToy(), train, val, fabric=fabric, run_dir=tmp_path)  # type: ignore[arg-type]
