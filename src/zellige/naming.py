"""A finished run and labelled defects make a run that names what it finds: what scripts/name_kinds.py does."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from lightning_fabric import Fabric
from omegaconf import OmegaConf

from zellige.config_data import to_pixel_size
from zellige.config_kind_rules import to_kind_rules
from zellige.config_naming import NamingConfig
from zellige.core.errors import ConfigError, InputError
from zellige.core.kind_rules import check_kind_rules, check_units
from zellige.core.types import Calibration, Rate, Sample
from zellige.data.dataset import TileDataset
from zellige.data.named_defects import read_named_defects
from zellige.data.supervised_tiles import kinds_of
from zellige.evaluation.limits import NOT_SHOWN
from zellige.export.build_bundle import Optics
from zellige.finished_run import CHECKPOINT, FinishedRun
from zellige.models.named_detector import NamedDetector
from zellige.run_folder import git_commit, write_json
from zellige.training.checkpoint import save_checkpoint
from zellige.training.frame_output import kinds_of as trained_kinds
from zellige.training.learn_names import LearnedNames, learn_names

log = logging.getLogger(__name__)

NAMES_FILE = "names.json"
_TARGET = f"{NamedDetector.__module__}.{NamedDetector.__qualname__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Labelled defects to learn names from: where they are from, and how many were left out for which reason."""

    source: str
    samples: tuple[Sample, ...]
    kinds: tuple[str, ...]
    left_out: Mapping[str, int]


def find_examples(settings: NamingConfig, run: FinishedRun) -> Examples:
    """Read the labelled defects, or take those of the run's training split, and settle the kinds.

    Raises:
        InputError: none, of fewer than two kinds, none of a kind that was asked for; see `read_named_defects`.
    """
    if settings.defects is None:
        source, samples, left_out = "the run's training split", run.splits.train_defects, dict[str, int]()
    else:
        data = run.config.data
        found = read_named_defects(
            Path(settings.defects),
            run.splits,
            pixel_size=to_pixel_size(data.pixel_size_mm),
            on_bad=settings.on_bad or data.on_bad,
        )
        source, samples, left_out = settings.defects, found.samples, dict(found.left_out)
        sizes = {sample.pixel_size for sample in (*samples, *run.splits.val)}
        if len(sizes) > 1:
            raise InputError(
                f"defects {source}: expected the pixel size of the run, {run.splits.val[0].pixel_size}, got "
                f"{next(s.pixel_size for s in samples if s.pixel_size != run.splits.val[0].pixel_size)}"
            )
    known = kinds_of(samples)
    if not known:
        raise InputError(
            f"names: expected labelled defects in {source}, got none; give defects=FOLDER with a folder of each kind"
        )
    missing = [kind for kind in settings.kinds if kind not in known]
    if missing:
        raise InputError(f"kinds: expected some of {', '.join(known)}, of which there are examples, got {missing[0]}")
    kinds = settings.kinds or known
    if len(kinds) < 2:
        raise InputError(f"names: expected examples of at least two kinds in {source}, got {', '.join(kinds)} alone")
    return Examples(source=source, samples=samples, kinds=tuple(kinds), left_out=left_out)


def name_detector(settings: NamingConfig, run: FinishedRun, examples: Examples) -> NamedDetector:
    """Put a head that knows no kind yet onto the run's detector; the run's settings then say so, and have the rules.

    Raises:
        ConfigError: a detector that names already, a setting out of range, rules that do not fit the kinds.
    """
    known = trained_kinds(run.detector)
    if known:
        raise ConfigError(
            f"run {run.folder}: expected a run that names nothing, got one that names {', '.join(known)}; "
            "give the run that it was made from"
        )
    config = run.config
    head: dict[str, Any] = {"kinds": list(examples.kinds), "least_confidence": settings.least_confidence}
    detector = NamedDetector(detector=run.detector, **head)
    rules = to_kind_rules(settings.kind_rules)
    check_kind_rules(rules, detector.kinds)
    check_units(rules, is_calibrated=all(sample.pixel_size is not None for sample in run.splits.val))
    inner = {key: value for key, value in vars(config.model).items() if key != "name"}
    config.model = SimpleNamespace(name=config.model.name, _target_=_TARGET, detector=inner, **head)
    config.calibration.kind_rules = settings.kind_rules
    return detector


