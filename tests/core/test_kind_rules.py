"""What each kind of defect does to the decision, with maps of kinds and with boxes alike."""

import numpy as np
import pytest

from zellige.core.decision import decide
from zellige.core.errors import ConfigError
from zellige.core.kind_rules import KindRule, Severity, check_kind_rules
from zellige.core.named import FoundBoxes, KindMap, Named
from zellige.core.regions import MAX_DEFECTS, find_defects
from zellige.core.types import Calibration, Decision, PixelSize

ACCEPT, REJECT, UNDECIDED = Decision.ACCEPT, Decision.REJECT, Decision.UNDECIDED
KINDS = ("dust", "hole", "scratch")
HALF_MM = PixelSize(cross_web_mm=0.5, down_web_mm=0.25)
CRITICAL, MINOR, IGNORE = Severity.CRITICAL, Severity.MINOR, Severity.IGNORE

Frame = tuple[float, np.ndarray, Named]


def calibration(*rules: KindRule, accept: float = 0.6, reject: float = 0.6, **more: float) -> Calibration:
    return Calibration(
        pixel_threshold=0.5,
        accept_score=accept,
        reject_score=reject,
        fitted_on="f",
        target="t",
        guarantee="g",
        kind_rules=rules,
        **more,
    )


def frame(form: str, *defects: tuple[str, int, float]) -> Frame:
    """Defects (kind, length in px of a line 2 px high, level), as a map of kinds or as boxes."""
    anomaly_map, numbers, boxes = np.zeros((40, 40), np.float32), np.zeros((40, 40), np.uint8), []
    for row, (kind, length, level) in enumerate(defects):
        number = KINDS.index(kind) + 1 if kind in KINDS else 0
        y = 2 + 5 * row
        anomaly_map[y : y + 2, 3 : 3 + length] = level
        numbers[y : y + 2, 3 : 3 + length] = number
        boxes.append((3, y, 3 + length, y + 2, level, number))
    score = max((level for _, _, level in defects), default=0.0)
    if form == "map":
        return score, anomaly_map, KindMap(numbers=numbers, kinds=KINDS)
    rows = np.array(sorted(boxes, key=lambda box: -box[4]), np.float32).reshape(-1, 6)
    return score, anomaly_map, FoundBoxes(boxes=rows, kinds=KINDS)


def rule(kind: str, severity: Severity = Severity.MAJOR, **sizes: float) -> KindRule:
    return KindRule(kind=kind, severity=severity, **sizes)


@pytest.mark.parametrize("form", ["map", "boxes"])
@pytest.mark.parametrize(
    ("defects", "rules", "area", "expected", "listed"),
    [
        # without a rule a kind is major
        ([("hole", 5, 0.9)], [], {}, REJECT, ["hole"]),
        ([("hole", 5, 0.9), ("dust", 3, 0.7)], [rule("dust", CRITICAL)], {}, REJECT, ["hole", "dust"]),
        ([("hole", 5, 0.9)], [], {"min_area_px": 11}, ACCEPT, []),
        # critical: whatever its size
        ([("hole", 1, 0.9)], [rule("hole", CRITICAL)], {"min_area_px": 30}, REJECT, ["hole"]),
        ([("hole", 1, 0.9)], [rule("dust", CRITICAL)], {"min_area_px": 30}, ACCEPT, []),
        # ignored: nothing of it is left
        ([("dust", 9, 0.9)], [rule("dust", IGNORE)], {}, ACCEPT, []),
        ([("dust", 9, 0.7), ("hole", 3, 0.9)], [rule("dust", IGNORE)], {}, REJECT, ["hole"]),
        # minor: listed, and never the reason
        ([("scratch", 9, 0.9)], [rule("scratch", MINOR)], {}, ACCEPT, ["scratch"]),
        ([("scratch", 9, 0.9), ("hole", 3, 0.8)], [rule("scratch", MINOR)], {}, REJECT, ["scratch", "hole"]),
        # a size of its own replaces the general area
        ([("scratch", 6, 0.9)], [rule("scratch", min_length_px=7)], {}, ACCEPT, []),
        ([("scratch", 7, 0.9)], [rule("scratch", min_length_px=7)], {"min_area_px": 99}, REJECT, ["scratch"]),
        ([("scratch", 6, 0.9)], [rule("scratch", min_length_mm=3.0)], {}, REJECT, ["scratch"]),
        ([("scratch", 5, 0.9)], [rule("scratch", min_length_mm=3.0)], {}, ACCEPT, []),
        ([("scratch", 4, 0.9)], [rule("scratch", min_area_mm2=1.0)], {}, REJECT, ["scratch"]),
        ([("scratch", 3, 0.9)], [rule("scratch", min_area_mm2=1.0)], {}, ACCEPT, []),
        ([("scratch", 3, 0.9)], [rule("scratch", min_area_px=6, min_length_px=4)], {}, ACCEPT, []),
        ([("scratch", 3, 0.9)], [rule("scratch", MINOR, min_length_px=4)], {}, ACCEPT, []),
        ([("hole", 3, 0.9)], [rule("scratch", min_length_px=7)], {}, REJECT, ["hole"]),
    ],
)
def test_table(form: str, defects: list, rules: list, area: dict, expected: Decision, listed: list) -> None:
    score, anomaly_map, named = frame(form, *defects)
    decision, found, reason = decide(score, anomaly_map, calibration(*rules, **area), pixel_size=HALF_MM, named=named)
    assert (decision, [defect.kind for defect in found]) == (expected, listed)
    assert reason


