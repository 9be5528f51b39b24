"""What a running plan shows, on a terminal and in a log."""

import io
import threading

import pytest
from rich.console import Console

from lib.running.plan import Outcome, Step
from lib.running.progress import Display, clock

FIRST, SECOND = (
    Step(f"03-train {run}", "03-train.ipynb", "outputs/none", {}, run=run, networks=[run[:-6]])
    for run in ("lenet-seed0", "custom-seed0")
)
CHAPTER = Step("05-confusions", "05-confusions.ipynb", "outputs/none", {})
EPOCHS = {"step": FIRST.name, "epoch": 2, "epochs": 4, "batch": 5, "batches": 10, "loss": 1.25}
MEASURED = {"accuracy": 0.5, "memory": 2e9}


@pytest.fixture
def now():
    """The time, which is set by hand: now[0] = seconds."""
    return [1000.0]


@pytest.fixture
def log(now):
    console = Console(file=io.StringIO(), width=80)
    return Display([FIRST, SECOND, CHAPTER], console, clock=lambda: now[0])


@pytest.fixture
def live(now):
    return table([FIRST, SECOND], now)


def table(steps, now, width=80, height=25, at_once=1):
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
    return Display(steps, console, at_once, clock=lambda: now[0])


def lines(log):
    return log.table.console.file.getvalue().splitlines()


def drawn(live):
    """The table's lines as they stand on the screen."""
    live.refresh()
    console = Console(file=io.StringIO(), width=live.table.console.width, height=200)
    console.print(live.table.get_renderable())
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def epoch(live, now, number, seconds=10.0, step=FIRST):
    """An epoch of the step's that has just ended, after so many seconds."""
    now[0] += seconds
    told = {"epoch": number, "epochs": 10, "batch": 1, "batches": 1}
    live.progress({"step": step.name} | told)


def test_a_log_has_a_line_per_event(log):
    log.queued(FIRST)
    log.progress({"step": FIRST.name, "cell": 1, "cells": 9})
    log.progress({"step": FIRST.name, "printed": "continuing after epoch 3 of 10"})
    log.ended(FIRST, Outcome("done", 65))
    log.ended(SECOND, Outcome("failed", 2, "ValueError: no\nin cell [3]"))
    assert [line.removeprefix("03-train ") for line in lines(log)] == [
        "lenet-seed0: started",
        "lenet-seed0: continuing after epoch 3 of 10",
        "lenet-seed0: done after 65 s",
        "custom-seed0: failed after 2 s: ValueError: no",
    ]


def test_what_a_chapter_prints_is_not_logged_but_what_is_said_of_it_is(log):
    log.queued(CHAPTER)
    log.progress({"step": CHAPTER.name, "printed": "48 classes: 0 1 2"})
    log.progress({"step": CHAPTER.name, "said": "the process that ran it died: attempt 2 of 3"})
    assert lines(log)[1:] == ["05-confusions: the process that ran it died: attempt 2 of 3"]


def test_a_thousand_quick_epochs_do_not_flood_a_log(log, now):
    log.queued(FIRST)
    for number in range(1000):
        now[0] += 0.1
        log.progress({"step": FIRST.name, "printed": f"epoch {number}/1000"})
    assert 10 <= len(lines(log)) <= 12


def test_what_is_told_of_a_step_that_has_ended_is_not_shown(log):
    log.queued(FIRST)
    log.ended(FIRST, Outcome("done", 1))
    log.progress({"step": FIRST.name, "printed": "late"})
    assert "late" not in "".join(lines(log))


def test_a_step_that_ends_while_it_is_told_of_starts_once(log):
    log.queued(FIRST)
    event = {"step": FIRST.name, "cell": 1, "cells": 9}
    threads = [threading.Thread(target=log.progress, args=[event]) for _ in range(2)]
    slow, log.say = log.say, lambda line: (threading.Event().wait(0.05), slow(line))
    for thread in threads:
        thread.start()
    log.ended(FIRST, Outcome("done", 1))
    for thread in threads:
        thread.join()
    assert len(lines(log)) == 2 and "started" in lines(log)[0] and "done" in lines(log)[1]


def test_a_line_shows_epoch_loss_accuracy_time_and_memory(live, now):
    live.queued(FIRST)
    live.progress(EPOCHS | MEASURED)
    now[0] += 65
    assert drawn(live)[0] == "03 lenet-seed0 epoch 2/4 loss 1.25 valid 50% 1:05 2.0 GB"
    assert drawn(live)[1] == "03 custom-seed0 waiting"


def test_a_training_is_measured_once_its_epochs_are_over(live, now):
    live.queued(FIRST)
    epoch(live, now, 10)
    assert "measuring" in drawn(live)[0]
    live.progress({"step": FIRST.name, "cell": 21, "cells": 30})
    assert "cell 21/30" in drawn(live)[0]


def test_the_expected_time_follows_the_pace_of_the_epochs_and_does_not_jump(live, now):
    live.queued(FIRST)
    live.progress({"step": FIRST.name, "cell": 1, "cells": 9})
    now[0] += 20  # until the first epoch
    expected = []
    for number in range(1, 11):
        epoch(live, now, number)
        if number > 1:
            expected.append(drawn(live)[0].partition(" of ")[2])
    assert set(expected[:-1]) <= {"2:00", "2:01"} and expected[-1] == "2:00"


def test_the_time_of_last_time_is_expected(live, now):
    live.tasks[FIRST.name].fields["usual"] = 90
    live.queued(FIRST)
    epoch(live, now, 1)
    assert drawn(live)[0].endswith("0:00 of 1:30")


def test_a_step_never_run_is_expected_to_take_as_long_as_those_like_it(now):
    again = Step("03-train lenet-seed1", "03-train.ipynb", "", {}, run="r", networks=["lenet"])
    live = table([FIRST, SECOND, again], now)
    live.tasks[FIRST.name].fields["usual"] = 30
    live.tasks[SECOND.name].fields["usual"] = 90
    assert drawn(live)[2] == "03 lenet-seed1 waiting 0:00 of 0:30"


@pytest.mark.parametrize(("at_once", "expected"), [(1, "6 min"), (2, "4 min")])
def test_the_total_says_how_long_all_will_take_as_soon_as_one_is_known(now, at_once, expected):
    live = table([FIRST, SECOND], now, at_once=at_once)
    live.queued(FIRST)
    live.progress({"step": FIRST.name})
    now[0] += 60
    assert drawn(live)[-1] == "total 0 of 2 1:00"
    live.tasks[FIRST.name].fields["usual"] = 180
    assert drawn(live)[-1] == f"total 0 of 2 1:00 of about {expected}"


def test_a_table_that_is_too_long_shows_what_goes_on(now):
    steps = [Step(f"03-train net-seed{seed}", "n", "outputs/none", {}) for seed in range(50)]
    live = table(steps, now, height=15)
    live.queued(steps[40])
    live.progress({"step": steps[40].name, "cell": 1, "cells": 9})
    shown = drawn(live)
    assert "03 net-seed40 cell 1/9" in shown
    assert "and 39 more" in shown[-2] and len(shown) <= 15


def test_times_are_written_as_clocks_show_them():
    assert [clock(5), clock(65), clock(7260)] == ["0:05", "1:05", "2:01:00"]
