"""From the settings of a comparison to its training runs: which candidates, how each differs, what each is called."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zellige.config import PROJECT, CompareConfig, TrainConfig
from zellige.core.errors import ConfigError
from zellige.evaluation.recommendation import Budget
from zellige.program import one_line
from zellige.run_folder import check_folder_name, plain_name

MODELS = PROJECT / "configs" / "model"
ALL_MODELS = "all"
OWN_KEYS = ("name", "models", "candidates", "seeds", "budget", "jobs")
_SET_HERE = {
    "run_name": "a comparison names its runs itself; give name=...",
    "seed": "a comparison sets it; give seeds=[...]",
    "folds": "scripts/train.py alone takes it",
}
_MAY_DIFFER_IN_DATA = ("name", "augment", "color")
_MOST_JOBS = 64
_LIST_ARGUMENT = re.compile(r"\+{0,2}(?P<key>models|space|candidates\.[\w.-]+)=\[(?P<items>.*)\]", re.DOTALL)
_NEXT_SETTING = re.compile(r"[\s+]+(?=\+*[A-Za-z_][\w./@]*=)")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Child:
    """One training run of a comparison, as scripts/train.py is to be called for it."""

    candidate: str
    seed: int
    run_name: str
    arguments: tuple[str, ...]
    settings: Mapping[str, Any]
    """Resolved, as the run's config.yaml will hold them."""
    config: TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """All training runs of a comparison; `candidates` holds how each differs, as the user wrote it."""

    name: str
    candidates: Mapping[str, tuple[str, ...]]
    children: tuple[Child, ...]
    budget: Budget
    jobs: int

    def of(self, candidate: str) -> list[Child]:
        """The runs of one candidate, in the order of the seeds."""
        return [child for child in self.children if child.candidate == candidate]


def make_plan(config: CompareConfig, given: Sequence[str]) -> Plan:
    """Compose every run; a mistake in any of them is found before the first one starts.

    Args:
        config: of the comparison.
        given: the overrides that the comparison was called with; all but its own are passed on to each run.

    Raises:
        ConfigError: an unknown model, an empty list, a number out of range, a name that cannot be a folder's, a
            setting that a candidate may not change.
    """
    budget = Budget(**vars(config.budget))
    name = f"{plain_name(config.data.name) or 'data'}-comparison" if config.name is None else config.name
    check_folder_name("name", name)
    check_jobs(config.jobs)
    _check_seeds(config.seeds)
    for key, advice in _SET_HERE.items():
        if any(key_of(text, key) == key for text in given):
            raise ConfigError(f"{key}: {advice}")
    shared = tuple(text for text in given if key_of(text, "comparison").split(".")[0] not in OWN_KEYS)
    candidates = find_candidates(config)
    children = [_child(name, c, own, shared, seed) for c, own in candidates.items() for seed in config.seeds]
    for child in children:
        _check_comparable(child, children[0], config)
    return Plan(name=name, candidates=candidates, children=tuple(children), budget=budget, jobs=config.jobs)


def find_candidates(config: CompareConfig) -> dict[str, tuple[str, ...]]:
    """List the candidates by name with the settings in which they differ, in the user's order.

    `models` entries are a model, or a model with settings (`patchcore+model.stages=[2,3]`); "all" is every model that
    needs no labels. `candidates` names lists of settings. With neither, the one candidate is the model that is set.

    Raises:
        ConfigError: an empty list, a name twice or one that cannot be a folder's, an entry that is not text.
    """
    found: list[tuple[str, tuple[str, ...]]] = []
    for entry in _model_entries(config.models):
        model, *settings = _NEXT_SETTING.split(entry.strip())
        settings = [f"model={model}", *settings]
        found.append((_short_name(settings), tuple(settings)))
    found += [(str(name), tuple(settings)) for name, settings in config.candidates.items()]
    if config.models is None and not config.candidates:
        found = [(str(config.model.name), ())]
    for name, _ in found:
        check_folder_name("candidates: name", name)
        if sum(other == name for other, _ in found) > 1:
            raise ConfigError(f"candidates: expected each name once, got {name} twice")
    return dict(found)


def quote_list(argument: str) -> str:
    """Quote the entries of `models`, `space` and `candidates.NAME=[...]`, which Hydra takes without `=` or in quotes.

    Example:
        >>> quote_list("models=[patchcore,patchcore+model.stages=[2,3]]")
        "models=['patchcore','patchcore+model.stages=[2,3]']"
        >>> quote_list("candidates.fast=[model.bank_size=512]")
        "++candidates.fast=['model.bank_size=512']"
    """
    found = _LIST_ARGUMENT.fullmatch(argument)
    if not found:
        return argument
    entries = [
        entry if entry[:1] in "'\"" else "'" + entry.replace("'", "\\'") + "'" for entry in _split(found["items"])
    ]
    plus = "++" if found["key"].startswith("candidates") else ""
    return f"{plus}{found['key']}=[{','.join(entries)}]"


