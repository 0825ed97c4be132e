"""Names for what a one-class detector finds: learned from few examples, the same every time, silent on what is new."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from tests.conftest import save_image, texture
from zellige.core.errors import ConfigError, InputError
from zellige.core.named import UNKNOWN_KIND, KindMap
from zellige.core.regions import find_defects
from zellige.core.types import Color, Geometry, GeometryMode, LabelledBox, Sample
from zellige.data.dataset import TileDataset
from zellige.models.kind_head import KindHead
from zellige.models.named_detector import NamedDetector
from zellige.models.patchcore import PatchCore
from zellige.models.segmenter import Segmenter
from zellige.training.learn_names import LearnedNames, learn_names

TILE, SIDE = 128, 48
KINDS = ("bright", "dark")
GEOMETRY = Geometry(mode=GeometryMode.RESIZE, height=TILE, width=TILE)
FABRIC = Fabric(accelerator="cpu", devices=1)


def spoilt(kind: str, seed: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A texture with a square of 48 px, and its box; a strange one is a checkerboard."""
    pixels = texture(seed, size=(TILE, TILE))
    y, x = np.random.default_rng(seed).integers(8, TILE - SIDE - 8, 2)
    checks = 255 * (np.indices((SIDE, SIDE)).sum(0) // 3 % 2).astype(np.uint8)
    pixels[y : y + SIDE, x : x + SIDE] = {"bright": 255, "dark": 0, "strange": checks}[kind]
    return pixels, (x, y, x + SIDE, y + SIDE)


def sample(folder: Path, kind: str, seed: int, *, place: str = "mask") -> Sample:
    pixels, box = spoilt(kind, seed)
    path, mask_path = folder / f"{kind}{seed}.png", None
    save_image(path, pixels)
    if place == "mask":
        mask_path = folder / f"{kind}{seed}_mask.png"
        mask = np.zeros_like(pixels)
        mask[box[1] : box[3], box[0] : box[2]] = 255
        save_image(mask_path, mask)
    boxes = (LabelledBox(kind=kind, box_px=box),) if place == "box" else ()
    return Sample(id=path.name, image_path=path, kind=kind, group_id=path.name, mask_path=mask_path, boxes=boxes)


def images(*pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)[:, None])


@pytest.fixture(scope="module")
def finder() -> PatchCore:
    torch.set_num_threads(1)
    detector = PatchCore(bank_size=128).eval()
    with torch.inference_mode():
        detector.build([detector.embed(images(*(texture(seed, size=(TILE, TILE)) for seed in range(8))))])
    return detector


@pytest.fixture(scope="module")
def level(finder: PatchCore) -> float:
    """A pixel threshold: the highest level of good images."""
    with torch.inference_mode():
        return float(finder(images(*(texture(s, size=(TILE, TILE)) for s in range(20, 26)))).anomaly_map.max())


def learned_from(
    finder: PatchCore, level: float, folder: Path, counts: tuple[int, int] = (10, 10), place: str = "mask"
) -> tuple[NamedDetector, LearnedNames]:
    samples = [
        sample(folder, kind, 100 * n + i, place=place)
        for n, (kind, count) in enumerate(zip(KINDS, counts, strict=True), 1)
        for i in range(count)
    ]
    detector = NamedDetector(detector=finder, kinds=KINDS)
    data = TileDataset(samples, geometry=GEOMETRY, color=Color.GRAY)
    return detector, learn_names(detector, data, fabric=FABRIC, pixel_threshold=level)


@pytest.fixture(scope="module")
def named(finder: PatchCore, level: float, tmp_path_factory: pytest.TempPathFactory) -> NamedDetector:
    return learned_from(finder, level, tmp_path_factory.mktemp("defects"))[0]


def said(detector: NamedDetector, kind: str, seed: int, level: float) -> str:
    """The kind of the worst region of a new image."""
    with torch.inference_mode():
        output = detector(images(spoilt(kind, seed)[0]))
    kinds = KindMap(numbers=output.kind_map[0, 0].numpy(), kinds=detector.kinds)
    return find_defects(output.anomaly_map[0, 0].numpy(), pixel_threshold=level, kind_map=kinds)[0].kind


