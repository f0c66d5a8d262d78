"""The names of simulator, dataset and policy meet in the feature map; cameras, texts and actions have their own shape."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tendon import trust  # noqa: E402
from tendon.config.compose import compose  # noqa: E402
from tendon.config.feature_map import FeatureMap  # noqa: E402
from tendon.config.schema import PolicyConfig  # noqa: E402
from tendon.errors import ConfigError  # noqa: E402
from tendon.evaluate.feature_table import feature_table  # noqa: E402
from tendon.evaluate.guest import Guest  # noqa: E402
from tendon.evaluate.rollout import evaluate_policy, render_episode  # noqa: E402
from tendon.policies.base import Policy  # noqa: E402
from tendon.policies.windows import windows_of  # noqa: E402
from tests.policies.features_of import features_of  # noqa: E402

KEYS = (
    "observation.state",
    "observation.where",
    "observation.images.front",
    "observation.images.wrist_image",
    "task",
)


class WalkerConfig(PolicyConfig):
    """Two steps of everything, two actions at once."""

    def windows(self, features):
        return windows_of(KEYS, ("action.buttons", "action.camera"), (-1, 0), (0, 1), chunk=2, execute=2)


class Walker(Policy):
    """Reads everything that ``rich`` shows, and gives both parts of its action."""

    def __init__(self, seen, parts=("action.buttons", "action.camera")):
        super().__init__(WalkerConfig("walker"), {})
        self.seen, self.parts = seen, parts

    def act(self, observation, memory=None):
        self.seen.append(observation)
        rows = len(observation["observation.state"])
        buttons = torch.tensor([1.0, 0.0, 0.0]).expand(rows, 2, 3)
        camera = torch.tensor([0.0, 1.0]).expand(rows, 2, 2)
        return dict(zip(self.parts, (buttons, camera), strict=True)), memory


def test_a_policy_sees_features_of_every_kind_and_gives_a_dict(rich, evaluation):
    seen = []
    results = evaluate_policy(Walker(seen), rich, replace(evaluation, batch_size=2), [1, 2])
    assert [result.status for result in results] == ["success", "success"]
    assert [result.steps for result in results] == [4, 4]  # 1.25 a step
    assert results[0].actions.tolist() == [[1, 0, 0, 0, 1]] * 4
    observation = seen[-1]
    assert {key: tuple(value.shape) for key, value in observation.items() if key != "task"} == {
        "observation.state": (2, 2, 1),
        "observation.where": (2, 2, 1),
        "observation.images.front": (2, 2, 48, 64, 3),
        "observation.images.wrist_image": (2, 2, 12, 20, 3),
    }
    assert observation["observation.where"].dtype == torch.int64
    assert observation["observation.images.front"].dtype == torch.uint8
    texts = {text for one in seen for text in one["task"]}
    assert texts == {"walk 1 steps", "walk to the end"}  # of the episode, or of the task
    told = []
    evaluate_policy(Walker(told), replace(rich, instruction="as I say"), evaluation, [1])
    assert {text for one in told for text in one["task"]} == {"as I say"}


def test_a_text_is_an_index_where_the_policy_has_a_processing(rich, evaluation):
    class Table:
        texts = ("known",)

        def text_index(self, text):
            self.texts = tuple(dict.fromkeys([*self.texts, text]))
            return self.texts.index(text)

    seen = []
    policy = Walker(seen)
    policy.processing = Table()
    evaluate_policy(policy, rich, evaluation, [1, 2])
    assert policy.processing.texts == ("known", "walk 1 steps", "walk to the end")
    numbers = [one["task"] for one in seen]
    assert {tuple(one.shape) for one in numbers} == {(1, 2)}
    assert {number for one in numbers for number in one.flatten().tolist()} == {1, 2}


def test_recorded_actions_of_several_parts_are_replayed(rich, evaluation):
    result = evaluate_policy(Walker([]), rich, evaluation, [1])[0]
    with Guest(rich) as guest:
        guest.render = lambda *size: np.zeros((2, 2, 3), np.uint8)
        assert render_episode(guest, 1, result.actions, recorded="success").agrees


def test_only_cameras_that_are_read_are_drawn(rich):
    with Guest(replace(rich, observation=("x", "wrist_image"))) as guest:
        observation = guest.reset(1)
        assert "front_image" not in observation
        assert observation["wrist_image"].shape == (12, 20, 3)
        assert observation["drawn"].tolist() == [0, 1]


def test_an_old_adapter_draws_one_size_and_says_so(reach, tmp_path, monkeypatch):
    path = tmp_path / "old.py"
    path.write_text(
        "import numpy as np\n"
        "class Adapter:\n"
        "    def make(self, task, options, fps, cameras, size): self.size = size; return {'action_dim': 1}\n"
        "    def reset(self, seed): return {'a_image': np.zeros((*self.size, 3), np.uint8)}\n"
    )
    monkeypatch.setenv(trust.VARIABLE, trust.sha256_of(path))
    env = replace(reach, simulator=str(path), observation=("a_image",), cameras={"a": {"height": 10, "width": 14}})
    with Guest(env) as guest:
        assert guest.reset(1)["a_image"].shape == (10, 14, 3)
        assert guest.instruction == ""
    two = replace(env, observation=("a_image", "b_image"), cameras=env.cameras | {"b": {"height": 8, "width": 8}})
    guest = Guest(two)
    with pytest.raises(ConfigError, match=r"a 10 x 14, b 8 x 8"):
        guest.start()
    guest.close()


@pytest.mark.parametrize(
    ("action", "fix"), [({}, "buttons: 3, camera: 2"), ({"camera": 2, "buttons": 4}, "buttons: 3")]
)
def test_other_parts_than_those_of_the_simulator_are_refused(rich, action, fix):
    guest = Guest(replace(rich, action=action))
    with pytest.raises(ConfigError, match=fix):
        guest.start()
    guest.close()


def test_a_policy_of_another_layout_and_a_task_that_nobody_tells_are_refused(rich, reach, evaluation):
    with pytest.raises(ConfigError, match=r"gives action.camera, action.keys, the simulator takes action.buttons"):
        evaluate_policy(Walker([], ("action.keys", "action.camera")), rich, evaluation, [1])
    policy = Walker([])
    policy.windows = windows_of(("task",), ("action",), (0,), (0,))
    with pytest.raises(ConfigError, match=r"env.instruction"):
        evaluate_policy(policy, reach, evaluation, [1])


def test_one_table_shows_what_is_missing_where():
    config = compose(["policy=bc", "env=reach", "env.observation=[agent_pos,object,top_image]", "data.uri=x"])
    has = features_of({"observation.agent_pos": 2, "observation.images.top_image": (40, 60, 3), "action": 2})
    (problem,) = feature_table(config.policy, config.env, has).problems
    assert problem.what == "the demonstrations have no observation.object"
    lines = {line.split()[0]: line.split()[1:] for line in problem.why.strip().splitlines()}
    assert lines["observation.object"] == ["reads", "MISSING", "object"]
    assert lines["observation.images.top_image"] == [
        "reads",
        "40",
        "x",
        "60",
        "x",
        "3",
        "top_image",
        "84",
        "x",
        "84",
        "x",
        "3",
    ]
    assert lines["action"] == ["writes", "2", "what", "it", "takes"]
    parts = compose([*["policy=bc", "env=reach", "data.uri=x"], "env.action={buttons: 3}"])
    (problem,) = feature_table(parts.policy, parts.env, has).problems  # bc gives one vector; all problems at once
    assert problem.what == (
        "the demonstrations have no observation.target_pos, action.buttons; the simulator has no action; "
        "the policy gives no action.buttons"
    )
    assert not feature_table(config.policy, config.env, None).problems  # its own expert's


def test_names_and_sizes_come_from_the_configuration():
    overrides = [
        "env=reach",
        "data.uri=x",
        "env.observation=[agent_pos,top_image]",
        "env.features={agent_pos: observation.state}",
        "env.cameras.top={height: 48, width: 64, key: observation.images.above}",
    ]
    features = FeatureMap.of(compose(overrides).env)
    assert [features.key_of(name) for name in features.read] == ["observation.state", "observation.images.above"]
    assert features.observation_of("observation.state") == "agent_pos"
    assert features.read_cameras[0].size == (48, 64)
    plain = FeatureMap.of(compose(["env=lift", "data.uri=x"]).env)
    assert plain.renamed == {}
    assert features.renamed == {"agent_pos": "observation.state", "top_image": "observation.images.above"}


@pytest.mark.parametrize(
    "wrong",
    [
        "env.cameras.top={height: 48, widht: 64}",
        "env.cameras.top={height: 0, width: 64}",
        "env.features={agent_pos: state}",
        "env.features={agent_pos: {key: observation.state, kind: number}}",
        "env.features={agent_pos: observation.state, target_pos: observation.state}",
        "env.action={camera: 0}",
    ],
)
def test_a_wrong_feature_map_is_a_configuration_error(wrong):
    with pytest.raises(ConfigError) as caught:
        compose(["env=reach", "data.uri=x", wrong])
    assert all(problem.fix.startswith("env.") for problem in caught.value.problems)


def test_a_renamed_feature_changes_the_run_key_and_an_unused_one_does_not():
    from tendon.runs.planner import run_key

    usual = compose(["env=lift", "data.uri=x"])
    renamed = compose(["env=lift", "data.uri=x", "env.features={object: observation.environment_state}"])
    unread = compose(["env=lift", "data.uri=x", "env.cameras.agentview.height=480", "env.instruction=lift"])
    assert run_key(usual) == run_key(unread) != run_key(renamed)
