"""The batched actor: one fixed shape, memory and noise of each episode its own, and what a batch changes is measured."""

import time
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tendon.config.compose import compose  # noqa: E402
from tendon.evaluate.actor import TOLERANCE, Actor  # noqa: E402
from tendon.evaluate.rollout import evaluate_policy  # noqa: E402
from tendon.policies.base import Policy  # noqa: E402
from tendon.policies.registry import make_policy  # noqa: E402
from tests.evaluate.test_rollout import Towards, TowardsConfig  # noqa: E402
from tests.policies.features_of import features_of  # noqa: E402

FAMILIES = ["bc", "bc_gaussian", "bc_gmm", "bc_rnn", "bc_rnn_gmm", "bc_transformer", "bc_transformer_gmm", "bc_vae"]
FEATURES = features_of({"observation.agent_pos": 2, "observation.target_pos": 2, "action": 2})


class Shapes(Towards):
    """Notes the shape of every batch."""

    def __init__(self, pause_s=0.0, **keys):
        super().__init__(**keys)
        self.shapes, self.pause_s = [], pause_s

    def act(self, observation, memory=None):
        time.sleep(self.pause_s)
        self.shapes.append(tuple(observation["observation.agent_pos"].shape))
        return super().act(observation)[0], None  # a number as memory would keep episodes apart that differ in it


class Counting(Policy):
    """Its memory is a tree: the action tells how often this episode was asked, and what it was seeded with."""

    def __init__(self):
        sizes = {"observation.agent_pos": 2, "action": 2}
        super().__init__(TowardsConfig("counting", num_actions=2), features_of(sizes))

    def start(self, *seeds):
        return {"count": torch.zeros(len(seeds)), "more": [torch.tensor(seeds).double().reshape(-1, 1), None]}

    def act(self, observation, memory=None):
        count = memory["count"] + 1
        action = torch.stack([count.double(), memory["more"][1 - 1][:, 0]], -1)
        return {"action": action[:, None].repeat(1, 2, 1)}, {"count": count, "more": memory["more"]}


class Neighbours(Towards):
    """Wrong in a batch: a row changes with the rows beside it."""

    def act(self, observation, memory=None):
        given, memory = super().act(observation, memory)
        return {key: action / len(action) for key, action in given.items()}, memory


def position(x):
    return {"agent_pos": np.array([x, 0.0]), "target_pos": np.ones(2)}


def test_every_batch_has_the_same_shape_and_guests_share_it(reach, evaluation, monkeypatch):
    policy, checks, waiting = Shapes(pause_s=0.02), [], []
    ask = Actor.ask
    monkeypatch.setattr(Actor, "ask", lambda actor, episodes: (waiting.append(len(episodes)), ask(actor, episodes))[1])
    settings = replace(evaluation, batch_size=4, step_timeout_s=20.0)
    results = evaluate_policy(policy, reach, settings, range(30), checked=checks.append)
    alone, *batches = policy.shapes
    assert alone == (1, 1, 2)  # asked once to compare
    assert set(batches) == {(4, 1, 2)}
    assert sum(waiting) == sum(result.steps for result in results)
    assert max(waiting) > 1  # several episodes were answered at once, as soon as several guests had started
    assert (checks[0].rows, checks[0].bit_equal, checks[0].max_difference) == (4, True, 0.0)


def test_memory_is_a_tree_of_each_episode_and_chunks_are_executed_as_the_window_says():
    actor = Actor(Counting(), 2, rows=3)
    first, second = actor.begin(11, 0), actor.begin(12, 1)
    given = [actor.act(first, position(0)).tolist() for _ in range(5)]
    assert given == [[1, 11], [1, 11], [2, 11], [2, 11], [3, 11]]
    first.planned.clear()
    for episode in (first, second):
        episode.history.append(position(1))
    actor.ask([first, second])
    assert [first.planned[0].tolist(), second.planned[0].tolist()] == [[4, 11], [1, 12]]
    assert second.memory["more"][0].tolist() == [[12]]


