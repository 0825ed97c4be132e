"""Samples with their templates for a detector that compares, and without them for one that does not."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from zellige.core.errors import InputError
from zellige.core.image_files import read_sample
from zellige.core.progress import progress
from zellige.core.tiling import lay_out
from zellige.core.types import Geometry, Registration, Sample, Splits

_NUM_NAMED = 20


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


def check_templates_fit(splits: Splits, geometry: Geometry) -> None:
    """Register every template once, where they are registered: found now is found before the fit, not after it.

    Raises:
        InputError: templates that do not fit their images; see `zellige.core.registration.find_shift`.
    """
    samples = [sample for part in splits.labelled().values() for sample in part if sample.template_path is not None]
    if geometry.registration is Registration.NONE or not samples:
        return

    def problem(sample: Sample) -> str:
        try:
            lay_out(read_sample(sample, color=splits.color), geometry)
        except InputError as error:
            return str(error)
        return ""

    bad = []
    with progress("registering templates", len(samples)) as advance:
        pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
        try:
            for sample, reason in zip(samples, pool.map(problem, samples), strict=True):
                bad += [(sample.id, reason)] if reason else []
                advance()
        finally:
            pool.shutdown(cancel_futures=True)
    if bad:
        names = ", ".join(name for name, _ in bad[:_NUM_NAMED]) + (", ..." if len(bad) > _NUM_NAMED else "")
        raise InputError(
            f"{len(bad)} of {len(samples)} images do not fit their templates ({names}), first: {bad[0][1]}; raise "
            "geometry.search_px or take them out of the manifest"
        )


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
