"""The page as a browser would meet it: whole, safe, small, and honest about what is missing."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tendon.evaluate.confidence import Interval, TrialScore, rank_trials
from tendon.report.clips import make_clip
from tendon.report.page import MOST_BYTES, render
from tendon.report.summary import (
    Clip,
    Curve,
    DataSanity,
    Difference,
    Ending,
    Feed,
    Rate,
    ReportInputs,
    Timing,
    dimension,
)
from tests.report import sample

QUESTIONS = (
    "Is it better than the champion?",
    "Which trial won?",
    "Where does it fail?",
    "Did training converge?",
    "Is the data sane?",
    "What do actions look like?",
    "Was the GPU fed?",
    "What did it cost?",
)
VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Checks that tags nest and collects what a test asks for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def inputs() -> ReportInputs:
    return sample.run()


@pytest.fixture(scope="module")
def page(inputs) -> str:
    return render(inputs)


def test_the_page_is_well_formed_and_small(page):
    Reader(page)
    assert len(page.encode()) < 400_000


def test_it_asks_for_nothing_from_outside(page):
    reader = Reader(page)
    for tag, attrs in reader.tags:
        for name in ("src", "href", "poster", "data", "action"):
            if name in attrs:
                assert attrs[name].startswith("data:"), (tag, attrs[name][:80])
    assert {"link", "iframe", "img", "object", "form"}.isdisjoint(tag for tag, _ in reader.tags)
    assert "default-src 'none'" in page
    assert not re.search(r"url\(|@import|localStorage|sessionStorage|fetch\(|XMLHttpRequest|https?://", page)


def test_the_card_has_verdict_rate_interval_n_and_crashes(page):
    text = Reader(page).text
    assert "Challenger beats champion by 9 points (95% 5 to 14, paired, 297 seeds, 3 crashed): promote." in text
    assert "0.91" in text
    assert "success rate (270/297, 95% 0.87-0.94, 3 crashed, confirmation seeds)" in text
    assert "success rate (243/300, 95% 0.76-0.85, confirmation seeds)" in text
    for source in (
        "1230000 to 1230299",
        "e3f1a2077c41b9d0",
        "5cc0d1e2f3a49b87",
        "b2db894",
        "none, run on this machine",
    ):
        assert source in text
    assert text.index("Challenger beats") < text.index("What it does") < text.index("Leaderboard")
    assert text.index("Leaderboard") < text.index("Eight questions") < text.index("How each was made")


def test_all_eight_questions_are_drawn_with_data_and_words_for_a_screen_reader(page):
    reader = Reader(page)
    assert [question for question in QUESTIONS if reader.text.count(question) < 3] == []  # heading and two drawings
    drawings = [attrs for attrs in reader.all("svg") if attrs.get("role") == "img"]
    assert len(drawings) == 16
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for drawing in drawings:
        assert set(drawing["aria-labelledby"].split()) <= set(ids)
    links = [attrs["download"] for attrs in reader.all("a")]
    expected = ("champion", "trials", "endings", "curves", "data", "actions", "fed", "cost")
    assert links == [f"{name}.csv" for name in expected] + ["record.json"]


def test_clips_are_h264_videos_that_play_silently_in_place(page, inputs):
    videos = Reader(page).all("video")
    assert len(videos) == 6
    for video in videos:
        assert {"muted", "loop", "playsinline", "controls"} <= video.keys()
        assert video["src"].startswith("data:video/mp4;base64,")
        assert video["poster"].startswith("data:image/jpeg;base64,")
    assert b"avc1" in inputs.clips[0].mp4


def test_failed_trials_are_listed_with_their_step_and_error(page):
    text = Reader(page).text
    assert "failed in train" in text
    for line in sample.ERROR.splitlines():
        assert line in text


def test_every_command_can_be_copied(page, inputs):
    reader = Reader(page)
    commands = [row for row in inputs.lineage if row.command]
    assert len(reader.all("code")) == len(commands)
    assert sum("data-copy" in attrs for attrs in reader.all("button")) == len(commands)
    for row in inputs.lineage:
        assert row.command in reader.text
        assert row.what in reader.text
        assert row.digest in reader.text


def test_the_same_run_gives_the_same_page(inputs, page):
    assert render(inputs) == page


def test_what_the_robot_was_told_stands_under_its_clip(inputs):
    row = {"status": "success", "seed": 7, "steps": 3, "instructions": ["open <it>", "close it"]}
    clip = make_clip(row, inputs.clips[0].mp4)
    text = Reader(render(replace(inputs, clips=(clip, *inputs.clips[1:])))).text
    assert "told: open <it>, then close it" in text
    assert text.count("told:") == 1
    assert make_clip({**row, "instructions": []}, b"").told == make_clip({**row, "instructions": ()}, b"").told == ""


def test_clips_that_do_not_fit_are_left_out_and_the_page_says_so(inputs):
    large = tuple(Clip(clip.status, clip.seed, clip.steps, bytes(1_100_000)) for clip in inputs.clips)
    page = render(replace(inputs, clips=large))
    assert len(page.encode()) < MOST_BYTES
    reader = Reader(page)
    assert len(reader.all("video")) == 3
    assert "3 clips were left out to keep this page below 5 MB" in reader.text
    assert inputs.videos_uri in reader.text
    kinds = [video["aria-label"].split(",")[0] for video in reader.all("video")]
    assert kinds.count("success") == 2
    assert kinds.count("failure") == 1


def test_a_sweep_of_150_trials_with_long_errors_stays_below_5_mb():
    names = [f"trial_{k:03d}_with_a_rather_long_name_of_its_values" for k in range(150)]
    scores = [TrialScore(name, 20 + k % 30, 50, 0, 70.0 + k) for k, name in enumerate(names[:100])]
    scores += [TrialScore(name, failed_step="train", error="line\n" * 100_000) for name in names[100:]]
    curves = tuple(
        Curve(name, tuple((s, 1 / (s + 1)) for s in range(5000)), tuple((s, 1 / (s + 1)) for s in range(0, 5000, 50)))
        for name in names
    )
    inputs = ReportInputs(
        title="wide",
        leaderboard=rank_trials(scores),
        curves=curves,
        feeds=tuple(Feed(name, "cuda", 0.001, 0.01) for name in names),
        timings=tuple(Timing(step, name, 3600.0, 1) for name in names for step in ("train", "evaluate")),
        endings=tuple(Ending(k, "success", k % 300) for k in range(5000)),
        data=DataSanity(
            tuple(range(20, 600)), 10**6, tuple(dimension(f"action[{k}]", [0.0, 0.5, 1.0]) for k in range(64))
        ),
        record_json="x" * 2_000_000,
    )
    page = render(inputs)
    assert len(page.encode()) < MOST_BYTES
    text = Reader(page).text
    assert "126 more trials are in the table and in the CSV." in text
    assert "record.json is too long to show here" in text
    assert "The data hold about 40 points of each curve." in text
    assert "300.00 GPU-hours" in text


def test_everything_from_outside_is_escaped():
    evil = '<script>alert("x")</script>&"\'><img src=x onerror=alert(1)>'
    good = sample.run(clips=False)
    page = render(
        replace(
            good,
            title=evil,
            run_id=evil,
            verdict=evil,
            rule=evil,
            decision=evil,
            rates=(Rate(evil, evil, 1, 2, 0, evil), Rate(evil, evil, 1, 2, 0, evil)),
            leaderboard=rank_trials([TrialScore(evil, 1, 2), TrialScore(evil + "2", failed_step=evil, error=evil)]),
            curves=(Curve(evil, ((1, 1.0), (2, 0.5)), ((1, 1.0), (2, 0.5))),),
            data=DataSanity((1, 2), 3, (dimension(evil, [0.0, 1.0]),), (evil,)),
            feeds=(Feed(evil, evil, 0.1, 0.2),),
            timings=(Timing(evil, evil, 1.0), Timing(evil, evil, 2.0)),
            lineage=tuple(replace(row, what=evil, digest=evil, command=evil) for row in good.lineage),
            provenance=replace(good.provenance, dataset=evil, policy=evil, code=evil),
            record_json=evil,
            videos_uri=evil,
        )
    )
    reader = Reader(page)
    assert len(reader.all("script")) == 1
    assert reader.all("img") == []
    assert not any("onerror" in attrs for _, attrs in reader.tags)
    assert "onerror" in reader.text


def test_all_trials_failed():
    reader = Reader(render(sample.all_failed()))
    assert "Both trials failed: there is no policy to judge." in reader.text
    assert "No verdict" in reader.text
    assert "training.lr=0.1 makes the weights grow without bound" in reader.text
    assert "None: every trial failed." in reader.text
    assert "No policy was confirmed, so there are no episodes to show." in reader.text
    assert "No episode was recorded." in reader.text
    assert reader.all("video") == []


def test_nothing_at_all_still_renders_and_claims_nothing():
    reader = Reader(render(ReportInputs("empty")))
    assert "No verdict: the run ended before any policy was evaluated." in reader.text
    assert [attrs for attrs in reader.all("svg") if attrs.get("role") == "img"] == []
    for question in QUESTIONS:
        assert reader.text.count(question) == 1
    assert "0.00" not in reader.text
    assert "promote" not in reader.text.lower()


def test_selected_but_not_confirmed(inputs):
    partial = replace(inputs, verdict="", decision="", rule="", rates=(), difference=None, endings=(), clips=())
    text = Reader(render(partial)).text
    assert (
        "No verdict yet: bc_hidden_512 leads with 0.94 (47/50, 95% 0.84-0.98, selection seeds), "
        "and was not confirmed on fresh seeds."
    ) in text
    assert "No policy was confirmed." in text


def test_a_first_champion_has_nothing_to_compare_with(inputs):
    text = Reader(render(replace(inputs, decision="first", rates=inputs.rates[:1], difference=None))).text
    assert "There is no champion yet to compare with." in text
    assert "First champion" in text


def test_no_failure_to_show_is_said(inputs):
    fine = tuple(ending for ending in inputs.endings if ending.status == "success")
    text = Reader(render(replace(inputs, endings=fine, clips=inputs.clips[:3]))).text
    assert "No finished episode failed, so there is no failure to show." in text
    assert "None of the 270 finished episodes failed." in text


@pytest.mark.parametrize(
    "odd",
    [
        {"endings": (Ending(1, "failure", 0),)},
        {"endings": (Ending(1, "crashed", 3), Ending(2, "crashed", 3))},
        {"rates": (Rate("w", "a", 0, 0, 5), Rate("c", "b", 0, 0, 5)), "difference": Difference(0, Interval(-1, 1), 0)},
        {"rates": (Rate("w", "a", 9, 9), Rate("c", "b", 0, 9)), "difference": Difference(1, Interval(0.6, 1), 9)},
        {"curves": (Curve("a", ((0, 1.0),)),)},
        {"curves": (Curve("a", ((0, -3.0), (10, -4.0)), ((10, -4.0),)),)},
        {"curves": (Curve("a", ((0, float("nan")),)), Curve("b", ()))},
        {"curves": (Curve("a", (), ((5, 0.0), (10, 0.0))),)},
        {"data": DataSanity((7,), 7, (dimension("action[0]", [0.5]),))},
        {"data": DataSanity((), 0, ())},
        {"feeds": (Feed("a", "cuda", 0.5, 0.1), Feed("b", "cuda", 0.0, 0.0))},
        {"timings": (Timing("plan", "", 0.0),)},
        {"leaderboard": rank_trials([TrialScore("only", 0, 50)])},
        {"leaderboard": rank_trials([TrialScore("only", 50, 50)])},
    ],
)  # fmt: skip
def test_odd_values_render(inputs, odd):
    page = render(replace(inputs, clips=(), **odd))
    Reader(page)
    assert "nan" not in re.sub(r"[A-Za-z]nan|nan[A-Za-z]", "", page.split("<body>")[1].split("data:")[0])


def test_a_starved_gpu_is_told_what_to_do(inputs):
    text = Reader(render(replace(inputs, feeds=(Feed("a", "cuda", 0.5, 0.5),), clips=()))).text
    assert "No: at most 50.0% of a training step was spent waiting for data." in text
    assert "Give the loader more threads, or write larger shards." in text
