"""Write docs/leaderboard.md from what `leaderboard.py` measured."""

from collections.abc import Sequence
from pathlib import Path

import leaderboard_plan as plan
from bench_quality import METRICS
from leaderboard_asked import asked_table, costs_table, parity_words, read_costs
from leaderboard_cells import number, spread, table, words
from leaderboard_duels import duel_table, is_good, size_table
from leaderboard_rows import Measured, measured_sets, read_set, unfinished

INTRODUCTION = f"""# Leaderboard

Made by `python scripts/leaderboard.py --costs`; every number below was measured by it, the bad ones too. Both sides get
the same files, the same EfficientNet-Lite0 weights and, where it says *squashed*, the same 256 x 256 input; raw scores
and maps are judged by the same metrics. *Real* is the image's own scale, cut into overlapping tiles of 224 px, which
the peer has no counterpart for; it is left out for {" and ".join(words(name) for name in plan.SQUASHED_ONLY)}.

The peer is anomalib 2.7.0: PatchCore with coreset ratio 0.01, PaDiM with 100 features, SuperSimpleNet with
{plan.PEER_EPOCHS} epochs instead of 300. Its EfficientAD was not measured: it downloads its teacher and a part of
ImageNet, and works nowhere without a network. Our efficient_ad is planned on
{", ".join(words(name) for name in plan.SLOW_MODELS["efficient_ad"])} only. *The peer's best* is the best of its
fits that are there; planned fits that are missing, on both sides, are named at the end.

Fits on each set: {len(plan.SEEDS)} of ours, but one where nothing is drawn at random ({", ".join(plan.NO_SEED)}, *no
seed*); of the peer's up to {", ".join(f"{most} of {model}" for model, most in plan.PEER_FITS.items())}. Of every
set at most 100 good images are for the fit and 200 for the test. Near-duplicates and rolls are kept in one split.
Brackets hold the 95 % t-interval of the mean over the fits; they say nothing of the choice of images. *Best* is picked
on the test set, on both sides alike, so both are a little too good. Our models' default settings were chosen while
looking at these sets; the peer's were not.

Sets: magnetic tile (Huang, Qiu, Yuan 2020); cookies (AWS Lookout for Vision samples, CC BY-SA 4.0); X-SDD (Feng et al.
2021, Apache-2.0) with the commonest kind as good, no masks; mosaic, steel and fabric from our own generator.
"""
DUELS = """The ± is half of the 95 % interval of the difference. For image AUROC it counts the test images, by groups,
and all fits of both sides; for AUPRO the fits alone. Where a side has one fit its scatter is not in it.
"""
SETS = """Costs here are by-products of the comparison: other work may have run beside it. Fit: the median, s; station:
the median time per frame, ms; memory: the most of any fit, MB; vectors: those in all banks of a detector.
"""
SIZES = "Defective images of a size against all good ones; *best* as above, by the AUROC over all sizes.\n"
COSTS = f"""{words(plan.COSTS_SET).capitalize()} squashed, one fit on an otherwise idle machine, the peer's after ours.
The peer's SuperSimpleNet had {plan.PEER_EPOCHS} of its 300 epochs. An inspection is from the file to the answer; the
peer's is its own OpenVINO inferencer, without its post-processor, on images that were resized to its input. The rows
of a smaller input are our choice of a cheaper detector against the same peer at {plan.FULL_INPUT} px: mind their AUPRO.
"""


def write_page(out: Path, page: Path, bench: Path) -> None:
    """Write the page from the folders that are there; a set that nobody measured is absent from it.

    Args:
        out: where the results are.
        page: the file to write.
        bench: where the sets of `bench_sets.py` are.
    """
    sets = [read_set(out, name, bench / name) for name in measured_sets(out)]
    costs = read_costs(out)
    text = [INTRODUCTION, _made_on(sets), "## Asked and found\n", asked_table(sets, costs)]
    text += ["## Our best against the peer's best\n", DUELS, duel_table(sets, plan.PROTOCOLS)]
    text += ["### The same, both squashed\n", duel_table(sets, plan.PROTOCOLS[:1]), "## Set by set\n", SETS]
    text += [_section(found) for found in sets]
    text += ["## Small defects: image AUROC by the length of the largest drawn defect\n", SIZES, size_table(sets)]
    text += ["## Costs\n", COSTS, costs_table(costs)] if costs else []
    text += [*_left_out(out, sets), *_not_measured(sets)]
    page.write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")


