"""What a running plan shows, on a terminal and in a log."""

import io

import pytest
from rich.console import Console
from rich.live import Live

from lib.running import progress as display
from lib.running.plan import Outcome, Step
from lib.running.progress import LiveDisplay, PlainDisplay, Row, cells, clock, total

FIRST, SECOND = (
    Step(f"03-train {network}-one_cycle-seed0", "notebooks/03-train.ipynb", "outputs/none", {})
    for network in ("lenet", "custom")
)
HALF_WAY = {
    "step": FIRST.name,
    "epoch": 2,
    "epochs": 4,
    "batch": 5,
    "batches": 10,
    "loss": 1.25,
    "accuracy": 0.5,
    "memory": 2e9,
}


@pytest.fixture
def now(monkeypatch):
    """A clock that is set by hand: now[0] = seconds."""
    time = [1000.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: time[0])
    return time


@pytest.fixture
def log():
    return PlainDisplay([FIRST, SECOND], Console(file=io.StringIO(), width=80))


def lines(shown):
    return shown.console.file.getvalue().splitlines()


def test_a_log_has_a_line_per_event(log, now):
    log.queued(FIRST)
    log.progress({"step": FIRST.name, "cell": 1, "cells": 9})
    log.progress({"step": FIRST.name, "text": "continuing after epoch 3 of 10"})
    log.ended(FIRST, Outcome("done", 65))
    log.ended(SECOND, Outcome("fresh"))
    assert [line.removeprefix("03-train ") for line in lines(log)] == [
        "lenet-one_cycle-seed0: started",
        "lenet-one_cycle-seed0: continuing after epoch 3 of 10",
        "lenet-one_cycle-seed0: done after 65 s",
        "custom-one_cycle-seed0: fresh",
    ]


def test_a_thousand_quick_epochs_do_not_flood_a_log(log, now):
    log.queued(FIRST)
    for epoch in range(1000):
        now[0] += 0.1
        log.progress({"step": FIRST.name, "text": f"epoch {epoch}/1000"})
    assert 10 <= len(lines(log)) <= 12


def test_what_is_told_of_a_step_that_has_ended_is_not_shown(log, now):
    log.queued(FIRST)
    log.ended(FIRST, Outcome("done", 1))
    log.progress({"step": FIRST.name, "text": "late"})
    assert "late" not in "".join(lines(log))


def test_a_row_shows_epoch_loss_accuracy_time_and_memory(now):
    row = Row(FIRST, state="running", began=940, latest=HALF_WAY)
    assert [str(cell) for cell in cells(row)] == [
        "03 lenet-one_cycle-seed0",
        "epoch 2/4  50%",
        "1.250",
        "50.0%",
        "1:00 of 2:40",
        "2.0 GB",
    ]


def test_the_time_of_last_time_is_expected_until_it_is_exceeded(now):
    assert Row(FIRST, usual=90).expected() == 90
    assert Row(FIRST, state="running", began=900, usual=90).expected() == 100
    assert Row(FIRST).expected() is None


def test_the_total_divides_what_is_left_among_what_runs(now):
    running = [
        Row(step, state="running", began=990, usual=20, latest={"memory": 1e9})
        for step in (FIRST, SECOND)
    ]
    assert total([*running, Row(FIRST, usual=30)], elapsed=60) == [
        "total",
        "0 of 3",
        "",
        "",
        "1:00 of 1:30",
        "2.0 GB",
    ]


def test_a_table_that_is_too_long_shows_what_goes_on(now):
    steps = [
        Step(f"03-train net-one_cycle-seed{seed}", "n", "outputs/none", {}) for seed in range(50)
    ]
    console = Console(file=io.StringIO(), width=80, height=15, force_terminal=True)
    shown = LiveDisplay(steps, Live(console=console))
    shown.queued(steps[40])
    shown.progress({"step": steps[40].name, "cell": 1, "cells": 9})
    console.print(shown.table())
    text = console.file.getvalue()
    assert "seed40" in text and "and 40 more" in text and len(text.splitlines()) <= 15


def test_times_are_written_as_clocks_show_them():
    assert [clock(5), clock(65), clock(7260)] == ["0:05", "1:05", "2:01:00"]
