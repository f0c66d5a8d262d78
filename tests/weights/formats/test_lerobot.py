"""LeRobot's pretrained_model folders: in, out, and round without loss; folders of golden/ are what LeRobot 0.4.4 saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tendon import cli
from tendon.config.compose import compose
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError, DataError
from tendon.export.bundle import load_policy
from tendon.export.foreign import export_weights, import_weights, write_proven
from tendon.policies.base import Policy
from tendon.policies.registry import make_policy
from tendon.policies.spec import PolicySpec
from tendon.weights.foreign import format_of
from tendon.weights.formats.lerobot.folder import FORMAT
from tendon.weights.formats.lerobot.table import KINDS
from tests.policies.features_of import features_of

GOLDEN = Path(__file__).parents[2] / "golden" / "lerobot_policies"
FOLDERS = ("act_folder", "diffusion_folder", "tdmpc_folder")
SMALL = {
    "act": [
        *("policy.chunk_size=4", "policy.n_action_steps=2", "policy.dim_model=8", "policy.n_heads=2"),
        *("policy.dim_feedforward=8", "policy.n_encoder_layers=1", "++policy.n_vae_encoder_layers=1"),
        *("policy.latent_dim=2", "policy.pretrained_backbone_weights=null"),
    ],
    "diffusion": [
        *("policy.down_dims=[8,16]", "policy.diffusion_step_embed_dim=8", "policy.horizon=8", "policy.n_groups=4"),
        *("policy.n_action_steps=4", "policy.num_inference_steps=3", "policy.spatial_softmax_num_keypoints=3"),
    ],
    "vqbet": [
        *(
            "policy.n_obs_steps=2",
            "policy.n_action_pred_token=2",
            "policy.action_chunk_size=2",
            "policy.vqvae_n_embed=4",
        ),
        *("policy.vqvae_embedding_dim=6", "policy.vqvae_enc_hidden_dim=8", "policy.gpt_input_dim=12"),
        *("policy.gpt_output_dim=10", "policy.gpt_n_layer=2", "policy.gpt_n_head=2", "policy.gpt_hidden_dim=8"),
        *("policy.gpt_block_size=9", "policy.spatial_softmax_num_keypoints=4", "policy.n_vqvae_training_steps=1"),
    ],
    "tdmpc": [
        *("policy.horizon=2", "policy.latent_dim=8", "policy.mlp_dim=16", "policy.state_encoder_hidden_dim=12"),
        *("policy.image_encoder_hidden_dim=4", "++policy.cem_iterations=2", "++policy.n_gaussian_samples=16"),
        *("++policy.n_pi_samples=4", "++policy.n_elites=5"),
    ],
}
STATE, ENVIRONMENT, TOP = "observation.state", "observation.environment_state", "observation.images.top"
NUMBERS = {STATE: 3, ENVIRONMENT: 4, "action": 2}
SEEING = {STATE: 3, TOP: (40, 44, 3), "action": 2}
SQUARE = {STATE: 3, TOP: (40, 40, 3), "action": 2}
INCOMPLETE = "use config.json and model.safetensors of one checkpoint"


def policy_of(name: str, sizes: Any, *more: str) -> tuple[Policy, PolicySpec]:
    """With statistics that float32 cannot hold."""
    rng = np.random.default_rng(3)
    features = features_of(sizes)
    stats = {}
    for key, feature in features.items():
        width = feature.shape[-1]
        low = rng.uniform(-2, -1, width)
        values = [rng.normal(size=width), rng.uniform(1e-3, 2, width), low, low + rng.uniform(1e-3, 4, width)]
        stats[key] = FeatureStats(9, *(tuple(one.tolist()) for one in [*values, low + 0.01, values[3] - 0.005]))
    config = compose([f"policy={name}", "data.uri=x", *SMALL[name], *more]).policy
    torch.manual_seed(1)
    policy = make_policy(config, features, stats)
    for value in policy.buffers():  # as trained: a frozen batch norm holds ImageNet's numbers
        if value.is_floating_point() and value.shape == (64,):
            value.uniform_(0.5, 1.5)
    return policy.eval(), PolicySpec(config, features, policy.windows)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("folder", FOLDERS)
def test_theirs_to_ours_to_theirs_loses_nothing(folder: str, tmp_path: Path) -> None:
    found = FORMAT.read(GOLDEN / folder)
    FORMAT.write(found.policy, found.info, tmp_path, "", found.kept)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {path.name for path in (GOLDEN / folder).iterdir()}
    for name in written:
        ours, theirs = tmp_path / name, GOLDEN / folder / name
        if name.endswith(".json"):
            assert ours.read_bytes() == theirs.read_bytes(), name
        else:
            assert equal(load_file(ours), load_file(theirs)), name


@pytest.mark.parametrize("version", ["0.4", "0.3"])
@pytest.mark.parametrize(
    ("name", "sizes", "more"),
    [
        ("act", NUMBERS, ("policy.use_vae=false",)),
        ("act", NUMBERS, ("policy.temporal_ensemble_coeff=0.01", "policy.n_action_steps=1")),
        ("act", SEEING, ("policy.action_normalization=q99", "policy.state_normalization=min_max")),
        ("diffusion", NUMBERS, ("policy.environment_normalization=identity", "policy.crop_shape=[]")),
        ("diffusion", SEEING, ("policy.crop_shape=[36,36]", "policy.state_normalization=mean_std")),
        ("diffusion", SEEING, ("policy.crop_shape=[]", "policy.use_separate_rgb_encoder_per_camera=true",
                               "policy.image_normalization=mean_std",
                               "policy.statistics={}")),
        ("vqbet", SEEING, ("policy.crop_shape=[36,37]",)),
        ("vqbet", SEEING, ("policy.crop_shape=[]", "policy.image_normalization=identity",
                           "policy.sequentially_select=true", "policy.state_normalization=mean_std")),
        ("vqbet", SEEING, ("policy.crop_shape=[]", "policy.image_normalization=imagenet",
                           "policy.use_group_norm=false", "policy.action_normalization=mean_std")),
        ("tdmpc", SQUARE, ()),
        ("tdmpc", NUMBERS, ("policy.state_normalization=min_max", "policy.environment_normalization=mean_std")),
        ("tdmpc", SQUARE, ("policy.image_normalization=mean_std", "policy.use_mpc=true")),
    ],
)  # fmt: skip
def test_ours_to_theirs_to_ours_is_equal_to_the_bit(
    name: str, sizes: Any, more: tuple[str, ...], version: str, tmp_path: Path
) -> None:
    policy, info = policy_of(name, sizes, *more)
    record = write_proven(FORMAT, policy, info, tmp_path / "theirs", version)
    assert record.max_abs_difference == 0
    again = FORMAT.read(tmp_path / "theirs")
    assert equal(policy.state_dict(), again.policy.state_dict())
    config = {**vars(again.info.config), "drop_n_last_frames": None}
    assert config == {**vars(info.config), "drop_n_last_frames": None}
    assert again.info.features == info.features
    assert again.info.windows == info.windows
    assert (version == "0.4") == (tmp_path / "theirs" / "policy_preprocessor.json").exists()


def test_the_oldest_configurations_are_read(tmp_path: Path) -> None:
    """Before 2025: no type, shapes and modes by key, statistics among the weights."""
    policy, info = policy_of("diffusion", NUMBERS, "policy.crop_shape=[]")
    FORMAT.write(policy, info, tmp_path, "0.3", {})
    config = json.loads((tmp_path / "config.json").read_text())
    described = {**config.pop("input_features"), **config.pop("output_features")}
    del config["type"], config["normalization_mapping"]
    shapes = {key: one["shape"] for key, one in described.items()}
    config |= {"output_shapes": {"action": shapes.pop("action")}, "input_shapes": shapes}
    config |= {"input_normalization_modes": dict.fromkeys(shapes, "min_max")}
    config |= {"output_normalization_modes": {"action": "min_max"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert format_of(tmp_path).name == "lerobot"
    again = FORMAT.read(tmp_path)
    assert equal(policy.state_dict(), again.policy.state_dict())


@pytest.mark.parametrize("folder", FOLDERS)
def test_as_a_bundle_and_back_from_the_command_line(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(GOLDEN / folder, tmp_path / "000020" / "pretrained_model")
    (tmp_path / "000020" / "training_state").mkdir()
    assert cli.main(["weights", "inspect", str(tmp_path / "000020")]) == 0
    assert "format    lerobot" in capsys.readouterr().out
    _, notes = import_weights(str(tmp_path / "000020"), str(tmp_path / "bundle"), ["env=reach"])
    assert "training_state" in notes[0]
    assert "the optimiser's state" in notes[0]
    policy, _ = load_policy(str(tmp_path / "bundle"))
    assert equal(policy.state_dict(), FORMAT.read(GOLDEN / folder).policy.state_dict())
    export_weights(str(tmp_path / "bundle"), str(tmp_path / "out"), "lerobot")
    theirs = {path.name: path.read_bytes() for path in (GOLDEN / folder).glob("*.json")}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.json")} == theirs


def copied(tmp_path: Path, folder: str = "act_folder", **changes: Any) -> Path:
    shutil.copytree(GOLDEN / folder, tmp_path / "copy")
    config = json.loads((tmp_path / "copy/config.json").read_text())
    (tmp_path / "copy/config.json").write_text(json.dumps({**config, **changes}))
    return tmp_path / "copy"


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"type": "smolvla"}, DataError, "smolvla cannot be exchanged with LeRobot"),
        ({"vision_backbone": "resnet50"}, ConfigError, "policy.vision_backbone is resnet50"),
        ({"replace_final_stride_with_dilation": True}, DataError, "replace_final_stride_with_dilation is True"),
        ({"dim_feedforward": 32}, DataError, "linear1.bias has another shape"),
        ({"use_vae": False}, DataError, "model.vae_encoder.* is not known"),
        ({"n_encoder_layers": 3}, DataError, "model.encoder.layers.2.* is missing"),
        ({"normalization_mapping": {"STATE": "QUANTILE10"}}, DataError, "is scaled by QUANTILE10"),
        ({"normalization_mapping": {"STATE": "QUANTILES"}}, DataError, "statistics are missing"),
    ],
)
def test_what_is_not_ours_is_refused_by_name(
    changes: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        FORMAT.read(copied(tmp_path, **changes))


def test_statistics_that_are_nowhere_are_an_error(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    for path in folder.glob("policy_p*"):
        path.unlink()
    with pytest.raises(DataError, match="has no statistics"):
        FORMAT.read(folder)


def test_a_tensor_too_many_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "model.extra": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(DataError, match=r"model\.extra is not known"):
        FORMAT.read(folder)


def test_a_key_of_a_newer_lerobot_is_told_and_kept(tmp_path: Path) -> None:
    found = FORMAT.read(copied(tmp_path, something_new=3))
    assert found.notes == ("keys of config.json that change nothing here: something_new",)
    FORMAT.write(found.policy, found.info, tmp_path / "out", "", found.kept)
    assert json.loads((tmp_path / "out/config.json").read_text())["something_new"] == 3


def test_features_without_a_mode_come_raw_as_in_lerobot(tmp_path: Path) -> None:
    """LeRobot's own presets forget the environment's state, which then is not scaled."""
    mapping = {"VISUAL": "MEAN_STD", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
    config = FORMAT.read(copied(tmp_path, normalization_mapping=mapping)).info.config
    assert vars(config)["environment_normalization"] == "identity"
    assert vars(config)["state_normalization"] == "mean_std"


def test_several_states_have_no_place_in_lerobot(tmp_path: Path) -> None:
    policy, info = policy_of("act", {"observation.agent_pos": 2, ENVIRONMENT: 4, "action": 2})
    with pytest.raises(DataError, match=r"reads one observation\.state"):
        FORMAT.write(policy, info, tmp_path, "", {})
    policy, info = policy_of("act", {STATE: 2, "action": 2})
    with pytest.raises(DataError, match="LeRobot's act reads more"):
        FORMAT.write(policy, info, tmp_path, "", {})
    policy, info = policy_of("vqbet", {STATE: 2, "action": 2})  # key points alone are a form of ours
    with pytest.raises(DataError, match="LeRobot's vqbet reads more"):
        FORMAT.write(policy, info, tmp_path, "", {})
    policy, info = policy_of("vqbet", {**SEEING, ENVIRONMENT: 4}, "policy.crop_shape=[]")
    with pytest.raises(DataError, match="LeRobot's vqbet does not read ENV"):
        FORMAT.write(policy, info, tmp_path, "", {})


def test_constants_of_theirs_that_are_others_are_refused(tmp_path: Path) -> None:
    policy, info = policy_of("vqbet", SEEING, "policy.crop_shape=[]")
    FORMAT.write(policy, info, tmp_path, "", {})
    tensors = load_file(tmp_path / "model.safetensors")
    name = "vqbet.select_target_actions_indices"
    assert tensors[name].tolist() == [[0, 1], [1, 2], [2, 3]]
    save_file({**tensors, name: tensors[name] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="select_target_actions_indices has other numbers"):
        FORMAT.read(tmp_path)


def test_tdmpc_with_other_actions_is_refused(tmp_path: Path) -> None:
    mapping = {"STATE": "IDENTITY", "ENV": "IDENTITY", "ACTION": "MEAN_STD"}
    with pytest.raises(DataError, match="ACTION is scaled by mean_std"):
        FORMAT.read(copied(tmp_path, "tdmpc_folder", normalization_mapping=mapping))


def test_every_tensor_has_one_name_on_each_side() -> None:
    for name, kind in KINDS.items():
        if name not in SMALL:
            continue
        crops = ["policy.crop_shape=[]"] if name in ("diffusion", "vqbet") else []
        policy, _ = policy_of(name, {**SQUARE, ENVIRONMENT: 4}, *crops)
        theirs = [kind.theirs(one) for one in policy.state_dict()]
        named = [one for one in theirs if one]
        assert len(set(named)) == len(named)
        assert len(theirs) - len(named) == len(policy.processing.state_dict())  # type: ignore[union-attr]


def test_evaluate_takes_a_folder_of_theirs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy, info = policy_of("act", {STATE: 2, ENVIRONMENT: 2, "action": 2})
    FORMAT.write(policy, info, tmp_path / "pretrained_model", "0.4", {})
    reach = ["env=reach", "env.features={agent_pos:observation.state,target_pos:observation.environment_state}"]
    arguments = ["--bundle-uri", str(tmp_path / "pretrained_model"), *reach, "eval.n_episodes=2", "eval.videos=0"]
    for _ in range(2):  # the second time it is found
        assert cli.main(["evaluate", *arguments]) == 0
        assert "rate" in capsys.readouterr().out
