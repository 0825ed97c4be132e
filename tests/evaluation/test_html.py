import json
from html.parser import HTMLParser

import numpy as np
import pytest

from zellige.core.errors import InputError
from zellige.core.types import Calibration, PixelSize
from zellige.evaluation.html import rate_words, write_html
from zellige.evaluation.report import evaluate

DATA = {
    "root": "data/raw/x",
    "splits": {"val": {"good": 7, "defective": 3, "groups": 4, "with_mask": 2, "kinds": {"h<o>le": 3}}},
    "warnings": ["one <warning>"],
    "shortcut": {"auroc": 0.73, "low": 0.66, "high": 0.79, "warning": "size predicts the label"},
    "duplicates": {"setting": "group", "exact_pairs": 2, "near_pairs": 7, "straddling_pairs": 1},
    "skipped": [{"path": "a.png", "reason": "0 bytes"}],
}
GUARANTEE = "NOT SHOWN: n=20 is too small; what 20 show: <= 0.139; escape_rate <= 0.1"


class Page(HTMLParser):
    """What a browser would load, and what a person would read."""

    VOID = frozenset({"meta", "img", "line", "circle", "br"})

    def __init__(self, text):
        super().__init__()
        self.sources, self.tags, self.open, self.words, self.is_style = [], [], [], [], False
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)


@pytest.fixture
def page_of(tmp_path, predictions_of):
    def build(pieces, guarantee=GUARANTEE, **extra):
        rule = Calibration(
            pixel_threshold=0.5,
            reject_score=2.0,
            accept_score=1.0,
            min_area_px=None,
            fitted_on="val",
            target="false_reject_rate <= 0.05",
            guarantee=guarantee,
        )
        report = json.loads(json.dumps(evaluate(predictions_of("test", pieces), rule).to_json(), allow_nan=False))
        write_html(report | extra, tmp_path, tmp_path / "report.html")
        return Page((tmp_path / "report.html").read_text(encoding="utf-8"))

    return build


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        ((0.0, 0.0, 0.0381, 95), "0 of 95 good pieces rejected: at most 3.8 %"),
        ((1.0, 0.292, 1.0, 3), "3 of 3 good pieces rejected: at least 29.2 %"),
        ((0.25, 0.0063, 0.8059, 4), "1 of 4 good pieces rejected: 25 %, between 0.6 % and 80.6 %"),
        ((0.0, 0.0, 0.00037, 9999), "0 of 9999 good pieces rejected: at most 0.04 %"),
        ((None, 0.0, 1.0, 0), "no good pieces in TEST: nothing is known"),
    ],
)
def test_rates_are_said_in_words(rate, words):
    assert rate_words("good", "rejected", dict(zip(("value", "low", "high", "n"), rate, strict=True))) == words


def test_page_loads_nothing_from_outside(page_of, piece, tmp_path):
    (tmp_path / "scores.png").write_bytes(b"\x89PNG fake")
    page = page_of([piece(score=0.1), piece(kind="hole", score=3.0)])
    assert page.open == []
    assert [source[:22] for source in page.sources] == ["data:image/png;base64,"]
    assert "script" not in page.tags
    assert "link" not in page.tags


def test_page_says_rates_guarantee_and_uncalibrated(page_of, piece):
    pieces = [piece(score=0.1)] * 3 + [piece(kind="hole", score=s) for s in (0.5, 1.5, 3.0)]
    page = page_of(pieces)
    for words in (
        "1 of 3 defective pieces accepted: 33.3 %, between 0.8 % and 90.6 %",
        "0 of 3 good pieces rejected: at most 70.8 %",
        "1 of 3 defective and 0 of 3 good pieces left to a person",
        "NOT SHOWN: n=20 is too small; what 20 show: <= 0.139",
        "uncalibrated",
        "ACCEPT up to score (UNDECIDED between) 1",
    ):
        assert words in page.text.replace("\xa0", " ")


def test_calibrated_page_has_no_badge(page_of, piece):
    size = PixelSize(cross_web_mm=0.1, down_web_mm=0.1)
    mask = np.ones((4, 4), bool)
    page = page_of([piece(score=0.1, pixel_size=size), piece(kind="hole", score=3.0, mask=mask, pixel_size=size)])
    assert "uncalibrated" not in page.text
    assert "< 0.5 mm" in page.text


@pytest.mark.parametrize(
    ("guarantee", "color"),
    [
        ("false_reject_rate <= 0.05 with probability 0.95, from 90 held-out good images", "note ok"),
        ("NOT SHOWN: n=20 is too small", "note warn"),
        ("false_reject_rate <= 0.05, from 90; presumes independent images, VAL has 90 from 6 groups", "note warn"),
    ],
)
def test_only_an_unconditional_guarantee_is_green(page_of, piece, guarantee, color, tmp_path):
    page_of([piece(score=0.1), piece(kind="hole", score=3.0)], guarantee=guarantee)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f'class="{color}"><p><b>What the calibration supports' in page


def test_undefined_numbers_say_why(page_of, piece):
    page = page_of([piece(score=0.1)])
    assert "no defective pieces in TEST: nothing is known" in page.text
    assert "not defined: TEST has no defect masks" in page.text
    assert "nan" not in page.text.lower().split()
    assert "None" not in page.text


def test_data_and_run_are_shown_and_names_cannot_inject(page_of, piece):
    run = {"name": "<script>alert(1)</script>", "git commit": "0123abc"}
    page = page_of([piece(kind="<img src=x>", score=3.0)], data=DATA, run=run, fit_seconds=31.44)
    assert "script" not in page.tags
    assert "img" not in page.tags
    for words in (
        "<script>alert(1)</script>",
        "<img src=x>",
        "h<o>le 3",
        "one <warning>",
        "size predicts the label",
        "AUROC 0.730 (0.660 to 0.790)",
        "2 exact and 7 near pairs; 1 would lie in two splits; setting: group",
        "1, first a.png: 0 bytes",
        "0123abc",
        "31.44",
    ):
        assert words in page.text


def test_dependent_pieces_are_pointed_out(page_of, piece):
    assert "2 pieces come from 1 group (" in page_of([piece(group_id="r"), piece(kind="hole", group_id="r")]).text
    assert "come from" not in page_of([piece(), piece(kind="hole")]).text


def test_unwritable_page_is_one_line(page_of, piece, tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        page_of([piece()])
