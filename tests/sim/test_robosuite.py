"""The real simulator: `tendon sims install robosuite` first."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tendon.config.compose import compose
from tendon.config.schema import EnvConfig
from tendon.errors import ConfigError
from tendon.evaluate import sims
from tendon.evaluate.demos import record_demos
from tendon.evaluate.guest import Guest

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(not sims.installed("robosuite"), reason="robosuite is missing: tendon sims install robosuite"),
]
LIFT = EnvConfig(
    name="lift",
    simulator="robosuite",
    task="Lift",
    fps=20,
    episode_length=150,
    observation=("object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"),
    options={},
)


def trajectory(guest, seed, actions):
    observations = [guest.reset(seed), *(guest.step(action).observation for action in actions)]
    return np.stack([np.concatenate([step[key] for key in LIFT.observation]) for step in observations])


@pytest.fixture(scope="module")
def guest():
    with Guest(LIFT) as guest:
        yield guest


def test_same_seed_and_actions_give_the_same_bits_in_a_fresh_guest_and_after_other_episodes(guest):
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 7))
    first = trajectory(guest, 100_003, actions)
    trajectory(guest, 4, actions[::-1])
    assert trajectory(guest, 100_003, actions).tobytes() == first.tobytes()
    with Guest(LIFT) as fresh:
        assert trajectory(fresh, 100_003, actions).tobytes() == first.tobytes()
    assert (trajectory(guest, 100_004, actions)[0] != first[0]).any()


def test_the_observation_has_the_names_and_widths_of_robomimic(guest):
    observation = guest.reset(1)
    assert [observation[key].shape for key in LIFT.observation] == [(10,), (3,), (4,), (2,)]
    assert observation["object"][7:] == pytest.approx(observation["object"][:3] - observation["robot0_eef_pos"]) or (
        observation["object"][7:] == pytest.approx(observation["robot0_eef_pos"] - observation["object"][:3])
    )
    assert guest.action_dim == 7


def test_the_expert_lifts_and_its_episodes_make_a_robomimic_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    files = []
    for num_guests in (1, 2):
        report = record_demos(LIFT, 4, 1, tmp_path / f"{num_guests}.hdf5", noise=0.1, num_guests=num_guests)
        assert report.failed_seeds == report.crashed_seeds == ()
        files.append(report.path.read_bytes())
    assert files[0] == files[1]
    with h5py.File(report.path) as file:
        env_args = json.loads(file["data"].attrs["env_args"])
        assert (env_args["env_name"], env_args["type"]) == ("Lift", 1)
        assert env_args["env_kwargs"]["robots"] == ["Panda"]
        demo = file["data/demo_3"]
        assert demo["states"].shape[0] == demo.attrs["num_samples"] < 120
        assert demo["states"].shape[1] > 30
        assert demo.attrs["model_file"].startswith("<mujoco")
        assert str(sims.environment("robosuite")) not in demo.attrs["model_file"]
        assert demo["obs/object"].shape == (demo.attrs["num_samples"], 10)


def test_the_expert_puts_the_can_into_its_bin(tmp_path):
    """With the noise of demonstrations and without; of 50 episodes each it succeeds in all (measured)."""
    can = compose(["env=can", "data.uri=none"]).env
    report = record_demos(can, 4, 1, tmp_path / "can.hdf5", num_guests=2)
    assert report.failed_seeds == report.crashed_seeds == ()
    assert report.frames < 4 * 250  # it carries the can straight there
    with Guest(can) as guest:
        guest.reset(100_000)
        guest.reset_expert(100_000, 0.0)
        steps = [guest.step(guest.expert()) for _ in range(2)]
        assert not steps[-1].success
        assert any(guest.step(guest.expert()).success for _ in range(250))


@pytest.mark.parametrize(("task", "width"), [("PickPlaceCan", 14), ("NutAssemblySquare", 14)])
def test_can_and_square_by_name(task, width):
    with Guest(replace(LIFT, task=task)) as guest:
        assert guest.reset(1)["object"].shape == (width,)
        assert not guest.step(np.zeros(7)).success


def test_a_task_without_an_expert_says_which_have_one():
    with Guest(replace(LIFT, task="NutAssemblySquare")) as guest:
        guest.reset(1)
        with pytest.raises(ConfigError, match=r"no scripted expert.*\n.*env=can"):
            guest.reset_expert(1, 0.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"task": "Lifft"}, "env.task=Lift"),
        ({"options": {"robt": "Panda"}}, "hard_reset, robot"),
    ],
)
def test_what_it_does_not_have_is_a_configuration_error(change, says):
    guest = Guest(replace(LIFT, **change))
    with pytest.raises(ConfigError, match=says):
        guest.start()
    guest.close()


def test_cameras_are_drawn_upright():
    if not sims.graphics(sims.interpreter("robosuite")):
        pytest.skip(f"no OpenGL library draws here: apt-get install -y {sims.GL_PACKAGES}")
    env = replace(LIFT, observation=("object", "agentview_image"), options={"image_size": 64})
    with Guest(env) as guest:
        image = guest.reset(1)["agentview_image"].astype(int)
        assert image.shape == (64, 64, 3)
        red = image[..., 0] - image[..., 1:].max(-1)
        row = np.unravel_index(red.argmax(), red.shape)[0]
        assert red.max() > 60  # the cube
        assert image[50:].mean() > image[:12].mean() + 30  # white table below, wall above
        assert 20 < row < 50
        with pytest.raises(ConfigError, match="no camera 'side'"):
            guest.render(32, 32, "side")