def _split(items: str) -> list[str]:
    """Split at the commas that are in no bracket and no quotes; a comma after a backslash is a plain one."""
    entries, depth, quote = [""], 0, ""
    for character in items.replace("\\,", ","):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "[{(":
            depth += 1
        elif character in ")}]":
            depth -= 1
        if character == "," and depth == 0 and not quote:
            entries.append("")
        else:
            entries[-1] += character
    return [entry.strip() for entry in entries if entry.strip()]


def _model_entries(models: Any) -> list[str]:
    if models is None:
        return []
    entries = [models] if isinstance(models, str) else models
    if entries == [ALL_MODELS]:
        # Those that learn from labels need data of their own, and most sets have none.
        every = sorted(MODELS.glob("*.yaml"))
        return [path.stem for path in every if ".trainer: supervised" not in path.read_text(encoding="utf-8")]
    if not isinstance(entries, list) or not all(isinstance(entry, str) and entry.strip() for entry in entries):
        raise ConfigError(f"models: expected names of models such as [{_known_models()}], or all, got {models!r}")
    if not entries:
        raise ConfigError(f"models: expected at least one of {_known_models()}, got an empty list")
    unknown = [entry for entry in entries if not (MODELS / f"{_NEXT_SETTING.split(entry.strip())[0]}.yaml").is_file()]
    if unknown:
        raise ConfigError(f"models: expected {ALL_MODELS} or some of {_known_models()}, got {unknown[0]!r}")
    return entries


def _known_models() -> str:
    return ", ".join(sorted(path.stem for path in MODELS.glob("*.yaml")))


def _short_name(settings: Sequence[str]) -> str:
    """Name a candidate by its settings: patchcore-stages_2_3."""
    parts = [text.split("=", 1) for text in settings]
    words = [value if key == "model" else f"{key.rsplit('.', 1)[-1]}={value}" for key, value in parts]
    return "-".join(plain_name(word) for word in words)


def check_jobs(jobs: int) -> None:
    """Refuse a number of runs at a time that is out of range.

    Raises:
        ConfigError: not 1 to 64.
    """
    if not 1 <= jobs <= _MOST_JOBS:
        raise ConfigError(f"jobs: expected 1 to {_MOST_JOBS}, got {jobs}")


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds:
        raise ConfigError("seeds: expected at least one, got an empty list")
    for seed in seeds:
        if not 0 <= seed < 2**32 or list(seeds).count(seed) > 1:
            raise ConfigError(f"seeds: expected different whole numbers from 0 to {2**32 - 1}, got {list(seeds)}")


def _child(name: str, candidate: str, own: Sequence[str], shared: Sequence[str], seed: int) -> Child:
    where = f"candidate {candidate}"
    keys = [key_of(text, where) for text in own]
    for key in keys:
        if key in _SET_HERE:
            raise ConfigError(f"{where}: {key}: {_SET_HERE[key]}")
    # What a candidate sets replaces what all were given; Hydra refuses a group that is chosen twice.
    merged = [text for text in shared if key_of(text, where) not in keys] + list(own)
    run_name = f"{name}-{candidate}-s{seed}"
    check_folder_name(f"{where}: run name", run_name)
    arguments = [*merged, f"seed={seed}", f"run_name={run_name}", "tracking.registered_model=null"]
    composed = compose_run(arguments, where)
    if "seed" in composed.model and "model.seed" not in keys:
        arguments.append(f"model.seed={seed}")
        composed = compose_run(arguments, where)
    try:
        config = cast(TrainConfig, OmegaConf.to_object(composed))
        settings = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {one_line(error)}") from None
    return Child(
        candidate=candidate,
        seed=seed,
        run_name=run_name,
        arguments=tuple(arguments),
        settings=settings,
        config=config,
    )


def compose_run(arguments: Sequence[str], where: str) -> DictConfig:
    """Compose the settings of a training run.

    Raises:
        ConfigError: they are wrong; `where` is who is to blame.
    """
    try:
        return compose("train", list(arguments))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{where}: {one_line(error)}") from None


def key_of(override: str, where: str) -> str:
    """Name the setting or group of an override.

    Raises:
        ConfigError: it is not one.
    """
    try:
        return str(OverridesParser.create().parse_override(override).key_or_group)
    except HydraException as error:
        raise ConfigError(f"{where}: {override}: expected a setting such as model.seed=1 ({one_line(error)})") from None


def _check_comparable(child: Child, first: Child, config: CompareConfig) -> None:
    """Refuse candidates that are not judged on the same images or not kept in the same place."""
    where = f"candidate {child.candidate}"
    for key, value in child.settings["data"].items():
        expected = first.settings["data"][key]
        if key not in _MAY_DIFFER_IN_DATA and value != expected:
            raise ConfigError(f"{where}: data.{key}: expected {expected!r} as of the others, got {value!r}")
    if child.settings["tracking"] != first.settings["tracking"] or Path(child.config.runs_dir) != Path(config.runs_dir):
        raise ConfigError(f"{where}: tracking and runs_dir: expected those of all candidates, got others")
