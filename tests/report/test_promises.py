"""Sentences and marks of the page that were not true: a zero with a sign, a GPU on a CPU, a cut curve, a heading that says nothing."""

from __future__ import annotations

import re
from dataclasses import replace

from tendon.evaluate.confidence import Interval, TrialScore, rank_trials
from tendon.report.page import render
from tendon.report.plots_result import better_than_champion
from tendon.report.plots_training import gpu_fed, pieces_inside, training_converged
from tendon.report.summary import Curve, Difference, Feed, Rate, ReportInputs
from tests.report import sample


def test_nothing_is_less_than_zero_by_nothing() -> None:
    board = rank_trials([TrialScore("a", 50, 50, mean_steps=9.0), TrialScore("b", 50, 50, mean_steps=10.0)])
    assert board[1].behind == 0
    page = render(ReportInputs("t", leaderboard=board))
    assert "-0" not in re.sub(
        r"<style>.*?</style>|<svg.*?</svg>|<script>.*?</script>|data:[^\"]*", "", page, flags=re.S
    )
    assert '0 <span class="dim">(-7 to 7)</span>' in page
    rates = (Rate("winner", "a", 50, 50), Rate("champion", "b", 50, 50))
    for gap in (0.0, -0.001, 0.001):
        inputs = ReportInputs("t", rates=rates, difference=Difference(gap, Interval(-0.002, 0.07), 50))
        assert (
            better_than_champion(inputs).answer == "Winner minus champion: 0 points, 95% 0 to +7, on 50 shared seeds."
        )


def test_no_gpu_is_fed_where_there_is_none() -> None:
    feeds = (Feed("a", "cpu", 0.001, 0.01),)
    answer = gpu_fed(ReportInputs("t", feeds=feeds)).answer
    assert answer.startswith("There was no GPU, it was trained on the CPU: at most 9.1% of a training step")
    assert gpu_fed(ReportInputs("t", feeds=(replace(feeds[0], device="cuda"),))).answer.startswith("Yes: ")


def test_a_curve_is_drawn_to_the_edge_and_goes_on_where_it_comes_back() -> None:
    points = [(0.0, 50.0), (10.0, 70.0), (20.0, -30.0), (30.0, 20.0), (40.0, 150.0), (50.0, 150.0), (60.0, 50.0)]
    assert pieces_inside(points, 0.0, 100.0) == [
        [(0.0, 50.0), (10.0, 70.0), (17.0, 0.0)],
        [(26.0, 0.0), (30.0, 20.0), (30 + 10 * 80 / 130, 100.0)],
        [(55.0, 100.0), (60.0, 50.0)],
    ]
    assert pieces_inside([(0.0, -10.0), (10.0, 110.0)], 0.0, 100.0) == [[(10 * 10 / 120, 0.0), (10 * 110 / 120, 100.0)]]
    assert pieces_inside([(0.0, 0.0), (1.0, -5.0), (2.0, 5.0)], 0.0, 100.0) == [[(1.5, 0.0), (2.0, 5.0)]]


def test_a_curve_that_is_cut_is_told() -> None:
    board = rank_trials([TrialScore("a", 9, 10, mean_steps=9.0), TrialScore("b", failed_step="train", error="it died")])
    live = Curve("a", ((0, 1.0), (100, 0.5), (200, 0.4)))
    for losses, note in (
        ((1.0, 9.0, 0.6), "Beyond the top: b."),
        ((1.0, 0.1, 0.6), "Beyond the bottom: b."),
        ((1.0, 0.6, float("nan")), "Cut where the loss is no number: b from step 200."),
    ):
        dead = Curve("b", tuple(zip((0, 100, 200), losses, strict=True)))
        figure = training_converged(ReportInputs("t", leaderboard=board, curves=(live, dead)))
        assert note in figure.notes
        straight = re.findall(r'<path d="M([^"]*)" class="l s1"', figure.desk)
        joined = [path for path in straight if path.count("L") == 1 and len(straight) == 1]
        assert not joined or "nan" in str(losses), "what lies outside is not bridged by a straight line"


def test_the_questions_have_a_heading_that_says_something() -> None:
    page = render(sample.run(clips=False))
    assert "<h2>Eight questions about the run</h2>" in page
    assert "this one answers 8" in page
    first = replace(sample.run(clips=False), rates=sample.run(clips=False).rates[:1], difference=None)
    assert "this one answers 7" in render(first)
