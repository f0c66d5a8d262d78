"""Answers in words, scales and bins."""

import csv
import io
from dataclasses import replace
from urllib.parse import unquote

import pytest

from tendon.logs import duration
from tendon.report.page import render
from tendon.report.plots_data import _bins
from tendon.report.plots_result import where_it_fails, which_trial_won
from tendon.report.plots_training import training_converged, what_it_cost
from tendon.report.summary import Curve, Ending, ReportInputs, Timing
from tendon.report.svg import Scale, nice_ticks, short
from tests.report import sample


def endings(*groups: tuple[str, int, int]) -> tuple[Ending, ...]:
    """Groups of (status, steps, number)."""
    seeds = iter(range(10_000))
    return tuple(Ending(next(seeds), status, steps) for status, steps, number in groups for _ in range(number))


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ((("success", 60, 49), ("failure", 200, 1)),
         "1 of 50 finished episodes failed, at the last step (200): out of time."),
        ((("success", 60, 40), ("failure", 200, 10)),
         "10 of 50 finished episodes failed, all at the last step (200): out of time."),
        ((("success", 60, 40), ("failure", 200, 8), ("failure", 30, 1), ("failure", 50, 1)),
         "10 of 50 finished episodes failed: 8 ran out of time at step 200, 2 ended between step 30 and 50."),
        ((("success", 200, 40), ("failure", 30, 1), ("failure", 50, 1), ("crashed", 2, 1)),
         "2 of 42 finished episodes failed, between step 30 and 50, half of them by step 30. "
         "1 episode crashed and counts as neither."),
        ((("success", 60, 49), ("crashed", 2, 1)),
         "None of the 49 finished episodes failed. 1 episode crashed and counts as neither."),
    ],
)  # fmt: skip
def test_failures_in_words(groups, words):
    assert where_it_fails(ReportInputs("t", endings=endings(*groups))).answer == words


@pytest.mark.parametrize(
    ("valid", "words"),
    [
        (((100, 1.0), (200, 0.5)),
         "a: validation loss from 1 to 0.5 at step 200, its lowest: it may not have converged yet."),
        (((100, 1.0), (200, 0.5), (300, 0.8)),
         "a: validation loss from 1 to 0.8 at step 300; "
         "lowest (0.5) at step 200, and has risen 60% since: overfitting."),
        (((100, 1.0), (200, 0.5), (300, 0.51)),
         "a: validation loss from 1 to 0.51 at step 300; lowest (0.5) at step 200, and flat since."),
        ((), "a: training loss from 2 at step 1 to 1 at step 2."),
    ],
)  # fmt: skip
def test_convergence_in_words(valid, words):
    curves = (Curve("a", ((1, 2.0), (2, 1.0)), valid),)
    assert training_converged(ReportInputs("t", curves=curves)).answer == words


def test_a_trial_that_ran_away_does_not_flatten_the_others():
    figure = training_converged(sample.run(clips=False))
    assert "Beyond the top: bc_lr_1e-1." in figure.notes
    assert figure.answer.startswith("bc_hidden_512:")


def test_the_csv_holds_the_numbers_that_are_drawn():
    rows = list(csv.DictReader(io.StringIO(which_trial_won(sample.run(clips=False)).csv)))
    assert [row["trial"] for row in rows] == ["bc_hidden_512", "bc_hidden_256", "bc_hidden_1024_gmm", "bc_lr_1e-1"]
    assert (rows[0]["successes"], rows[0]["n"], rows[0]["rank"]) == ("47", "50", "1")
    assert (rows[3]["rate"], rows[3]["failed_step"]) == ("", "train")


def test_the_csv_in_the_page_is_the_same_csv():
    inputs = sample.run(clips=False)
    link = render(inputs).split('download="trials.csv" href="data:text/csv;charset=utf-8,')[1].split('"')[0]
    assert unquote(link) == which_trial_won(inputs).csv


def test_provenance_that_is_absent_is_left_out():
    inputs = sample.run(clips=False)
    assert where_it_fails(inputs).source.startswith("confirmation seeds 1230000 to 1230299, policy 5cc0")
    assert where_it_fails(replace(inputs, provenance=ReportInputs("t").provenance)).source == ""


def test_ticks_are_round_and_inside():
    assert nice_ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert nice_ticks(-13, 27, 4) == [-10, 0, 10, 20]
    assert nice_ticks(3, 3, 4) == [3]
    log = Scale(0.02, 3.0, 0, 100, log=True)
    assert log.ticks(4) == [0.03, 0.1, 0.3, 1, 3]
    assert log(0.02) == 0
    assert log(3.0) == pytest.approx(100)
    said = [short(value) for value in (0, 0.05, 1200, 50_000, 2.1e-5, 0.653, 3)]
    assert said == ["0", "0.05", "1,200", "50k", "2e-05", "0.653", "3"]


def test_bins_cover_every_length_once():
    for lengths in ([5], [5, 5, 6], list(range(21, 96)), [1, 1000]):
        first, width, counts = _bins(lengths)
        assert sum(counts) == len(lengths)
        assert first <= min(lengths)
        assert first + width * len(counts) > max(lengths)
        assert len(counts) <= 26


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ((0, 0), "2 h 00 min of work, no GPU; most of it in train."),
        ((1, 0), "2 h 00 min of work, 1.00 GPU-hours; most of it in train."),
        ((None, 0), "2 h 00 min of work; most of it in train."),
    ],
)
def test_a_gpu_is_named_only_when_it_was_recorded(gpus, words):
    timings = tuple(Timing(step, "", 3600.0, num) for step, num in zip(("train", "evaluate"), gpus, strict=True))
    assert what_it_cost(ReportInputs("t", timings=timings)).answer == words


def test_durations():
    said = [duration(seconds) for seconds in (0.04, 9.96, 59.6, 125, 3599.7, 12_000)]
    assert said == ["0.0 s", "10 s", "1 min 00 s", "2 min 05 s", "1 h 00 min", "3 h 20 min"]
