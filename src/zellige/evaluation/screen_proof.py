"""Show on labelled images that a screen loses no defect that the net would find, or say that it was not shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zellige.core.decision import decide, min_area_in_px
from zellige.core.image_files import read_frame
from zellige.core.regions import find_defects
from zellige.core.screen import Mask, Screen, pick_tiles, shown_pixels
from zellige.core.tiling import Layout, lay_out
from zellige.core.types import Calibration, Color, Decision, Geometry, Prediction
from zellige.evaluation.intervals import pieces_needed, upper_bound
from zellige.evaluation.predictions import PredictionSet


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenProof:
    """What labelled images say of a screen.

    An image is found where it is defective and the net does not accept it. It is lost where the screen passes over any
    tile that holds the highest place of the map, or the highest place of any region: the station decides by the highest
    score of the tiles that it runs, and which of these tiles that score is from is not stored. The bound is about
    images; regions of one image are not independent.
    """

    num_found: int
    lost_ids: tuple[str, ...]
    num_regions: int
    """Regions above the pixel threshold in the images that were found."""
    num_regions_lost: int
    """Those whose highest place lies in a tile that is not passed."""
    num_good_tiles: int
    num_good_passed: int
    """Tiles of good images, and how many of them the net would see."""
    max_loss: float
    confidence: float

    @property
    def bound(self) -> float:
        """The share of found defective images that the screen loses is at most this, one-sided, exact."""
        if self.num_found == 0:
            return 1.0
        return upper_bound(len(self.lost_ids), self.num_found, self.confidence)

    @property
    def is_shown(self) -> bool:
        return self.bound <= self.max_loss

    def in_words(self) -> str:
        """Say what was shown, with n, and what follows from it."""
        lost, n = len(self.lost_ids), self.num_found
        seen = f"{lost} of {n} defective images that the net finds are lost"
        bound = f"at most {100 * self.bound:.2g} % with {100 * self.confidence:g} % confidence"
        passed = f"the net sees {self.num_good_passed} of {self.num_good_tiles} good tiles"
        if self.is_shown:
            return f"on: {seen}, {bound}; {passed}"
        needed = pieces_needed(self.max_loss, allowed=lost, confidence=self.confidence)
        asked = f"asked for {100 * self.max_loss:g} %, which takes {needed} found with {lost} lost"
        return f"OFF, NOT SHOWN: {seen}, {bound}; {asked}; {passed}"

    def to_json(self) -> dict[str, object]:
        """Give the proof as strict JSON values."""
        return {
            "is_on": self.is_shown,
            "num_found": self.num_found,
            "num_lost": len(self.lost_ids),
            "lost": list(self.lost_ids),
            "bound": self.bound,
            "max_loss": self.max_loss,
            "confidence": self.confidence,
            "num_regions": self.num_regions,
            "num_regions_lost": self.num_regions_lost,
            "num_good_tiles": self.num_good_tiles,
            "num_good_passed": self.num_good_passed,
            "words": self.in_words(),
        }


def prove_screen(
    screen: Screen,
    predictions: Sequence[PredictionSet],
    calibration: Calibration,
    *,
    geometry: Geometry,
    color: Color,
    max_loss: float,
    confidence: float,
) -> ScreenProof:
    """Count what the screen would lose on held-out images; it must have been learned without them.

    Args:
        screen: from `training.learn_screen`.
        predictions: VAL and TEST, with maps of the net on every tile.
        calibration: what the net finds.
        geometry: of the detector.
        color: of the detector.
        max_loss: largest share of found defective images that may be lost.
        confidence: of the bound.
    """
    found = good = good_passed = regions = regions_lost = 0
    lost: list[str] = []
    for prediction in (p for part in predictions for p in part):
        sample = prediction.sample
        decision, _, _ = decide(prediction.score, prediction.anomaly_map, calibration, pixel_size=sample.pixel_size)
        if sample.is_defective and decision is Decision.ACCEPT:
            continue
        frame = read_frame(sample.image_path, color=color, pixel_size=sample.pixel_size)
        layout = lay_out(frame, geometry)
        picked = pick_tiles(screen, shown_pixels(frame.pixels, layout), layout)
        if not sample.is_defective:
            good, good_passed = good + len(picked), good_passed + int(picked.sum())
            continue
        highest, peaks = _peaks(prediction, calibration)
        found += 1
        if not all(_is_seen(place, picked, layout) for place in (highest, *peaks)):
            lost.append(sample.id)
        regions += len(peaks)
        regions_lost += sum(not _is_seen(peak, picked, layout) for peak in peaks)
    return ScreenProof(
        num_found=found,
        lost_ids=tuple(lost),
        num_regions=regions,
        num_regions_lost=regions_lost,
        num_good_tiles=good,
        num_good_passed=good_passed,
        max_loss=max_loss,
        confidence=confidence,
    )


def _peaks(prediction: Prediction, calibration: Calibration) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Row and column of the map's highest place, and of the highest place of each region."""
    anomaly_map, size = prediction.anomaly_map, prediction.sample.pixel_size
    peaks = []
    for defect in find_defects(
        anomaly_map,
        pixel_threshold=calibration.pixel_threshold,
        min_area_px=min_area_in_px(calibration, size),
        pixel_size=size,
    ):
        x0, y0, x1, y1 = defect.box_px
        y, x = np.argwhere(anomaly_map[y0:y1, x0:x1] == np.float32(defect.peak_score))[0]
        peaks.append((y0 + int(y), x0 + int(x)))
    y, x = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    return (int(y), int(x)), peaks


def _is_seen(place: tuple[int, int], picked: Mask, layout: Layout) -> bool:
    """Whether every tile that holds a place is passed."""
    height, width = layout.geometry.height, layout.geometry.width
    holding = [
        bool(is_picked)
        for (y, x), is_picked in zip(layout.corners, picked, strict=True)
        if y <= place[0] < y + height and x <= place[1] < x + width
    ]
    return bool(holding) and all(holding)
