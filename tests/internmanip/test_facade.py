"""The snippets of GRManipulation's training page run with tendon's name in place of theirs, and do what they say."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tendon import internmanip
from tendon.data.sources.modality_configs import DataConfig, find_data_config
from tendon.errors import ConfigError
from tendon.internmanip import DATA_CONFIG_MAP, EmbodimentTag, LeRobotSingleDataset, ModalityConfig
from tendon.trust import allow
from tests.internmanip.demo_set import CLOSES, LENGTHS, genmanip_demo
from tests.internmanip.seed_page import CUSTOM, LOAD, MODEL, REGISTER, ours
from tests.internmanip.test_yaml import TINY


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return genmanip_demo(tmp_path_factory.mktemp("sets") / "genmanip-demo")


def run(snippet: str, **names: Any) -> dict[str, Any]:
    names |= {"__name__": "snippet"}
    exec(compile(ours(snippet), "snippet", "exec"), names)
    return names


def test_a_data_configuration_by_name() -> None:
    names = run(REGISTER)
    assert names["modality_configs"]["state"].modality_keys == ["state.ee_pos", "state.ee_rot"]
    assert names["modality_configs"]["action"].delta_indices == tuple(range(16))
    assert DataConfig.of(names["data_config_cls"]).normalization["action.gripper"] == "binary"


def test_the_custom_class_makes_samples(demo: Path) -> None:
    """Its keys are renamed in the dataset's words; nothing else of the page changes."""
    text = CUSTOM.replace("state.joint_positions", "state.joints").replace(
        "action.joint_velocities", "action.delta_ee_pos"
    )
    made = run(text)["CustomDataConfig"]()
    config = SimpleNamespace(embodiment_tag="gr1", dataset_path=str(demo))
    names = run(LOAD, config=config, modality_configs=made.modality_config(), transforms=made.transform())
    dataset = names["train_dataset"]
    assert (len(dataset), dataset.tag) == (sum(LENGTHS), EmbodimentTag.GR1)
    sample = dataset[LENGTHS[0] - 3]  # three steps before the end of the first episode
    assert sample["state"].shape == (1, 7)
    assert sample["action"].shape == (16, 3)
    assert sample["action_pad"].tolist() == [False] * 3 + [True] * 13
    stats = dataset.statistics["action.delta_ee_pos"]
    nothing = (0 - torch.tensor(stats.mean)) / torch.tensor(stats.std)  # a relative action behind the end is 0
    torch.testing.assert_close(sample["action"][3:], nothing.float().expand(13, 3))
    rows = torch.stack([dataset[i]["state"][0] for i in range(len(dataset))])
    torch.testing.assert_close(rows.mean(0), torch.zeros(7), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.std(0, unbiased=False), torch.ones(7), atol=1e-4, rtol=0)


def test_a_named_configuration_reads_cameras_texts_and_the_gripper(demo: Path) -> None:
    config = DATA_CONFIG_MAP["genmanip_v1"]
    dataset = LeRobotSingleDataset(str(demo), config.modality_config(), transform=config.transform())
    sample = dataset[CLOSES]
    assert sample["state"].shape == (1, 24)
    assert sample["action"].shape == (16, 7)
    assert sample["video"].shape == (1, 3, 32, 48, 3)
    assert sample["action"][:, 0].unique().tolist() == [1.0]  # the gripper comes first, binary
    assert sample["annotation.human.action.task_description"] == ["put the cup away"]
    assert dataset[LENGTHS[0]]["annotation.human.action.task_description"] == ["close the lid"]
    with pytest.raises(ConfigError, match=r"no state\.jointz"):
        LeRobotSingleDataset(str(demo), {"state": ModalityConfig([0], ["state.jointz"])})


def test_statistics_are_those_that_training_takes(demo: Path, tmp_path: Path) -> None:
    config = DATA_CONFIG_MAP["genmanip_v1"]
    seen = LeRobotSingleDataset(str(demo), config.modality_config()).statistics["state.joints"]
    tree = {"policy": "act_clip", "dataset_path": str(demo), "output_dir": str(tmp_path)}
    made = internmanip.configure(tree, overrides=TINY[1:])
    from tendon.data.dataset import open_dataset
    from tendon.data.stats import compute_stats

    stats = compute_stats(open_dataset(made.config.data.uri), "train").features["observation.state"]
    np.testing.assert_allclose(stats.mean[:7], seen.mean, atol=1e-6)
    np.testing.assert_allclose(stats.std[:7], seen.std, atol=1e-6)


def test_a_file_with_a_class_is_a_data_configuration_once_it_is_trusted(tmp_path: Path) -> None:
    file = tmp_path / "my_robot.py"
    file.write_text(ours(CUSTOM))
    with pytest.raises(ConfigError) as error:
        find_data_config(str(file), "data_config")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert sha256 in error.value.problems[0].fix
    allow(sha256)
    name, config = find_data_config(str(file), "data_config")
    assert name.startswith("my_robot-")
    assert (config.state, config.action) == (("joint_positions",), ("joint_velocities",))
    assert config.normalization == {"state.joint_positions": "mean_std", "action.joint_velocities": "mean_std"}


def test_a_model_is_loaded_with_the_parts_that_learn(demo: Path, tmp_path: Path) -> None:
    tree = {
        "policy": "act_clip", "dataset_path": str(demo), "output_dir": str(tmp_path), "max_steps": 1, "batch_size": 2,
        "report_to": "none", "bf16": False, "embodiment_tag": "new_embodiment",
    }  # fmt: skip
    result = internmanip.train(tree, overrides=TINY[1:])
    model_cls = internmanip.model_class("act_clip")
    snippet = MODEL.replace("path/to/pretrained/model", result.checkpoint_uri)
    model = run(snippet, model_cls=model_cls)["model"]
    assert all(parameter.requires_grad for parameter in model.parameters())
    part = run(snippet.replace("tune_visual=True", "tune_visual=False"), model_cls=model_cls)["model"]
    still = {name.partition(".")[0] for name, parameter in part.named_parameters() if not parameter.requires_grad}
    assert still == {"backbone"}
    assert not part.backbone.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, part.state_dict()[name]), name
    with pytest.raises(ConfigError, match="this is no dp_clip"):
        internmanip.model_class("dp_clip").from_pretrained(result.checkpoint_uri)
    with pytest.raises(ConfigError, match="has no tune_vision"):
        model_cls.from_pretrained(result.checkpoint_uri, tune_vision=True)
    with pytest.raises(ConfigError, match=r"every policy\.tune_"):
        model_cls.from_pretrained(
            result.checkpoint_uri, tune_llm=False, tune_visual=False, tune_projector=False, tune_diffusion_model=False
        )
    with pytest.raises(ConfigError, match="no policy act_clop"):
        internmanip.model_class("act_clop")
