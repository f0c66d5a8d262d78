import json

import pytest

from tendon.evaluate.confidence import Outcomes
from tendon.registry.alpha import Allowance
from tendon.registry.gate import Contender, Looks, Verdict, decide


def contender(digest: str, successes: range, n: int, crashed: int = 0) -> Contender:
    return Contender(digest, Outcomes({seed: seed in successes for seed in range(n)}, crashed))


def test_a_clear_win_is_promoted_in_plain_words():
    verdict = decide(contender("new", range(270), 300), contender("old", range(20, 254), 300))
    assert verdict.decision == "promote"
    assert verdict.promotes
    assert verdict.sentence == "challenger beats champion by 12 points (95% 9 to 16, paired, 300 seeds): promote"
    assert verdict.rule == (
        "promote when the paired 95% interval of (challenger - champion) lies above 0 and the exact test says "
        "so too, keep the champion when it lies below, otherwise cannot tell"
    )
    assert verdict.numbers["difference"] == pytest.approx(0.12)
    assert verdict.numbers["only_challenger"] == 36
    assert verdict.numbers["mcnemar_exact_p"] < 1e-6


def test_a_clear_loss_keeps_the_champion():
    verdict = decide(contender("new", range(200), 300), contender("old", range(270), 300))
    assert verdict.decision == "keep"
    assert not verdict.promotes
    assert verdict.sentence.startswith("challenger is worse than champion by 23 points (95% -28 to -19, paired")


def test_a_difference_that_could_be_luck_names_the_number_of_episodes():
    verdict = decide(contender("new", range(8, 90), 100), contender("old", range(78), 100))
    assert verdict.decision == "cannot_tell"
    assert not verdict.promotes
    assert "cannot tell challenger from champion (95% -" in verdict.sentence
    assert f"about {verdict.numbers['more_episodes']:,.0f} more episodes needed" in verdict.sentence
    assert verdict.sentence.endswith("keep the champion")


def test_equal_on_every_seed_is_said_so():
    verdict = decide(contender("new", range(49), 50), contender("old", range(49), 50))
    assert verdict.decision == "cannot_tell"
    assert "both did the same on every seed" in verdict.sentence
    assert verdict.numbers["more_episodes"] == -1


def test_equally_often_on_different_seeds():
    verdict = decide(contender("new", range(45), 50), contender("old", range(5, 50), 50))
    assert "nothing seen so far points either way" in verdict.sentence


def test_the_same_policy_is_already_the_champion():
    verdict = decide(contender("same", range(50), 50), contender("same", range(50), 50))
    assert verdict.decision == "keep"
    assert "is already the champion" in verdict.sentence


def test_a_margin_moves_the_bar():
    new, old = contender("new", range(270), 300), contender("old", range(20, 254), 300)
    assert decide(new, old, margin=0.05).decision == "promote"
    assert decide(new, old, margin=0.10).decision == "cannot_tell"
    verdict = decide(new, old, margin=0.20)
    assert verdict.decision == "keep"
    assert "challenger is not better by the 20 points that the rule asks for" in verdict.sentence
    assert "above 20 points" in verdict.rule


def test_rounding_never_hides_the_side_of_zero():
    verdict = decide(contender("new", range(996), 1000), contender("old", range(990), 1000))
    assert verdict.decision == "promote"
    assert verdict.sentence == "challenger beats champion by 0.6 points (95% 0.2 to 1.3, paired, 1,000 seeds): promote"
    verdict = decide(contender("new", range(270), 300), contender("old", range(230), 300), margin=0.095)
    assert verdict.decision == "cannot_tell" or "95% 9.5" not in verdict.sentence


def test_one_point_is_singular():
    verdict = decide(contender("new", range(60000), 60000), contender("old", range(59350), 60000), margin=0.0)
    assert "by 1 point (95% 1 to 1, " in verdict.sentence


def test_crashes_are_left_out_of_the_pairs_and_shown():
    new = Contender("new", Outcomes({seed: True for seed in range(49)}, crashed=1))
    verdict = decide(new, contender("old", range(20), 50))
    assert verdict.numbers["pairs"] == 49
    assert "49 seeds, 1 crashed" in verdict.sentence


def test_no_common_seed_cannot_tell():
    old = Contender("old", Outcomes({seed: True for seed in range(100, 150)}))
    verdict = decide(contender("new", range(50), 50), old)
    assert verdict.decision == "cannot_tell"
    assert "no seed that challenger and champion both finished" in verdict.sentence


@pytest.mark.parametrize(
    ("successes", "floor", "decision"),
    [
        (50, 0.5, "first"),
        (50, 0.95, "cannot_tell"),
        (27, 0.5, "cannot_tell"),
        (10, 0.5, "keep"),
        (25, 0.5, "cannot_tell"),
    ],
)
def test_the_first_champion_needs_a_lower_bound_above_the_floor(successes, floor, decision):
    verdict = decide(contender("new", range(successes), 50), None, floor=floor)
    assert verdict.decision == decision
    assert f"{floor:g}" in verdict.rule
    assert verdict.promotes == (decision == "first")


def test_the_first_champion_in_words():
    verdict = decide(contender("new", range(49), 49, crashed=1), None)
    assert verdict.sentence == (
        "first champion: success rate 1.00 (49/49, 95% 0.93-1.00, 1 crashed, confirmation seeds), "
        "and its lower end is at least 0.5: promote"
    )


