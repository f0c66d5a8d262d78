"""Clips come from states that the guest kept, while the evaluation runs, and show what a guest that plays again would show."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
from tendon.config.compose import compose
from tendon.evaluate import sims
from tendon.evaluate.filming import Filming
from tendon.evaluate.guest import Guest
from tendon.evaluate.rollout import evaluate_policy
from tests.evaluate.test_rollout import Towards


def film_and_live(env, num_steps=9, scale=0.3, size=128):
    """Frames of a film at every third step, and those that were drawn as it happened."""
    with Guest(env, cameras=(), films=True) as guest:
        rng = np.random.default_rng(0)
        first = guest.reset(7)
        actions = [scale * rng.standard_normal(guest.action_dim) for _ in range(num_steps)]
        if "agent_pos" in first and first["agent_pos"].max() > 10:  # PushT: pixels
            actions = [first["agent_pos"] + 200 * action for action in actions]
        for action in actions:
            guest.step(action)
        film, stride = guest.film(size, 3, 100)
        again = guest.reset(7)
        assert all(np.array_equal(first[name], again[name]) for name in first), "the film changed the next episode"
        live = [guest.render(size, size)]
        for number, action in enumerate(actions, 1):
            guest.step(action)
            if number % 3 == 0:
                live.append(guest.render(size, size))
    assert stride == 3
    assert len(film) == len(live) == 1 + num_steps // 3
    return film, live


def test_a_film_shows_what_was_to_be_seen(reach):
    film, live = film_and_live(reach)
    assert all(np.array_equal(one, other) for one, other in zip(film, live, strict=True))


@pytest.mark.sim
@pytest.mark.parametrize("name", ["lift", "pusht", "metaworld"])
def test_simulators_are_drawn_from_states(name):
    env = compose([f"env={name}", "data.uri=unused"]).env
    if not sims.installed(env.simulator) or not sims.can_draw(env.simulator):
        pytest.skip(f"{env.simulator} is not installed, or nothing draws")
    film, live = film_and_live(env)
    for one, other in zip(film, live, strict=True):  # MuJoCo's own frame is of the state a substep before
        assert np.abs(one.astype(int) - other).mean() < 2
    assert (film[0] != film[-1]).any()


def test_frames_that_people_cannot_tell_apart_are_drawn_once_and_long_episodes_have_fewer(reach):
    with Guest(reach, cameras=(), films=True) as guest:
        guest.reset(1)
        for _ in range(20):
            guest.step(np.zeros(2))  # the wind alone
        frames, stride = guest.film(16, 1, 10)
    assert stride == 2
    assert len(frames) == 11
    assert len({id(frame) for frame in frames}) < len(frames)


def test_clips_are_made_by_the_guests_that_play_and_hold_the_first_of_each_kind(reach, evaluation):
    started = []

    class Counted(Guest):
        def start(self):
            started.append(self)
            super().start()

    import tendon.evaluate.rollout as rollout

    whole, rollout.Guest = rollout.Guest, Counted
    try:
        filming = Filming(2, {})
        results = evaluate_policy(
            Towards(),
            replace(reach, episode_length=14),
            replace(evaluation, batch_size=2),
            range(1, 13),
            filming=filming,
        )
    finally:
        rollout.Guest = whole
    assert len(started) == 2
    for status in {result.status for result in results}:
        first = [index for index, result in enumerate(results) if result.status == status][:2]
        assert set(first) <= filming.clips.keys()
    assert len(filming.clips) <= 2 * 2 + 2
    plain = evaluate_policy(
        Towards(), replace(reach, episode_length=14), replace(evaluation, batch_size=2), range(1, 13)
    )
    assert plain == results, "a film changes no episode"


@pytest.mark.sim
def test_what_did_not_move_is_not_drawn_again_and_looks_the_same():
    env = compose(["env=lift", "data.uri=unused"]).env
    if not sims.installed(env.simulator) or not sims.can_draw(env.simulator):
        pytest.skip(f"{env.simulator} is not installed, or nothing draws")
    with Guest(env, cameras=(), films=True) as guest:
        guest.reset(7)
        for _ in range(8):
            guest.step(np.array([0.5, -0.5, -1, 0, 0, 0.5, 1]))
            part = guest.render(128, 128)
            guest.render(128, 128, "robot0_eye_in_hand")
            whole = guest.render(128, 128)
            differs = np.abs(part.astype(int) - whole).max(-1) > 8
            assert differs.mean() < 1e-3