def test_new_defects_are_named_and_strange_ones_are_not(named: NamedDetector, level: float) -> None:
    """Of what is known one in twenty is to be called unknown, and none by the other name."""
    known = {(kind, seed): said(named, kind, seed, level) for kind in KINDS for seed in range(900, 904)}
    assert sum(name == kind for (kind, _), name in known.items()) >= 7
    assert all(name in (kind, UNKNOWN_KIND) for (kind, _), name in known.items())
    assert [said(named, "strange", seed, level) for seed in range(950, 953)] == [UNKNOWN_KIND] * 3


@pytest.mark.parametrize("place", ["box", "nowhere"])
def test_boxes_do_and_so_does_what_the_detector_finds(
    finder: PatchCore, level: float, tmp_path: Path, place: str
) -> None:
    detector, learned = learned_from(finder, level, tmp_path, place=place)
    assert learned.counts == {"bright": 10, "dark": 10}
    assert [said(detector, kind, 930, level) for kind in KINDS] == list(KINDS)


def test_score_and_map_are_those_without_names_to_the_bit(named: NamedDetector, finder: PatchCore) -> None:
    shown = images(texture(40, size=(TILE, TILE)), spoilt("dark", 41)[0])
    with torch.inference_mode():
        ours, plain = named(shown), finder(shown)
    assert torch.equal(ours.score, plain.score)
    assert torch.equal(ours.anomaly_map, plain.anomaly_map)
    assert (ours.kind_map.shape, ours.kind_map.dtype) == ((2, 1, TILE, TILE), torch.uint8)


def test_the_same_examples_give_the_same_head(
    named: NamedDetector, finder: PatchCore, level: float, tmp_path: Path
) -> None:
    again, _ = learned_from(finder, level, tmp_path)
    state, other = named.head.state_dict(), again.head.state_dict()
    assert all(torch.equal(state[key], other[key]) for key in state)


def test_the_head_is_a_discriminant_analysis() -> None:
    """Against numpy: Mahalanobis distances with the pooled covariance, its correlations shrunken by a half."""
    rng = np.random.default_rng(0)
    points, kinds = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4)) + 3, np.arange(60) % 3
    weights = rng.uniform(0.5, 2, 60)
    head = KindHead([4], 3, 0.5)
    head.learn(torch.from_numpy(points).float(), torch.from_numpy(kinds), torch.from_numpy(weights), 0.5)
    means = np.stack([np.average(points[kinds == k], axis=0, weights=weights[kinds == k]) for k in range(3)])
    off = points - means[kinds]
    pooled = (off * weights[:, None]).T @ off / weights.sum()
    variances = np.diag(pooled)
    shrunken = 0.5 * (pooled - np.diag(variances)) + np.diag(variances + 0.01 * variances.mean())
    gaps = points[:, None] - means
    expected = np.einsum("nki,ij,nkj->nk", gaps, np.linalg.inv(shrunken), gaps)
    assert head.distances(torch.from_numpy(points).float()).numpy() == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_too_few_examples_are_refused(finder: PatchCore, level: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="from at least 3 images that do not belong together, got dark 1"):
        learned_from(finder, level, tmp_path, counts=(5, 1))
    with pytest.raises(InputError, match="got bright 0, dark 0; 20 left out: nothing was found in them"):
        learned_from(finder, 1e6, tmp_path, place="nowhere")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: NamedDetector(detector=f, kinds=["hole"]), "expected at least two to tell apart, got hole"),
        (lambda f: NamedDetector(detector=f, kinds=["hole", "good"]), "expected up to 255 names of defects"),
        (lambda f: NamedDetector(detector=f, kinds=KINDS, least_confidence=2), "least_confidence: expected 0 to 1"),
        (lambda f: NamedDetector(detector=Segmenter(kinds=KINDS), kinds=KINDS), "names nothing, got Segmenter"),
    ],
)
def test_settings_that_cannot_be(finder: PatchCore, make, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(finder)