def test_nothing_finished_promotes_nothing():
    verdict = decide(Contender("new", Outcomes({}, crashed=50)), None)
    assert verdict.decision == "cannot_tell"
    assert not verdict.promotes
    assert not decide(Contender("new", Outcomes({}, crashed=50)), None, floor=0.0).promotes


def test_a_verdict_survives_json():
    verdict = decide(contender("new", range(270), 300), contender("old", range(234), 300))
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict(), allow_nan=False))) == verdict


def without(one: Contender, seeds: range) -> Contender:
    """The same, where the simulator crashed on some seeds."""
    kept = {seed: done for seed, done in one.outcomes.by_seed.items() if seed not in seeds}
    return Contender(one.policy_digest, Outcomes(kept, len(one.outcomes.by_seed) - len(kept)))


def test_crashes_that_could_turn_a_win_promote_nothing():
    """A policy that crashes the simulator where it would fail must not win by it."""
    new = contender("new", range(60), 100)
    old = Contender("old", Outcomes({seed: seed < 50 or 70 <= seed < 90 for seed in range(100)}))
    assert decide(new, old).decision == "cannot_tell"
    verdict = decide(without(new, range(70, 90)), old)
    assert verdict.decision == "cannot_tell"
    assert "not if the 20 crashed were failures of the challenger" in verdict.sentence
    assert verdict.numbers["low"] > 0


def test_a_few_crashes_do_not_hold_up_a_clear_verdict():
    new, old = contender("new", range(270), 300), contender("old", range(20, 254), 300)
    assert decide(without(new, range(3)), without(old, range(100, 102))).decision == "promote"
    assert decide(without(old, range(2)), without(contender("best", range(300), 300), range(5, 7))).decision == "keep"


def test_crashes_that_could_turn_a_first_champion_promote_nothing():
    verdict = decide(without(contender("new", range(70), 100), range(70, 95)), None, floor=0.7)
    assert verdict.decision == "cannot_tell"
    assert "crashed episodes could turn it" in verdict.sentence


def test_promotion_needs_the_exact_test_too():
    """Tango's interval of 5 against 0 in 30 is clear of 0, McNemar's exact test is not: p = 0.06."""
    verdict = decide(contender("new", range(30), 30), contender("old", range(5, 30), 30))
    assert verdict.numbers["low"] > 0
    assert verdict.numbers["mcnemar_exact_p"] == pytest.approx(0.0625)
    assert verdict.decision == "cannot_tell"
    assert "the interval is clear, the exact test is not: p 0.031, needed 0.025" in verdict.sentence


def test_a_challenged_champion_asks_for_more_and_says_so():
    new, old = contender("new", range(270), 300), contender("old", range(60, 295), 300)
    assert decide(new, old).decision == "promote"
    verdict = decide(new, old, allowance=Allowance(30, 1e-6, 0.05, 0.03))
    assert verdict.decision == "cannot_tell"
    assert "a champion that is challenged often asks for more: exact p" in verdict.sentence
    assert "needed 1e-06 of challenger 30" in verdict.sentence
    assert "0.03 of 0.05 are left" in verdict.rule
    assert verdict.numbers["alpha_left"] == 0.03
    assert "lifetime is spent" in decide(new, old, allowance=Allowance(3, 0.0, 0.05, 0.0)).sentence


def of_rows(digest, letters):
    names = {"+": "success", "-": "failure", "x": "crashed"}
    rows = [{"seed": seed, "status": names[letter]} for seed, letter in enumerate(letters)]
    return Contender(digest, Outcomes.of(rows))


def test_a_crash_must_not_decide_either_way():
    old = of_rows("old", "-" * 9 + "+" * 41)
    assert decide(of_rows("new", "+" * 50), old).decision == "promote"
    assert decide(of_rows("new", "+" * 49 + "x"), old).decision == "promote"  # 9 : 1 would still do
    verdict = decide(of_rows("new", "+" * 46 + "xxxx"), old)
    assert verdict.decision == "cannot_tell"
    assert "not if the 4 crashed were failures of the challenger and successes of the champion" in verdict.sentence
    verdict = decide(of_rows("new", "-" * 9 + "+" * 41), of_rows("old", "+" * 46 + "xxxx"))
    assert verdict.decision == "cannot_tell"
    assert "successes of the challenger and failures of the champion" in verdict.sentence


def test_looks_after_every_pair_stop_early_and_show_their_path():
    new, old = of_rows("new", "+" * 60), of_rows("old", "-" * 30 + "+" * 30)
    verdict = decide(new, old, looks=Looks(range(60), 60))
    assert verdict.decision == "promote"
    assert verdict.path["decision"] == "better"
    assert len(verdict.path["looks"]) < 15
    assert "look after every pair" in verdict.rule
    assert decide(old, new, looks=Looks(range(60), 60)).decision == "keep"
    verdict = decide(of_rows("new", "+-" * 30), of_rows("old", "-+" * 30), looks=Looks(range(60), 60))
    assert verdict.decision == "cannot_tell"
    assert "stopped after" in verdict.sentence
    assert "of at most 60 pairs" in verdict.sentence
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict(), allow_nan=False))) == verdict
