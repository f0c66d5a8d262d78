from dataclasses import dataclass, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tendon.config.schema import PolicyConfig  # noqa: E402
from tendon.errors import ConfigError, TendonError  # noqa: E402
from tendon.evaluate.actor import Actor  # noqa: E402
from tendon.evaluate.rollout import drawing_guest, evaluate_policy, render_episode  # noqa: E402
from tendon.policies.base import Policy  # noqa: E402
from tendon.policies.windows import windows_of  # noqa: E402
from tests.policies.features_of import features_of  # noqa: E402


@dataclass(frozen=True)
class TowardsConfig(PolicyConfig):
    """What it sees, and how many actions it gives."""

    deltas: tuple = (0,)
    num_actions: int = 1

    def windows(self, features):
        targets, num = range(self.num_actions), self.num_actions
        return windows_of(self.reads(features), ("action",), self.deltas, targets, chunk=num, execute=num)


class Towards(Policy):
    """Steers towards the target with a gain; a negative gain never arrives."""

    def __init__(self, gain=5.0, deltas=(0,), num_actions=1, seen=None):
        sizes = {"observation.agent_pos": 2, "observation.target_pos": 2, "action": 2}
        super().__init__(TowardsConfig("towards", deltas, num_actions), features_of(sizes))
        self.gain = torch.nn.Parameter(torch.tensor(gain))
        self.seen = seen

    def act(self, observation, memory=None):
        if self.seen is not None:
            self.seen.append((observation, memory))
        position, target = (observation[key][:, -1] for key in self.reads)
        action = (self.gain * (target - position)).clamp(-1, 1)
        return {"action": action[:, None].repeat(1, self.windows.execute, 1)}, (memory or 0) + 1


class Broken(Towards):
    """Gives what ``answer`` says."""

    answer = torch.full((1, 1, 2), float("nan"))

    def act(self, observation, memory=None):
        return {"action": self.answer}, None


def test_good_policies_succeed_and_bad_ones_fail(reach, evaluation):
    good = evaluate_policy(Towards(), reach, evaluation, range(10))
    assert [result.seed for result in good] == list(range(10))
    assert all(result.status == "success" for result in good)
    assert all(result.sum_reward == result.max_reward == 1.0 for result in good)
    assert all(result.steps == len(result.actions) < 60 for result in good)
    bad = evaluate_policy(Towards(-5.0), reach, evaluation, range(3))
    assert [(result.status, result.steps, result.sum_reward, result.error) for result in bad] == [
        ("failure", 60, 0.0, "")
    ] * 3


def test_a_result_depends_on_the_seed_alone(reach, evaluation):
    seeds = [5, 3, 11, 4, 2, 9, 1]
    one = evaluate_policy(Towards(), reach, evaluation, seeds)
    three = evaluate_policy(Towards(), reach, replace(evaluation, batch_size=3), seeds)
    alone = evaluate_policy(Towards(), reach, evaluation, [9])
    assert one == three
    assert all(np.array_equal(a.actions, b.actions) for a, b in zip(one, three, strict=True))
    assert np.array_equal(alone[0].actions, one[5].actions)


@pytest.mark.parametrize("how", ["hang", "exit", "raise"])
@pytest.mark.parametrize("num_guests", [1, 2])
def test_one_crash_of_five_is_recorded_and_the_others_count(troubled, evaluation, how, num_guests):
    settings = replace(evaluation, batch_size=num_guests, step_timeout_s=0.4)
    seen = []
    results = evaluate_policy(Towards(), troubled({"3": how}), settings, range(1, 6), lambda *done: seen.append(done))
    assert [result.status for result in results] == ["success", "success", "crashed", "success", "success"]
    assert results[2].error.startswith("step 2: ")
    assert results[2].steps == 2
    assert seen == [(count, 5) for count in range(1, 6)]
    calm = evaluate_policy(Towards(), troubled({}), settings, range(1, 6))
    assert [calm[index] for index in (0, 1, 3, 4)] == [results[index] for index in (0, 1, 3, 4)]


def test_a_simulator_that_never_starts_is_an_error_with_its_reason(troubled, evaluation):
    with pytest.raises(TendonError, match="no display"):
        evaluate_policy(Towards(), troubled({"no_start": 1}), evaluation, range(5))


