"""scripts/train.py with a screen: learned, shown, in the bundle; left out where it was not shown."""

import json
from pathlib import Path

import numpy as np

from tests.conftest import Programs, make_image_set, save_image, texture, train_arguments
from tests.evaluation.conftest import Piece, write_predictions
from zellige.config_screen import ScreenConfig
from zellige.core.bundle import read_bundle
from zellige.core.types import Calibration, Color, Geometry, GeometryMode, Sample, Splits
from zellige.screening import screen_members, settle_screen
from zellige.station.cli import main

SETTINGS = ("screen=cells", "screen.quantile=1", "screen.margin=0.3", "screen.max_loss=0.6", "tracking.enabled=false")


def test_a_screen_that_was_shown_is_in_the_bundle(programs: Programs, tmp_path: Path) -> None:
    make_image_set(tmp_path / "images")
    ended = programs.run("train.py", *train_arguments(tmp_path, "screened", *SETTINGS))
    assert ended.code == 0, ended.err
    run = tmp_path / "runs" / "screened"
    report, bundle = json.loads((run / "report.json").read_text()), read_bundle(run / "screened.zellige")
    proof = report["screen"]
    assert proof["is_on"] is True
    # One image may count as lost: for each of its regions every tile that holds the peak must be passed.
    assert proof["num_lost"] == len(proof["lost"]) <= proof["num_regions_lost"] <= 1
    assert proof["num_found"] == sum(row["reject"] + row["undecided"] for row in report["by_kind"][1:]) > 4
    assert proof["bound"] <= 0.6
    assert report["run"]["screen"] == proof["words"]
    assert proof["words"].startswith(f"on: {proof['num_lost']} of {proof['num_found']}")
    assert bundle.members["screen.json"] == (run / "screen.json").read_bytes()
    assert bundle.report["screen"] == proof
    images = [str(tmp_path / "images" / "test" / kind) for kind in ("good", "hole")]
    assert main(["inspect", str(run / "screened.zellige"), *images, "--out", str(tmp_path / "out"), "--screen"]) == 1
    ended = programs.run("export.py", f"run={run}")  # refuses a bundle of another id
    assert ended.code == 0, ended.err


def test_a_screen_that_was_not_shown_is_left_out(tmp_path: Path) -> None:
    """Five images without a loss show at most 45 %; 5 % was asked for."""
    train = []
    for seed in range(3):
        save_image(tmp_path / f"train{seed}.png", texture(seed))
        path = tmp_path / f"train{seed}.png"
        train.append(Sample(id=path.name, image_path=path, kind="good", group_id=path.name))
    hole = np.zeros((96, 112), np.float32)
    hole[40, 40] = 0.9
    test = write_predictions(tmp_path / "p", "test", [Piece(kind="hole", score=0.9, anomaly_map=hole)] * 5)
    for sample in test.samples:
        pixels = texture(9)
        pixels[36:44, 36:44] = 255
        save_image(sample.image_path, pixels)
    calibration = Calibration(
        pixel_threshold=0.5, reject_score=0.8, accept_score=0.8, fitted_on="v", target="t", guarantee="g"
    )
    splits = Splits(train=tuple(train), val=(), test=test.samples, color=Color.GRAY, fingerprint="f")
    geometry = Geometry(mode=GeometryMode.TILES, height=64, width=64)
    for max_loss, is_on in ((0.05, False), (0.46, True)):
        found = settle_screen(
            ScreenConfig(method="cells", max_loss=max_loss),
            splits,
            [test],
            calibration,
            geometry=geometry,
            run_dir=tmp_path,
        )["screen"]
        assert (found["is_on"], found["num_found"], found["num_lost"]) == (is_on, 5, 0)
        assert bool(screen_members(tmp_path)) is is_on
    assert settle_screen(ScreenConfig(), splits, [test], calibration, geometry=geometry, run_dir=tmp_path) == {}
