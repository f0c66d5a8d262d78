"""CALVIN, SimplerEnv and GenManip: their adapters in real guests over packages as small as can be, and their result files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tendon.config.compose import compose
from tendon.config.feature_map import FeatureMap
from tendon.config.schema import PolicyConfig
from tendon.errors import ConfigError, MissingDependency
from tendon.evaluate.benchmark_results import calvin_results, genmanip_results, simpler_results, write_results
from tendon.evaluate.guest import Guest
from tendon.evaluate.rollout import EpisodeResult, evaluate_policy
from tendon.policies.base import LossOutput, Policy
from tendon.policies.windows import windows_of

# The parts of each package that an adapter calls. A subtask of CALVIN is done when the hand was moved far enough; the third chain's
# second subtask never is. SimplerEnv's carrot is grasped with a closed gripper and placed when it was moved far enough.
CALVIN = {
    "calvin_env/__init__.py": "",
    "calvin_env/envs/__init__.py": "",
    "calvin_env/envs/play_table_env.py": """
import numpy as np
class Env:
    def reset(self, robot_obs, scene_obs):
        self.x, self.chain = np.array(robot_obs, float), int(scene_obs)
    def get_info(self):
        return {"x": self.x[0], "chain": self.chain}
    def get_obs(self):
        pictures = {"rgb_static": np.full((200, 200, 3), 7, np.uint8), "rgb_gripper": np.full((84, 84, 3), 9, np.uint8)}
        return {"rgb_obs": pictures, "robot_obs": np.concatenate([self.x, np.zeros(12)])}
    def step(self, action):
        assert action.shape == (7,) and action[-1] in (-1, 1)
        self.x = self.x + action[:3]
        return self.get_obs(), 0, False, self.get_info()
    def close(self):
        pass
def get_env(path, show_gui=True):
    assert path == "validation" and not show_gui
    return Env()
""",
    "models/calvin_agent/__init__.py": "",
    "models/calvin_agent/evaluation/__init__.py": "",
    "models/calvin_agent/evaluation/multistep_sequences.py": """
def get_sequences(num):
    assert num == 1000
    return [(chain, (f"lift_{chain}", "open_drawer", "push_left", "turn_on", "close_drawer")) for chain in range(4)]
""",
    "models/calvin_agent/evaluation/utils.py": """
def get_env_state_for_initial_condition(chain):
    return (0.0, 0.0, 0.0), chain
""",
    "models/conf/callbacks/rollout/tasks/new_playtable_tasks.yaml": "_target_: calvin_oracle.Oracle\n",
    "models/conf/annotations/new_playtable_validation.yaml": "".join(
        f"{task}: ['{task.replace('_', ' ')}']\n"
        for task in (*(f"lift_{n}" for n in range(4)), "open_drawer", "push_left", "turn_on", "close_drawer")
    ),
    "calvin_oracle.py": """
class Oracle:
    def get_task_info_for_set(self, before, now, tasks):
        stuck = now["chain"] == 2 and tasks == {"open_drawer"}
        return set() if stuck or now["x"] - before["x"] < 2.5 else tasks
""",
    "hydra/__init__.py": "from hydra import utils\n",
    "hydra/utils.py": """
from importlib import import_module
def instantiate(config):
    module, _, name = config["_target_"].rpartition(".")
    return getattr(import_module(module), name)()
""",
}
SIMPLER = {
    "simpler_env/__init__.py": """
import numpy as np
class Env:
    def reset(self, options):
        self.episode, self.x, self.steps = options["obj_init_options"]["episode_id"], 0.0, 0
        self.commands = []
        return self._seen(), {}
    def get_language_instruction(self):
        return "put carrot on plate"
    def _seen(self):
        return {"agent": {"eef_pos": np.array([self.x, 0, 0, 0, 0, 0, 1.0])}, "picture": np.full((480, 640, 3), 3, np.uint8)}
    def step(self, action):
        self.x, self.steps = self.x + action[0], self.steps + 1
        grasped = action[6] > 0 and self.episode != 2
        success = bool(grasped and self.x > 3 and self.episode != 1)
        return self._seen(), 0.0, success, self.steps == 8, {"success": success, "episode_stats": {"is_src_obj_grasped": grasped}}
    def close(self):
        pass
def make(task):
    assert task == "widowx_carrot_on_plate"
    return Env()
""",
    "simpler_env/utils/__init__.py": "",
    "simpler_env/utils/env/__init__.py": "",
    "simpler_env/utils/env/observation_utils.py": """
