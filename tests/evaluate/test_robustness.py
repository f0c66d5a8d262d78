"""The robustness card: perturbed arms beside a matched clean arm, on real guests."""

from dataclasses import replace

import numpy as np
import pytest

from tendon.errors import ConfigError, DataError
from tendon.evaluate.confidence import Interval
from tendon.evaluate.guest import Guest, Unperturbed
from tendon.evaluate.robustness import Card, make_card, parse_perturbations, perturbed_env
from tendon.evaluate.table import Evaluation
from tendon.report.card_section import card_section
from tendon.sim.perturbations import STANDARD


def table(outcomes, uri="t"):
    rows = tuple({"seed": 50 + k, "status": "success" if won else "failure"} for k, won in enumerate(outcomes))
    summary = {"seeds": {"first": 50, "count": len(rows)}, "successes": sum(outcomes), "n": len(rows), "crashed": 0}
    return Evaluation(uri, summary, rows, False)


def test_names_are_checked_and_a_delay_may_be_of_any_length():
    assert parse_perturbations("") == ()
    assert parse_perturbations("standard") == STANDARD
    assert parse_perturbations("mass,action_delay_130ms,mass") == ("mass", "action_delay_130ms")
    with pytest.raises(ConfigError, match="perturb=friction"):
        parse_perturbations("fricton")
    with pytest.raises(ConfigError, match="0 to 200"):
        parse_perturbations("action_delay_201ms")


def test_each_arm_is_paired_with_the_clean_one_and_what_cannot_be_is_named(reach):
    clean = [True] * 36 + [False] * 4
    hurt = [False] * 14 + [True] * 22 + [False] * 4
    same = [*clean[:-1], True]

    def evaluate(env):
        name = env.options.get("perturb", "")
        if name == "start_state":
            raise DataError(
                "the simulator crashed in 40 of 40 episodes", where="here", why="it tipped over", fix="mend it"
            )
        if name == "mass":
            raise Unperturbed("reach/Reach does not support mass: it floats", "here", "leave it out")
        return table({"": clean, "friction": hurt}.get(name, same), name)

    card = make_card(("friction", "action_noise", "mass", "lighting", "start_state"), reach, evaluate)
    friction, noise, mass, lighting, start = card.arms
    assert start.unsupported == "under it the simulator crashed in 40 of 40 episodes"
    assert (friction.lost, friction.gained, friction.pairs, friction.verdict) == (14, 0, 40, "worse")
    assert friction.difference == pytest.approx(-0.35)
    assert friction.difference_95.high < 0
    assert friction.p_adjusted == pytest.approx(2 * 2 * 0.5**14)  # Holm over the two that were played
    assert (noise.lost, noise.gained, noise.verdict) == (0, 1, "cannot tell")
    assert mass.verdict == lighting.verdict == "not played"
    assert "it floats" in mass.unsupported
    assert "reads no picture" in lighting.unsupported
    assert card.sentence() == "worse under 1 of 2 perturbations: friction (-35 points); of 1 it cannot be told"
    assert Card.from_dict(card.to_dict()) == card
    assert isinstance(Card.from_dict(card.to_dict()).arms[0].difference_95, Interval)
    page = card_section(card)
    assert "How robust is it?" in page
    assert "14 / 0" in page
    assert "it floats" in page
    assert "seeds 50 to 89" in page


def played(env, seed, steps=8):
    with Guest(env, start_timeout_s=60, step_timeout_s=20) as guest:
        seen = [guest.reset(seed)]
        seen += [guest.step(np.array([1.0, -0.5])).observation for _ in range(steps)]
    return np.array([one["agent_pos"] for one in seen])


def test_an_action_takes_effect_as_many_steps_late_as_the_delay_has(reach):
    clean, late = played(reach, 7), played(perturbed_env(reach, "action_delay_200ms"), 7)
    pushed = played(replace(reach, options={"perturb": "action_delay_0ms"}), 7)
    np.testing.assert_array_equal(pushed, clean)
    idle = late[1:3]  # two steps of 100 ms in which only the wind pushes
    assert np.abs(idle - late[0]).max() < 0.02
    assert np.abs(clean[2] - clean[0]).max() > 0.03
    assert np.diff(late[:, 0])[3:].max() > 0.05


def test_a_guest_refuses_by_name_before_anything_is_played(reach, rich):
    with pytest.raises(Unperturbed, match="reach/Reach does not support action_delay_30ms: a step takes 100 ms"):
        played(perturbed_env(reach, "action_delay_30ms"), 1)
    for name in ("lighting", "start_state", "mass", "friction", "action_noise", "action_delay_100ms"):
        guest = Guest(perturbed_env(rich, name), start_timeout_s=60, step_timeout_s=20)
        try:
            with pytest.raises(Unperturbed, match=f"does not support {name}: "):
                guest.start()
        finally:
            guest.close()


def test_the_card_is_another_question_and_its_clean_arm_is_not(reach):
    from tendon.evaluate.adapters import sim_numerics

    assert perturbed_env(reach, "mass").identity != reach.identity
    assert sim_numerics(reach) == sim_numerics(perturbed_env(reach, "mass"))  # as long as their version is 1
