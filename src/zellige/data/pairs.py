"""Samples with their templates for a detector that compares, and without them for one that does not."""

from dataclasses import replace
from pathlib import Path

from zellige.core.errors import InputError
from zellige.core.types import Sample, Splits


def with_templates(splits: Splits, root: Path) -> Splits:
    """Return the splits of a set whose every sample has a template.

    Raises:
        InputError: a sample has none.
    """
    samples = [sample for part in splits.labelled().values() for sample in part]
    bad = [sample.id for sample in samples if sample.template_path is None]
    if bad:
        raise InputError(
            f"data {root}: expected a template for each image, which this model compares with; {len(bad)} of "
            f"{len(samples)} have none, first {bad[0]}: a manifest names it in its column template"
        )
    return splits


def without_templates(splits: Splits) -> Splits:
    """Return the splits for a detector that looks at images alone."""

    def alone(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        return tuple(replace(sample, template_path=None) for sample in samples)

    return replace(
        splits,
        train=alone(splits.train),
        train_defects=alone(splits.train_defects),
        val=alone(splits.val),
        test=alone(splits.test),
    )