def get_image_from_maniskill2_obs_dict(env, obs):
    return obs["picture"]
""",
}
GENMANIP = {
    "lab.py": """
import numpy as np
class Env:
    instruction = "stack the cubes"
    def reset(self, episode):
        self.episode, self.x = episode, 0.0
        return self._seen()
    def step(self, action):
        assert action.shape == (7,)
        self.x += action[1]
        return self._seen()
    def score(self):
        return min(1.0 if self.episode % 2 == 0 else 0.5, int(self.x) / 4)
    def _seen(self):
        sizes = {"joints": 7, "gripper": 2, "joints_vel": 7, "gripper_vel": 2, "ee_pos": 3, "ee_rot": 3}
        views = {view: np.zeros((8, 8, 3), np.uint8) for view in ("ego_view", "base_view", "base_2_view")}
        return {**{name: np.full(size, self.x) for name, size in sizes.items()}, **views}
    def close(self):
        pass
def make(task):
    assert task == "genmanip"
    return Env()
""",
}


class Pusher(Policy):
    """Moves one unit a step, gripper closed; remembers what it was told."""

    def __init__(self, action: tuple[float, ...], chunk: int = 1) -> None:
        config = PolicyConfig("pusher")
        object.__setattr__(
            config,
            "windows",
            lambda features: windows_of(("observation.state",), ("action",), (0,), (0,), chunk=chunk, execute=chunk),
        )
        super().__init__(config, {})
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.action, self.chunk = torch.tensor(action), chunk

    def loss(self, batch: Any, memory: Any = None, step: int = 0) -> LossOutput:
        return LossOutput(self.anchor.sum())

    @torch.no_grad()
    def act(self, observation: Any, memory: Any = None) -> Any:
        size = len(observation["observation.state"])
        return {"action": self.action.expand(size, self.chunk, -1)}, memory


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {**CALVIN, **SIMPLER, **GENMANIP}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    path = [str(tmp_path), str(tmp_path / "models"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    return tmp_path


def rows_of(env: str, policy: Policy, seeds: list[int], *overrides: str) -> list[dict[str, Any]]:
    config = compose([f"env={env}", "data.uri=x", "eval.batch_size=1", *overrides])
    results: list[EpisodeResult] = evaluate_policy(policy, config.env, config.eval, seeds)
    assert not [one.error for one in results if one.status == "crashed"]
    return [one.row() for one in results]


def test_a_chain_of_calvin(packages: Path, tmp_path: Path) -> None:
    move = (1.0, 0, 0, 0, 0, 0, 1.0)
    rows = rows_of("calvin", Pusher(move), [0, 1, 2], "env.options.dataset=validation")
    assert [(row["status"], row["sum_reward"]) for row in rows] == [("success", 5), ("success", 5), ("failure", 1)]
    assert [row["steps"] for row in rows] == [15, 15, 3 + 360]
    assert rows[1]["instructions"] == ["lift 1", "open drawer", "push left", "turn on", "close drawer"]
    assert rows[2]["instructions"] == ["lift 2", "open drawer"]
    file = write_results(rows, "calvin", "ABC_D", tmp_path / "out")
    found = json.loads(file.read_text())
    assert (file.name, found["avg_seq_len"]) == ("results.json", pytest.approx(11 / 3))
    assert found["chain_sr"] == {"1": 1.0, **dict.fromkeys("2345", pytest.approx(2 / 3))}
    assert found["task_info"]["open drawer"] == {"success": 2, "total": 3}
    assert found["task_info"]["lift 2"] == {"success": 1, "total": 1}


def test_planned_actions_end_with_the_instruction_that_they_obey(packages: Path) -> None:
    """Chunks of four, subtasks of three steps: without the change of words a chunk would be finished first."""
    asked = []

    class Counting(Pusher):
        def act(self, observation: Any, memory: Any = None) -> Any:
            asked.append(observation["observation.state"][0, -1, 0].item())
            return super().act(observation, memory)

    rows_of("calvin", Counting((1.0, 0, 0, 0, 0, 0, 1.0), chunk=4), [0], "env.options.dataset=validation")
    assert asked == [0.0, 3.0, 6.0, 9.0, 12.0]


def test_an_episode_of_simpler(packages: Path, tmp_path: Path) -> None:
    rows = rows_of("simpler_widowx", Pusher((1.0, 0, 0, 0, 0, 0, 1.0)), [0, 1, 2, 24])
    assert [row["status"] for row in rows] == ["success", "failure", "failure", "success"]
    found = json.loads(write_results(rows, "simpler", "widowx_carrot_on_plate", tmp_path).read_text())
    assert (found["success_rate"], found["partial_success_rate"], found["num_episodes"]) == (0.5, 0.75, 4)
    assert found["episodes"][1] == {"seed": 1, "success": False, "grasped": True, "steps": 8}
    low, high = found["success_interval"]
    assert low < 0.5 < high
    with Guest(compose(["env=simpler_widowx", "data.uri=x"]).env) as guest:
        seen = guest.reset(3)
        assert (guest.instruction, seen["image_0_image"].shape, seen["state"].shape) == (
            "put carrot on plate",
            (480, 640, 3),
            (7,),
        )


def test_the_google_robots_gripper_is_sticky() -> None:
    from tendon.sim.adapters.simpler import Adapter

    adapter = Adapter()
    adapter.sticky, adapter.closing, adapter.held = 3, 0.0, 0
    assert [adapter._gripper(command) for command in (1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0)] == [1, 1, 1, -1, -1, -1, 1]


def test_an_episode_of_genmanip_in_parts(packages: Path, tmp_path: Path) -> None:
    keys = ["env.options={make: 'lab:make', parts: true}", "env.action={gripper: 1, delta_ee_pos: 3, delta_ee_rot: 3}"]

    class Parted(Pusher):
        def act(self, observation: Any, memory: Any = None) -> Any:
            whole = super().act(observation, memory)[0]["action"]
            return {f"action.{part}": whole[..., dims] for part, dims in SLICES.items()}, memory

    SLICES = {"gripper": slice(0, 1), "delta_ee_pos": slice(1, 4), "delta_ee_rot": slice(4, 7)}
    rows = rows_of("genmanip", Parted((0.0, 1.0, 0, 0, 0, 0, 0)), [0, 1], "env.episode_length=6", *keys)
    assert [(row["status"], row["sum_reward"]) for row in rows] == [("success", 1.0), ("failure", 0.5)]
    found = json.loads(write_results(rows, "genmanip", "genmanip", tmp_path).read_text())
    assert found["success_rate"]["genmanip"]["hard"] == 0.5
    assert found["success_rate"]["genmanip"]["soft"] == 0.75


def test_crashed_episodes_are_in_no_rate() -> None:
    rows = [
        {"seed": 0, "status": "crashed", "sum_reward": 3, "max_reward": 1, "steps": 2},
        {"seed": 1, "status": "failure", "sum_reward": 0, "max_reward": 0, "steps": 2, "instructions": ["a"]},
    ]
    assert calvin_results(rows, "")["avg_seq_len"] == 0
    assert simpler_results(rows, "t")["partial_success_rate"] == 0
    assert genmanip_results(rows, "t")["crashed"] == 1
    with pytest.raises(ConfigError, match="no result file"):
        write_results(rows, "reach", "Reach", "x")


@pytest.mark.parametrize(
    ("env", "keys", "words"),
    [
        ("calvin", [], "needs its validation folder"),
        ("calvin", ["env.options.dataset=validation", "env.fps=10"], "30 steps a second"),
        ("simpler_widowx", ["env.task=panda_lift"], "no task 'panda_lift'"),
        ("simpler_google", ["env.fps=5"], "3 steps a second"),
        ("genmanip", [], "made by a function of yours"),
    ],
)
def test_what_they_do_not_have_is_refused(env: str, keys: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error, Guest(compose([f"env={env}", *keys, "data.uri=x"]).env):
        pass
    assert error.value.problems[0].fix


@pytest.mark.parametrize(
    ("env", "options"), [("calvin", "env.options.dataset=validation"), ("simpler_widowx", "env.options={}")]
)
def test_a_missing_package_is_said(env: str, options: str) -> None:
    with (
        pytest.raises(MissingDependency, match="cannot be imported"),
        Guest(compose([f"env={env}", options, "data.uri=x"]).env),
    ):
        pass


def test_their_observations_are_internmanips_features() -> None:
    for env, cameras in (
        ("calvin", {"image_base", "image_wrist"}),
        ("simpler_google", {"image"}),
        ("genmanip", {"ego_view", "base_view", "base_2_view"}),
    ):
        features = FeatureMap.of(compose([f"env={env}", "data.uri=x"]).env)
        assert {camera.key for camera in features.read_cameras} == {
            f"observation.images.{camera}" for camera in cameras
        }
        assert features.key_of("state") == "observation.state"
