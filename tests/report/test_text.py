from tendon.evaluate.confidence import Pairs, difference_paired
from tendon.report.clips import last_frame_jpeg, make_clip, pick_clips
from tendon.report.summary import Difference, Ending, Rate, ReportInputs
from tendon.report.text import end_card
from tests.report import sample


def test_the_end_card_of_a_whole_run():
    card = end_card(sample.run(clips=False))
    assert card == (
        "Challenger beats champion by 9 points (95% 5 to 14, paired, 297 seeds, 3 crashed):\n"
        "promote.\n"
        "\n"
        "winner    0.91 (270/297, 95% 0.87-0.94, 3 crashed, confirmation seeds)  bc_hidden_512\n"
        "champion  0.81 (243/300, 95% 0.76-0.85, confirmation seeds)  9b1c77e0, promoted 2026-11-12\n"
        "\n"
        "  1  bc_hidden_512       0.94 (47/50, 95% 0.84-0.98, selection seeds)  71 steps\n"
        "  2  bc_hidden_256       0.90 (45/50, 95% 0.79-0.96, selection seeds)  80 steps\n"
        "  3  bc_hidden_1024_gmm  0.73 (36/49, 95% 0.60-0.84, 1 crashed, selection seeds)  96 steps\n"
        "  x  bc_lr_1e-1          failed in train: the loss is not a number\n"
    )


def test_the_end_card_of_a_run_without_a_result():
    assert end_card(ReportInputs("t")) == "No verdict: the run ended before any policy was evaluated.\n"
    card = end_card(sample.all_failed())
    assert card.startswith("Both trials failed: there is no policy to judge.\n\n  x  bc_0  failed in train")


def test_values_come_from_the_run_files():
    summary = {"successes": 48, "n": 49, "crashed": 1, "block": "confirmation"}
    assert Rate.of("winner", "a", summary) == Rate("winner", "a", 48, 49, 1)
    row = {"seed": 1000003, "status": "failure", "steps": 100, "error": "", "video": ""}
    assert Ending.of(row) == Ending(1000003, "failure", 100)
    difference = Difference.of(Pairs(40, 6, 1, 3))
    assert (difference.value, difference.pairs) == (0.1, 50)
    assert difference.interval_95 == difference_paired(Pairs(40, 6, 1, 3))


def test_clips_are_the_first_of_each_kind_in_seed_order():
    rows = [
        {"seed": seed, "status": status, "steps": 1, "video": video}
        for seed, status, video in [
            (9, "success", "v"), (1, "success", ""), (2, "success", "v"), (5, "failure", "v"), (3, "success", "v"),
            (4, "success", "v"), (6, "crashed", "v"),
        ]
    ]  # fmt: skip
    assert [row["seed"] for row in pick_clips(rows)] == [2, 3, 4, 5]


def test_a_recording_that_cannot_be_decoded_gets_no_still(caplog):
    assert last_frame_jpeg(b"not a video") == b""
    assert "cannot be decoded" in caplog.text
    assert make_clip({"status": "success", "seed": 3, "steps": 9}, b"").poster_jpeg == b""


def test_the_still_is_the_last_frame():
    import simplejpeg

    still = simplejpeg.decode_jpeg(sample.clip("success", 3, 40).poster_jpeg)
    assert still.shape == (160, 160, 3)
    green = (still[..., 1].astype(int) - still[..., 0] > 80).sum()
    assert 150 < green < 420  # the disc lies on the target: a ring of it is left
