"""Progress of long work where there is no terminal; tests/pipeline looks at programs as a whole."""

import logging
import sys
import time

import pytest

from zellige.core.progress import progress


def test_without_a_terminal_the_log_says_now_and_then_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with caplog.at_level(logging.INFO), progress("fit", 10) as advance:
        for number in range(10):
            clock[0] += 40
            advance(f"loss {number}")
    assert caplog.messages == [
        "fit: 2 of 10, loss 1, about 5 min left",
        "fit: 4 of 10, loss 3, about 4 min left",
        "fit: 6 of 10, loss 5, about 3 min left",
        "fit: 8 of 10, loss 7, about 1 min left",
    ]


def test_what_was_done_before_tells_nothing_of_the_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with caplog.at_level(logging.INFO), progress("fit", 32, 20) as advance:
        clock[0] += 120
        advance()
    assert caplog.messages == ["fit: 21 of 32, about 22 min left"]


def test_other_processes_of_a_run_say_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setenv("RANK", "1")
    with caplog.at_level(logging.INFO), progress("fit", 3) as advance:
        for _ in range(3):
            clock[0] += 100
            advance()
    assert caplog.messages == []
