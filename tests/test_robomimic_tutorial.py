"""robomimic's tutorials as they are printed in our README: the Python of one, the HDF5 and JSON of both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tendon import robomimic
from tendon.config.schema import TrainConfig
from tendon.errors import ConfigError
from tendon.policies.bc_transformer.config import BcTransformerConfig
from tests.conftest import make_lift_like_hdf5

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "src" / "tendon" / "config" / "foreign" / "README.md"
FOREIGN = ROOT / "tests" / "config" / "foreign"
PLACES = {
    "/path/to/dataset.hdf5": "lift.hdf5",
    "/path/to/output_dir": "results",
    '"bc_transformer.json"': repr(str(FOREIGN / "bc_transformer.json")),
}
SMALL = {
    '["agentview_image", "robot0_eye_in_hand_image"]': "[]",
    '["embed_dim"] = 512': '["embed_dim"] = 8',
    '["num_layers"] = 6': '["num_layers"] = 1',
    '["num_heads"] = 8': '["num_heads"] = 2',
    '["epoch_every_n_steps"] = 500': '["epoch_every_n_steps"] = 2',
    '["batch_size"] = 16': '["batch_size"] = 4',
    '["num_epochs"] = 600': '["num_epochs"] = 2',
    '["rollout"]["rate"] = 20': '["rollout"]["enabled"] = False',
}


def run_tutorial(changes: dict[str, str]) -> None:
    """Execute what is printed, in this folder, with some of its text replaced."""
    block = re.search(r"<!-- tutorial -->\n```python\n(.*?)```", README.read_text(), re.S)
    assert block
    code = block[1]
    for printed, given in changes.items():
        assert printed in code, printed
        code = code.replace(printed, given)
    exec(compile(code, "tutorial", "exec"), {})


def test_the_tutorials_python_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_lift_like_hdf5(tmp_path / "lift.hdf5")
    run_tutorial(PLACES | SMALL)
    checkpoint = Path(capsys.readouterr().out.split()[-1])
    assert checkpoint.name == "000004"
    assert checkpoint.parts[:2] == ("results", "trials")


def test_the_tutorials_python_means_what_it_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_lift_like_hdf5(tmp_path / "lift.hdf5", images=True, size=20)
    made: list[TrainConfig] = []

    def only_configure(config: Mapping[str, Any], store_uri: str) -> Any:
        made.append(robomimic.configure(config, store_uri=store_uri))
        return SimpleNamespace(checkpoint_uri="")

    monkeypatch.setattr(robomimic, "train", only_configure)
    run_tutorial(PLACES)
    (config,) = made
    policy = config.policy
    assert isinstance(policy, BcTransformerConfig)
    assert (policy.embed_dim, policy.num_layers, policy.num_heads, policy.context_length) == (512, 6, 8, 10)
    assert (policy.head, policy.crop_size, policy.vision_backbone) == ("gmm", 76, "resnet18")
    assert config.env.observation == (
        *("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"),
        *("agentview_image", "robot0_eye_in_hand_image"),
    )
    assert (config.env.name, config.env.episode_length) == ("lift", 700)
    training = config.training
    assert (training.offline_steps, training.batch_size) == (300_000, 16)
    assert (training.save_freq, training.eval_freq) == (10_000, 10_000)


def test_the_template_unchanged(tmp_path: Path) -> None:
    file = make_lift_like_hdf5(tmp_path / "lift.hdf5")
    config = robomimic.configure(FOREIGN / "bc_transformer.json", file, str(tmp_path / "store"))
    assert (config.env.name, config.env.episode_length, config.training.offline_steps) == ("lift", 400, 200_000)
    assert config.data.uri.startswith(str(tmp_path / "store" / "datasets" / "lift"))


def test_without_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no dataset"):
        robomimic.configure(FOREIGN / "bc_transformer.json", store_uri=str(tmp_path))
