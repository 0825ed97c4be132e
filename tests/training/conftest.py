"""One small detector fitted in this process, with its data."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from tests.conftest import make_image_set
from zellige.core.types import Geometry, GeometryMode, Splits
from zellige.data.dataset import TileDataset
from zellige.data.index import Fractions, load_splits
from zellige.models.patchcore import PatchCore
from zellige.training.one_pass import FitReport, fit

GEOMETRY = Geometry(mode=GeometryMode.TILES, height=64, width=64, overlap_px=16)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    detector: PatchCore
    report: FitReport
    splits: Splits
    run_dir: Path
    fabric: Fabric

    def dataset(self, split: str) -> TileDataset:
        return TileDataset(getattr(self.splits, split), geometry=GEOMETRY, color=self.splits.color)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    root = tmp_path_factory.mktemp("fitted")
    splits, _ = load_splits(make_image_set(root / "images"), "folder", Fractions(), seed=0)
    torch.set_num_threads(1)
    fabric = Fabric(accelerator="cpu", devices=1)
    detector = PatchCore(bank_size=128)
    train, val = (TileDataset(part, geometry=GEOMETRY, color=splits.color) for part in (splits.train, splits.val))
    report = fit(detector, train, val, fabric=fabric, run_dir=root, batch_size=8, seed=0)
    return Fitted(detector=detector, report=report, splits=splits, run_dir=root, fabric=fabric)
