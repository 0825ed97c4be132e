"""scripts/name_kinds.py on a finished run, from a folder of a few labelled defects to verdicts with names."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import HEIGHT, WIDTH, Ended, Programs, TrainedRun, save_image, texture
from tests.pipeline.test_extend import contents
from zellige.config_kind_rules import KindRuleConfig
from zellige.config_naming import NamingConfig
from zellige.core.bundle import read_bundle
from zellige.core.errors import ConfigError, InputError
from zellige.core.image_files import read_frame
from zellige.core.types import Color, Decision
from zellige.finished_run import FinishedRun, open_run
from zellige.naming import find_examples, name_detector, with_rules
from zellige.station.runtime import Runtime, inspect

LEVELS = {"hole": 255, "stain": 30}
RULES = "kind_rules=[{kind: stain, severity: minor}]"


def write_defects(folder: Path, kinds: dict[str, int], seed: int = 7000) -> Path:
    """Squares of 14 px, bright or dark; so many images of each kind, and one good image."""
    for kind, count in kinds.items():
        for index in range(count):
            pixels = texture(seed + index + 100 * LEVELS[kind])
            y, x = 8 + 13 * index % (HEIGHT - 30), 10 + 17 * index % (WIDTH - 30)
            pixels[y : y + 14, x : x + 14] = LEVELS[kind]
            save_image(folder / kind / f"{index:02}.png", pixels)
    save_image(folder / "good/00.png", texture(seed))
    return folder


@dataclass(frozen=True, kw_only=True)
class Named:
    folder: Path
    ended: Ended
    parent: Path
    parent_before: dict[str, str]

    @property
    def report(self) -> dict[str, Any]:
        report = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        assert isinstance(report, dict)
        return report

    @property
    def bundle(self) -> Path:
        return self.folder / f"{self.folder.name}.zellige"


def decisions(run: Path) -> list[tuple[str, ...]]:
    with (run / "predictions.csv").open(encoding="utf-8") as file:
        return [(row["id"], row["decision"], row["score"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def named(programs: Programs, trained_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Named:
    """The trained run with names for holes, which TEST shows, and for stains, which it does not."""
    root, before = tmp_path_factory.mktemp("names"), contents(trained_run.folder)
    defects = write_defects(root / "defects", {"hole": 5, "stain": 5})
    shown = trained_run.data / "test/hole/00.png"
    (defects / "hole/of_test.png").write_bytes(shown.read_bytes())
    arguments = [f"run={trained_run.folder}", f"defects={defects}", "run_name=named", f"runs_dir={root}", RULES]
    ended = programs.run("name_kinds.py", *arguments)
    assert (ended.code, ended.err) == (0, "")
    return Named(folder=root / "named", ended=ended, parent=trained_run.folder, parent_before=before)


def test_verdicts_and_operating_point_are_the_parents(named: Named) -> None:
    assert decisions(named.folder) == decisions(named.parent)
    parent = json.loads((named.parent / "report.json").read_text())
    rules = named.report["calibration"].pop("kind_rules")
    ours, theirs = (dict(report["calibration"], kind_rules=[]) for report in (named.report, parent))
    assert ours == theirs
    assert [(rule["kind"], rule["severity"]) for rule in rules] == [("stain", "minor")]
    assert contents(named.parent) == named.parent_before


def test_the_report_says_what_was_learned_from_what(named: Named) -> None:
    naming = named.report["naming"]
    assert (naming["parent"], naming["examples"]) == (named.parent.name, {"hole": 5, "stain": 5})
    assert naming["not_read"] == {"good": 1, "of a piece that test shows": 1}
    assert named.report["run"]["names run"] == named.parent.name
    assert named.report["kinds"]["names"] == ["hole", "stain"]
    assert named.report["kinds"]["named_right"]["value"] == 1  # of the six holes of TEST
    assert naming["held_out"]["right"]["value"] >= 0.8


def test_the_station_names_and_a_minor_kind_is_accepted_and_listed(named: Named, tmp_path: Path) -> None:
    bundle = read_bundle(named.bundle)
    assert bundle.manifest.kinds == ("hole", "stain")
    runtime = Runtime(bundle, num_threads=1)
    found = write_defects(tmp_path, {"hole": 2, "stain": 2}, seed=8000)
    for kind, decision in (("hole", Decision.REJECT), ("stain", Decision.ACCEPT)):
        for path in sorted((found / kind).iterdir()):
            verdict = inspect(runtime, read_frame(path, color=Color.GRAY, pixel_size=None))
            assert verdict.score > bundle.manifest.calibration.reject_score
            assert (verdict.decision, {defect.kind for defect in verdict.defects}) == (decision, {kind}), path


def test_the_graph_names_as_torch_does(named: Named) -> None:
    detector, runtime = open_run(named.folder).detector.eval(), Runtime(read_bundle(named.bundle), num_threads=1)
    tile = np.full((1, 1, 64, 64), 128, np.uint8)
    tile[..., 10:24, 8:22], tile[..., 40:54, 36:50] = 255, 30
    with torch.inference_mode():
        ours = detector(torch.from_numpy(tile))
    kind_map, score = runtime.session.run(["kind_map", "score"], {"images": tile})
    assert (kind_map == ours.kind_map.numpy()).all()
    assert score == pytest.approx(ours.score.numpy(), rel=1e-4)
    assert "the same kinds of defects with an IoU of at least" in named.report["run"]["parity"]


def test_it_exports_the_same_bytes_and_is_neither_named_again_nor_extended(programs: Programs, named: Named) -> None:
    written = named.bundle.read_bytes()
    ended = programs.run("export.py", f"run={named.folder}")
    assert (ended.code, ended.err) == (0, "")
    assert named.bundle.read_bytes() == written
    again = programs.run("name_kinds.py", f"run={named.folder}", f"defects={named.folder.parent / 'defects'}")
    assert "expected a run that names nothing, got one that names hole, stain" in again.mistake()
    extended = programs.run("extend.py", f"run={named.folder}", f"data={named.folder.parent / 'defects/good'}")
    assert "expected a detector that can take in more images, got NamedDetector" in extended.mistake()


@pytest.fixture(scope="module")
def run(trained_run: TrainedRun) -> FinishedRun:
    return open_run(trained_run.folder)


def no_good_folder(root: Path, settings: NamingConfig) -> None:
    settings.defects = str(root / "nowhere")


def good_alone(root: Path, settings: NamingConfig) -> None:
    save_image(root / "defects/good/0.png", texture(1))


def one_kind(root: Path, settings: NamingConfig) -> None:
    write_defects(root / "defects", {"hole": 2})


def none_of_a_kind(root: Path, settings: NamingConfig) -> None:
    write_defects(root / "defects", {"hole": 2, "stain": 2})
    settings.kinds = ["hole", "dent"]


def a_broken_image(root: Path, settings: NamingConfig) -> None:
    write_defects(root / "defects", {"hole": 2, "stain": 2})
    (root / "defects/hole/broken.png").write_bytes(b"no image")


def another_color(root: Path, settings: NamingConfig) -> None:
    write_defects(root / "defects", {"hole": 2, "stain": 2})
    save_image(root / "defects/stain/rgb.png", texture(3, rgb=True))


def splits(root: Path, settings: NamingConfig) -> None:
    save_image(root / "defects/train/hole/0.png", texture(2))


def none_in_train(root: Path, settings: NamingConfig) -> None:
    settings.defects = None


def a_rule_without_its_kind(root: Path, settings: NamingConfig) -> None:
    write_defects(root / "defects", {"hole": 2, "stain": 2})
    settings.kind_rules = [KindRuleConfig(kind="dent", severity="critical")]


def a_rule_in_mm(root: Path, settings: NamingConfig) -> None:
    write_defects(root / "defects", {"hole": 2, "stain": 2})
    settings.kind_rules = [KindRuleConfig(kind="hole", min_length_mm=2)]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_good_folder, "expected a folder of images, it does not exist"),
        (good_alone, "expected labelled defects, got none among 1 images"),
        (one_kind, "expected examples of at least two kinds in .*, got hole alone"),
        (none_of_a_kind, "kinds: expected some of hole, stain, of which there are examples, got dent"),
        (a_broken_image, "1 of 5 images cannot be used"),
        (another_color, "expected .*color|three equal|gray"),
        (splits, "expected images without splits"),
        (none_in_train, "expected labelled defects in the run's training split, got none; give defects=FOLDER"),
        (a_rule_without_its_kind, "expected one of hole, stain, unknown, got kind 'dent'"),
        (a_rule_in_mm, "expected a calibrated pixel size, got none"),
    ],
)
def test_what_cannot_be_named_is_one_line(
    run: FinishedRun, tmp_path: Path, spoil: Callable[[Path, NamingConfig], None], words: str
) -> None:
    settings = NamingConfig(run=str(run.folder), defects=str(tmp_path / "defects"))
    spoil(tmp_path, settings)
    with pytest.raises((InputError, ConfigError), match=words) as caught:
        name_detector(settings, run, find_examples(settings, run))
    assert "\n" not in str(caught.value)


def test_a_cap_on_escapes_is_not_shown_with_rules(run: FinishedRun) -> None:
    capped = open_run(run.folder)
    capped.config.calibration.escape_rate = 0.1
    assert with_rules(capped) == capped.calibration
    capped.config.calibration.kind_rules = [KindRuleConfig(kind="stain", severity="minor")]
    assert with_rules(capped).guarantee.startswith("NOT SHOWN: escape_rate <= 0.1 with rules of kinds")
    assert with_rules(capped).guarantee.endswith(run.calibration.guarantee)