@pytest.mark.parametrize("form", ["map", "boxes"])
def test_reasons_say_which_kinds_did_not_reject(form: str) -> None:
    score, anomaly_map, named = frame(form, ("scratch", 9, 0.9), ("dust", 4, 0.8), ("dust", 4, 0.7))
    rules = (rule("scratch", MINOR), rule("dust", IGNORE))
    _, _, reason = decide(score, anomaly_map, calibration(*rules), named=named)
    assert reason.endswith("1 scratch (minor), 2 dust (ignored or too small)")


def test_a_region_of_no_kind_is_unknown_and_has_a_rule_of_that_name() -> None:
    score, anomaly_map, named = frame("map", ("nothing known", 5, 0.9))
    decision, found, _ = decide(score, anomaly_map, calibration(), named=named)
    assert (decision, [defect.kind for defect in found]) == (REJECT, ["unknown"])
    assert decide(score, anomaly_map, calibration(rule("unknown", MINOR)), named=named)[0] is ACCEPT


def test_boxes_that_never_reject_do_not_lend_their_score_to_others() -> None:
    """A hole of 0.55 would be accepted alone; dust of 0.9 beside it changes nothing."""
    rules = (rule("dust", IGNORE),)
    for defects in ([("hole", 5, 0.55)], [("hole", 5, 0.55), ("dust", 5, 0.9)]):
        score, anomaly_map, named = frame("boxes", *defects)
        decision, _, reason = decide(score, anomaly_map, calibration(*rules), named=named)
        assert (decision, reason[:12]) == (ACCEPT, "score 0.55 <")
        assert decide(score, anomaly_map, calibration(*rules, accept=0.5), named=named)[0] is UNDECIDED


def test_more_regions_than_are_listed_are_never_accepted_by_a_rule() -> None:
    anomaly_map = np.zeros((80, 160), np.float32)
    anomaly_map[::2, ::2] = 0.9
    named = KindMap(numbers=np.ones(anomaly_map.shape, np.uint8), kinds=KINDS)
    assert (anomaly_map > 0).sum() > MAX_DEFECTS
    assert decide(0.9, anomaly_map, calibration(rule("dust", IGNORE)), named=named)[0] is UNDECIDED


def test_boxes_that_are_not_finite_are_undecided() -> None:
    boxes = np.array([[0, 0, 5, np.nan, 0.9, 1]], np.float32)
    found = FoundBoxes(boxes=boxes, kinds=KINDS)
    for score in (0.1, 0.9):
        assert decide(score, np.zeros((9, 9), np.float32), calibration(), named=found)[0] is UNDECIDED


@pytest.mark.parametrize("seed", range(5))
def test_a_region_has_the_kind_of_the_greatest_weight(seed: int) -> None:
    """Against sums by hand over one region that fills the map."""
    rng = np.random.default_rng(seed)
    anomaly_map = rng.uniform(0.6, 1, (9, 9)).astype(np.float32)
    numbers = rng.integers(0, 4, (9, 9)).astype(np.uint8)
    sums = [float(anomaly_map[numbers == number].astype(np.float64).sum()) for number in range(4)]
    expected = ("unknown", *KINDS)[sums.index(max(sums))]
    (defect,) = find_defects(anomaly_map, pixel_threshold=0.5, kind_map=KindMap(numbers=numbers, kinds=KINDS))
    assert defect.kind == expected


def test_a_box_is_measured_as_it_is() -> None:
    boxes = np.array([[1.5, 2, 7.5, 4, 0.9, 2]], np.float32)
    rules = calibration()
    _, (defect,), _ = decide(
        0.9,
        np.zeros((9, 9), np.float32),
        rules,
        pixel_size=HALF_MM,
        first_line=100,
        named=FoundBoxes(boxes=boxes, kinds=KINDS),
    )
    assert (defect.kind, defect.box_px, defect.area_px, defect.length_px) == ("hole", (1, 2, 8, 4), 12, 6.0)
    assert defect.box_mm == pytest.approx((0.75, 25.5, 3.75, 26.0))
    assert (defect.area_mm2, defect.length_mm) == pytest.approx((1.5, 3.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rule("hole", CRITICAL, min_area_px=3), "no minimum size with critical"),
        (lambda: rule("hole", IGNORE, min_length_mm=3), "no minimum size with ignore"),
        (lambda: rule("hole", min_area_px=3, min_area_mm2=3), "in one unit"),
        (lambda: rule("hole", min_area_px=0), "min_area_px above 0"),
        (lambda: rule(""), "expected a kind"),
        (lambda: KindRule(kind="hole", severity="major"), "one of critical, major, minor, ignore"),  # type: ignore[arg-type]
        (lambda: check_kind_rules([rule("crack")], KINDS), "dust, hole, scratch, unknown, got kind 'crack'"),
        (lambda: check_kind_rules([rule("hole"), rule("hole")], KINDS), "'hole' twice"),
        (lambda: check_kind_rules([rule("hole")], ()), "a model that names kinds"),
        (lambda: decide(0.0, np.zeros((2, 2), np.float32), calibration(rule("hole", min_area_mm2=1))), "pixel size"),
    ],
)
def test_rules_that_make_no_sense_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