def _made_on(sets: Sequence[Measured]) -> str:
    facts = [fact for found in sets for fact in found.facts]
    machines = sorted({fact["Machine"] for fact in facts})
    commits = sorted({commit for fact in facts for commit in fact["Code (git commit)"].split(":")[0].split(", ")})
    if not facts:
        return "None of our models is measured yet.\n"
    more = " (not the same for all runs)" if len(commits) > 1 else ""
    named = [f"`{commit[:12]}`{' with changes' * commit.endswith('-dirty')}" for commit in commits]
    return f"Machine of our fits: {'; '.join(machines)}. Commit: {', '.join(named)}{more}.\n"


def _section(found: Measured) -> str:
    head = ("model", "fits", "image AUROC", "pixel AUROC", "AUPRO", "fit", "station", "memory", "bundle, MB", "vectors")
    rows = [
        (
            row.name,
            str(row.num_fits),
            *(spread(row.values[key], is_seeded=row.is_seeded) for key in METRICS),
            number(row.costs["fit_s"], 1),
            number(row.costs.get("station_ms"), 0),
            number(row.costs["memory_mb"], 0),
            number(row.costs.get("bundle_mb"), 1),
            number(row.costs["num_vectors"], 0),
        )
        for row in [*found.ours, *found.peers]
    ]
    ids = [*found.ours, *found.peers][0].ids if rows else ()
    good = sum(is_good(i) for i in ids)
    title = f"### {words(found.name)}: {good} good and {len(ids) - good} defective test images\n"
    return "\n".join([title, *_notes(found), table(head, rows)])


def _notes(found: Measured) -> list[str]:
    """What the reports of our runs say of the set and of the exported networks."""
    reports = [report for row in found.ours for report in row.reports]
    if not reports:
        return []
    notes = [
        f"Torch and ONNX Runtime, the same verdicts: {parity_words([str(r['run'].get('parity')) for r in reports])}."
    ]
    shortcut = reports[0].get("data", {}).get("shortcut", {})
    size = shortcut.get("by_feature", {}).get("size")
    if size is not None:
        notes.append(f"Height and width alone reach image AUROC {size:.2f}; all of the files' metadata,")
        notes.append(f"{shortcut['auroc']:.2f}; 0.5 is what a set without this shortcut has.")
    return [" ".join(notes) + "\n"]


def _left_out(out: Path, sets: Sequence[Measured]) -> list[str]:
    lines = [f"- {name}: {why}" for name, why in unfinished(out).items()]
    lines += [f"- {line}" for found in sets for line in found.refused]
    return ["## Left out: failed, unfinished, or made of other files\n", "\n".join(lines)] if lines else []


def _not_measured(sets: Sequence[Measured]) -> list[str]:
    """Name the fits of the plan that no row has, set by set; a set that is absent from the page is not named."""
    lines = []
    for found in sets:
        planned = {f"{m}, {p}": len(plan.seeds_for(m)) for p in plan.PROTOCOLS for m in plan.models_for(found.name, p)}
        planned |= {f"peer: {model}": most for model, most in plan.PEER_FITS.items()}
        made = {row.name: row.num_fits for row in [*found.ours, *found.peers]}
        short = [f"{name} ({made.get(name, 0)} of {n})" for name, n in planned.items() if made.get(name, 0) < n]
        lines += [f"- {words(found.name)}: {'; '.join(short)}"] if short else []
    heading = "\n## Not measured yet: fits that are there, of those planned\n"
    return [heading, "\n".join(lines)] if lines else []