def learn(
    settings: NamingConfig,
    run: FinishedRun,
    detector: NamedDetector,
    examples: Examples,
    optics: Optics,
    *,
    fabric: Fabric,
    run_dir: Path,
) -> LearnedNames:
    """Let the head learn, and store the detector and names.json in the new run's folder.

    Raises:
        InputError: too few examples of a kind, or one that cannot be read.
    """
    dataset = TileDataset(examples.samples, geometry=optics.geometry, color=optics.color)
    learned = learn_names(
        detector,
        dataset,
        fabric=fabric,
        pixel_threshold=run.calibration.pixel_threshold,
        known_share=settings.known_share,
        batch_size=run.config.engine.batch_size,
    )
    for reason, count in learned.left_out.items():
        log.warning("names: %d images are left out, %s", count, reason)
    save_checkpoint(detector, run_dir / CHECKPOINT)
    write_json(run_dir / NAMES_FILE, learned.to_json())
    return learned


def save_settings(run: FinishedRun, runs_dir: Path, name: str, run_dir: Path) -> dict[str, Any]:
    """Write config.yaml, the run's with the head and the rules, and return its content."""
    settings = OmegaConf.merge(
        OmegaConf.load(run.folder / "config.yaml"),
        {"run_name": name, "runs_dir": str(runs_dir), "data": {"on_bad": run.config.data.on_bad}},
    )
    settings.model = vars(run.config.model)
    settings.calibration.kind_rules = [vars(rule) for rule in run.config.calibration.kind_rules]
    OmegaConf.save(settings, run_dir / "config.yaml")
    return cast(dict[str, Any], OmegaConf.to_container(settings))


def with_rules(run: FinishedRun) -> Calibration:
    """The run's operating point with rules of kinds.

    Rules can only turn REJECT into ACCEPT, so what was shown of false rejects stays, of escapes it does not.
    """
    calibration, config = run.calibration, run.config.calibration
    rules = to_kind_rules(config.kind_rules)
    if not rules or config.escape_rate is None:
        return replace(calibration, kind_rules=rules)
    claim = f"{NOT_SHOWN}: escape_rate <= {config.escape_rate:g} with rules of kinds, which VAL was not asked about"
    return replace(calibration, kind_rules=rules, guarantee=f"{claim}; without them: {calibration.guarantee}")


def lineage(
    name: str, run: FinishedRun, examples: Examples, learned: LearnedNames
) -> tuple[dict[str, str], dict[str, Any]]:
    """What a report says of who the new run is: its identity in words, its origin with it, and the origin as values."""
    bundle = run.report["run"]["bundle"]
    counts = ", ".join(f"{kind} {count}" for kind, count in learned.counts.items())
    out = sum(examples.left_out.values()) + sum(learned.left_out.values())
    inherited = {key: text for key, text in run.report["run"].items() if key in ("backbone", "backbone stages")}
    identity = {
        "name": name,
        "data fingerprint": run.splits.fingerprint,
        "git commit": git_commit() or "none",
        **inherited,
        "names run": run.name,
        "names bundle": str(bundle),
        "kinds": ", ".join(examples.kinds),
        "names from": f"{examples.source}: {counts}; {out} left out",
        "held-out examples named": f"{_words(learned.right)} right, {_words(learned.unknown)} unknown",
    }
    told = {key: value for key, value in learned.to_json().items() if key != "held_out_pairs"}
    origin = {"parent": run.name, "parent_bundle": bundle, "source": examples.source}
    return identity, {**origin, "not_read": dict(examples.left_out), **told}


def unnamed_kinds(run: FinishedRun, examples: Examples) -> list[str]:
    """Kinds that TEST shows and of which there are no examples: at best they are called unknown."""
    return [kind for kind in kinds_of(run.splits.test) if kind not in examples.kinds]


def _words(value: Rate) -> str:
    return f"{round(value.value * value.n)} of {value.n}"