def test_success_on_the_last_step_counts(reach, evaluation):
    steps = evaluate_policy(Towards(), reach, evaluation, [1])[0].steps
    assert evaluate_policy(Towards(), replace(reach, episode_length=steps), evaluation, [1])[0].status == "success"
    assert evaluate_policy(Towards(), replace(reach, episode_length=steps - 1), evaluation, [1])[0].status == "failure"


def test_rows_are_the_contract(reach, evaluation):
    row = evaluate_policy(Towards(), reach, evaluation, [1])[0].row()
    names = ["seed", "status", "steps", "sum_reward", "max_reward", "wall_s", "error", "attempt", "video"]
    assert list(row) == names
    assert (row["attempt"], row["video"], row["error"]) == (1, "", "")


def test_a_policy_that_gives_nan_fails_and_one_of_another_width_is_refused(reach, evaluation):
    result = evaluate_policy(Broken(), reach, evaluation, [1])[0]
    assert result.status == "failure"
    assert "not finite at step 0" in result.error
    other = Broken()
    other.answer = torch.zeros(1, 1, 7)
    with pytest.raises(ConfigError, match="7 actions"):
        evaluate_policy(other, reach, evaluation, [1])


def test_an_observation_that_the_simulator_lacks_is_named(reach, evaluation):
    policy = Towards()
    policy.windows = windows_of(("observation.object",), ("action",), (0,), (0,))
    with pytest.raises(ConfigError, match="'object'"):
        evaluate_policy(policy, reach, evaluation, [1])


def test_history_repeats_the_first_observation_and_actions_are_queued():
    seen = []
    actor = Actor(Towards(deltas=(-2, 0), num_actions=2, seen=seen), 2)
    for episode in range(2):
        acting = actor.begin(episode)
        for step in range(5):
            value = np.array([10.0 * episode + step, 0.0])
            actor.act(acting, {"agent_pos": value, "target_pos": np.zeros(2)})
    windows = [observation["observation.agent_pos"][0, :, 0].tolist() for observation, _ in seen]
    assert windows == [[0, 0], [0, 2], [2, 4], [10, 10], [10, 12], [12, 14]]  # asked at steps 0, 2, 4 of each episode
    assert [memory for _, memory in seen] == [None, 1, 2, None, 1, 2]
    assert seen[0][0]["observation.agent_pos"].dtype == torch.float32


def test_images_reach_the_policy_as_they_are(reach, evaluation):
    seen = []
    policy = Towards(seen=seen)
    policy.windows = windows_of((*policy.reads, "observation.images.top_image"), ("action",), (0,), (0,))
    policy.act = lambda observation, memory=None: (
        seen.append((observation, memory)),
        ({"action": torch.zeros(1, 1, 2)}, None),
    )[1]
    env = replace(reach, observation=(*reach.observation, "top_image"), options={"image_size": 16}, episode_length=2)
    evaluate_policy(policy, env, evaluation, [1])
    image = seen[0][0]["observation.images.top_image"]
    assert (image.dtype, tuple(image.shape)) == (torch.uint8, (1, 1, 16, 16, 3))


def test_a_recorded_episode_can_be_drawn_and_a_different_end_is_said(reach, evaluation):
    result = evaluate_policy(Towards(), reach, evaluation, [4])[0]
    with drawing_guest(reach, evaluation) as guest:
        replay = render_episode(guest, 4, result.actions, recorded=result.status, size=32, every=3)
        assert replay.agrees
        assert replay.note == ""
        assert len(replay.frames) == 1 + -(-result.steps // 3)
        assert replay.frames[0].shape == (32, 32, 3)
        other = render_episode(guest, 5, result.actions, recorded="success", size=32)
        assert not other.agrees
        assert other.note == "recorded as success, but ends as failure when its actions are executed again"


def test_a_crash_while_drawing_leaves_the_frames_so_far(troubled, evaluation):
    with drawing_guest(troubled({"4": "exit"}), evaluation) as guest:
        replay = render_episode(guest, 4, np.zeros((9, 2)), recorded="failure", size=16)
        assert (replay.status, len(replay.frames)) == ("crashed", 3)
        assert render_episode(guest, 5, np.zeros((9, 2)), recorded="failure", size=16).agrees