def test_two_episodes_with_one_row_are_asked_one_after_the_other():
    policy = Shapes()
    actor = Actor(policy, 2, rows=2)
    episodes = [actor.begin(seed, row) for seed, row in ((1, 0), (2, 2), (3, 1))]
    for number, episode in enumerate(episodes):
        episode.history.append(position(float(number)))
    actor.ask(episodes)
    assert policy.shapes == [(2, 1, 2), (2, 1, 2)]
    assert [episode.planned[0][0] for episode in episodes] == [1.0, 0.0, -1.0]


def test_rows_that_give_the_same_bits_stand_in_for_each_other():
    policy = Shapes()
    actor = Actor(policy, 2, rows=3)
    episodes = [actor.begin(seed, row) for seed, row in ((1, 0), (2, 3), (3, 1), (4, 2))]
    for number, episode in enumerate(episodes):
        episode.history.append(position(float(number)))
    check = actor.compare(episodes[0])
    assert check.rows_apart == ()
    policy.shapes.clear()
    actor.ask(episodes[:3])
    assert policy.shapes == [(3, 1, 2)]
    actor.ask(episodes)
    assert policy.shapes == [(3, 1, 2)] * 3
    assert [episode.planned[-1][0] for episode in episodes] == [1.0, 0.0, -1.0, -1.0]
    policy.shapes.clear()
    apart = Actor(policy, 2, rows=3, rows_apart=[0])
    apart.ask(episodes[:3])  # the second one wants the row that is apart, as the first does
    assert policy.shapes == [(3, 1, 2)] * 2


def test_a_policy_whose_rows_depend_on_each_other_is_asked_for_one_episode_at_a_time(reach, evaluation):
    checks = []
    settings = replace(evaluation, batch_size=4)
    results = evaluate_policy(Neighbours(), reach, settings, range(6), checked=checks.append)
    assert (checks[0].rows, checks[0].bit_equal) == (1, False)
    assert checks[0].max_difference > checks[0].tolerance == TOLERANCE
    assert results == evaluate_policy(Towards(), reach, evaluation, range(6))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("rows", [2, 8])
def test_a_family_gives_in_a_batch_what_it_gives_alone(name, rows):
    """Measured for each: to the last bit or not, always far below the tolerance; whatever stands in the other rows."""
    torch.manual_seed(0)
    config = compose([f"policy={name}", "env=reach", "data.uri=x"])
    policy = make_policy(config.policy, FEATURES).eval()
    observations = [position(x) for x in np.linspace(-1, 1, 5)]

    def actions(rows, others):
        actor = Actor(policy, 2, rows=rows)
        episode, *rest = (actor.begin(seed, row) for row, seed in enumerate([7, *others]))
        given = []
        for observation in observations:
            for number, one in enumerate([episode, *rest]):
                one.history.append(observation if one is episode else position(float(number)))
                one.planned.clear()
            actor.ask([episode, *rest])
            given.append(episode.planned[0])
        return np.array(given)

    alone, together = actions(1, []), actions(rows, [])
    assert np.abs(together - alone).max() < TOLERANCE
    assert np.array_equal(together, actions(rows, [3]))  # the neighbours' numbers change no bit
    episode = Actor(policy, 2).begin(7)
    episode.history.append(observations[0])
    check = Actor(policy, 2, rows=rows).compare(episode)
    assert check.rows == rows
    assert check.max_difference < TOLERANCE


def test_a_table_says_how_its_actions_were_asked_for(reach, evaluation, tmp_path, monkeypatch):
    from tendon.evaluate import table

    policy = compose(["policy=bc", "env=reach", "data.uri=x"]).policy
    monkeypatch.setattr("tendon.evaluate.table.policy_config", lambda uri: policy)
    monkeypatch.setattr("tendon.export.bundle.load_policy", lambda uri: (Towards(), None))
    monkeypatch.setattr("tendon.export.bundle.bundle_digest", lambda uri: "0" * 16)
    made = table.evaluate_bundle(
        "bundle",
        reach,
        replace(evaluation, batch_size=3),
        block="selection",
        seeds=range(5),
        evaluations_uri=str(tmp_path),
    )
    assert made.summary["batches"] == {
        "rows": 3,
        "measured_on": "the first observation of the first episode, alone and in every row",
        "bit_equal": True,
        "max_difference": 0.0,
        "tolerance": TOLERANCE,
        "rows_apart": [],
    }
