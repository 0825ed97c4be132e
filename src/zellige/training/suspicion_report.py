"""Write down which training images look least like the others: a list, and a contact sheet of the first."""

import json
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zellige.core.tiling import join
from zellige.core.types import Prediction
from zellige.data.dataset import TileDataset
from zellige.evaluation.contact_sheet import Case, common_scale, draw_sheet, load_case
from zellige.models.detector import Features
from zellige.training.suspicion import Suspicion

LIST_FILE = "suspicious_train.json"
SHEET_FILE = "suspicious_train.png"
NUM_LISTED = 200
NUM_SHOWN = 12
_UNUSUAL = 0.95
"""Quantile of the images' scores above which the sheet outlines a place."""


def most_suspicious(scores: NDArray[np.float64]) -> list[int]:
    """Numbers of all images (N,), the highest score first."""
    return [int(index) for index in np.argsort(-scores, kind="stable")]


def write_suspicious(
    suspicion: Suspicion,
    embed: Callable[[Tensor], Features],
    data: TileDataset,
    run_dir: Path,
    *,
    device: torch.device,
    batch_size: int,
    dropped: Collection[int] = (),
) -> None:
    """Write `suspicious_train.json` and `pictures/suspicious_train.png`; nothing where there is but one image.

    Args:
        suspicion: has seen the features of all images of `data`.
        embed: what made these features of uint8 tiles (B, C, h, w).
        data: the training images.
        run_dir: of the run.
        device: on which `embed` works.
        batch_size: tiles at a time.
        dropped: numbers of the images that the fit did not learn from.
    """
    scores = suspicion.scores()
    if scores is None:
        return
    order, median = most_suspicious(scores), float(np.median(scores))
    facts = {i: f"rank {rank}  ·  {scores[i] / median:.2f} x the median score" for rank, i in enumerate(order, 1)}
    listed = [
        {
            "rank": rank,
            "id": data.samples[i].id,
            "group": data.samples[i].group_id,
            "score": scores[i],
            "times_median": scores[i] / median,
            "learned_from": i not in dropped,
        }
        for rank, i in enumerate(order[:NUM_LISTED], 1)
    ]
    content = {"num_images": len(scores), "num_dropped": len(dropped), "median_score": median, "images": listed}
    (run_dir / LIST_FILE).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    threshold = float(np.quantile(scores, _UNUSUAL))
    cases = [
        _case(i, facts[i] + ("  ·  not learned from" if i in dropped else ""), threshold, suspicion, embed, data,
              device, batch_size)
        for i in order[:NUM_SHOWN]
    ]  # fmt: skip
    (run_dir / "pictures").mkdir(exist_ok=True)
    draw_sheet(
        "Training images that look least like the others",
        f"{len(cases)} of {len(scores)}, each compared with images of other groups alone: is it really good?",
        cases,
        common_scale(cases, threshold),
        run_dir / "pictures" / SHEET_FILE,
    )


def _case(
    index: int,
    facts: str,
    threshold: float,
    suspicion: Suspicion,
    embed: Callable[[Tensor], Features],
    data: TileDataset,
    device: torch.device,
    batch_size: int,
) -> Case:
    """Look at one image again, for its map."""
    tiles = data[index]
    with torch.inference_mode():
        outputs = [
            suspicion.look(embed(part.to(device)), index, part.shape[-2:])
            for part in torch.split(torch.from_numpy(tiles.pixels), batch_size)
        ]
    maps = torch.cat([output.anomaly_map for output in outputs])[:, 0].cpu().numpy()
    score = max(float(output.score.max()) for output in outputs)
    prediction = Prediction(sample=data.samples[index], score=score, anomaly_map=join(maps, tiles))
    return load_case(prediction, facts, threshold)
