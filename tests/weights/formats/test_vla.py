"""Files of pi0 and GR00T in the layouts of openpi, LeRobot, GR00T and Hugging Face: in, out, and what was left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tendon.errors import DataError
from tendon.policies.vla.model import Seen
from tendon.weights.foreign import format_of, weight_format
from tendon.weights.formats.internmanip import InternManip, last_checkpoint
from tests.golden.lerobot import seeded
from tests.policies.test_vla_golden import TOLERANCE, golden, pi0_inputs
from tests.policies.vla_cases import FEATURES, NAMES, STATE, policy_of, seen_of

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'tendon-robotics[vla]'")

ONE_STATE = {key: one for key, one in FEATURES.items() if key not in ("observation.gripper", "action.gripper")}
SINGLE = {key.replace("action.arm", "action"): one for key, one in ONE_STATE.items()}
NUMBERS = {"mean": 0.1, "std": 0.8, "min": -2.0, "max": 2.0, "q01": -2.0, "q99": 2.0}


def their_pi0(folder: Path, name: str, prefix: str = "", *, old: bool = False) -> dict[str, Any]:
    """The weights of the golden file, under the names that their own code gave them."""
    _, meta = golden(f"openpi/{name}.npz")
    tensors = {}
    for theirs, shape in meta["shapes"].items():
        published = theirs.replace("paligemma.model.vision_tower.", "paligemma.model.vision_tower.vision_model.")
        named = published
        if old:
            named = published.replace("paligemma.model.language_model.", "paligemma.language_model.model.")
            named = named.replace("paligemma.model.", "paligemma.")
        values = seeded.gemma_weights(theirs, tuple(shape))
        tensors[f"{prefix}{named}"] = torch.from_numpy(values).clone()
    embedded = next(one for one in tensors if one.endswith("embed_tokens.weight"))
    head = next(one for one in tensors if one.endswith("paligemma.lm_head.weight"))
    tensors[head] = tensors.pop(embedded)  # a file holds one of the two
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    sizes: dict[str, Any] = meta["sizes"]
    return sizes


def openpi_folder(folder: Path, name: str) -> None:
    sizes = their_pi0(folder, name)
    values = {key: [value] * sizes["max_state_dim"] for key, value in NUMBERS.items()}
    actions = {key: [value] * sizes["max_action_dim"] for key, value in NUMBERS.items()}
    (folder / "assets/lab").mkdir(parents=True)
    (folder / "assets/lab/norm_stats.json").write_text(
        json.dumps({"norm_stats": {"state": values, "actions": actions}})
    )
    config = {"action_horizon": sizes["chunk_size"], "action_dim": sizes["max_action_dim"]}
    (folder / "config.json").write_text(json.dumps(config | {"vision_heads": sizes["vision_heads"]}))


def lerobot_folder(folder: Path, name: str, *, old: bool) -> None:
    sizes = their_pi0(folder, name, "model.", old=old)
    state, action = (sizes[f"max_{one}_dim"] for one in ("state", "action"))
    inputs = {"observation.images.a": {"type": "VISUAL", "shape": [3, 28, 28]}}
    inputs |= {"observation.state": {"type": "STATE", "shape": [state]}}
    config = {
        "type": "pi05" if name == "pi05" else "pi0",
        "input_features": inputs,
        "output_features": {"action": {"type": "ACTION", "shape": [action]}},
        "chunk_size": sizes["chunk_size"],
        "n_action_steps": sizes["chunk_size"],
        "tokenizer_max_length": 200,
        "vision_heads": sizes["vision_heads"],
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    step = {
        "registry_name": "normalizer_processor",
        "config": {},
        "state_file": "policy_preprocessor_step_3.safetensors",
    }
    (folder / "policy_preprocessor.json").write_text(json.dumps({"name": "policy_preprocessor", "steps": [step]}))
    flat = {}
    for key, dim in (("observation.state", state), ("action", action)):
        flat |= {f"{key}.{stat}": torch.full((dim,), value) for stat, value in NUMBERS.items()}
    save_file(flat, folder / "policy_preprocessor_step_3.safetensors")


@pytest.mark.parametrize(("layout", "name"), [("openpi", "pi0"), ("openpi", "pi05"), ("new", "pi0"), ("old", "pi0")])
@torch.no_grad()
def test_a_file_of_theirs_gives_their_actions(layout: str, name: str, tmp_path: Path) -> None:
    if layout == "openpi":
        openpi_folder(tmp_path / "in", name)
    else:
        lerobot_folder(tmp_path / "in", name, old=layout == "old")
    found = format_of(tmp_path / "in")
    assert found.name == ("openpi" if layout == "openpi" else "lerobot")
    made = found.read(tmp_path / "in")
    expected, _ = golden(f"openpi/{name}.npz")
    seen, given = pi0_inputs(made.policy.net.sizes, expected["losses"].shape[1])  # type: ignore[arg-type, union-attr]
    assert isinstance(seen, Seen)
    actions = made.policy.net.sample(seen, given["noise"], 10)  # type: ignore[operator, union-attr]
    torch.testing.assert_close(actions, torch.from_numpy(expected["actions"]), **TOLERANCE)
    assert any("1 left out" in note and "gemma_expert.lm_head" in note for note in made.notes), made.notes


def test_gr00ts_names_give_the_heads_actions(tmp_path: Path) -> None:
    policy = policy_of("gr00t_n1_5")
    folder = tmp_path / "run/checkpoint-500"
    weight_format("internmanip")[0].write(policy, _info(policy), folder, "", {})
    names = set(load_file(folder / "model.safetensors"))
    assert {
        "backbone.eagle_model.vision_model.vision_model.embeddings.patch_embedding.weight",
        "backbone.eagle_model.mlp1.0.weight",
        "backbone.eagle_model.language_model.model.layers.0.self_attn.q_norm.weight",
        "action_head.model.transformer_blocks.0.attn1.to_out.0.weight",
        "action_head.model.timestep_encoder.timestep_embedder.linear_1.weight",
        "action_head.vl_self_attention.transformer_blocks.0.ff.net.2.weight",
        "action_head.state_encoder.layer1.W",
        "action_head.future_tokens.weight",
    } <= names
    theirs = {f"action_head.{name}" for name in golden("gr00t/head.npz")[1]["shapes"]}
    assert {name for name in theirs if ".1." not in name and "transformer_blocks.2" not in name} - names == {
        name for name in theirs if "transformer_blocks.3" in name
    } - names
    assert last_checkpoint(tmp_path / "run") == folder
    assert format_of(tmp_path / "run").name == "internmanip"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("system", [pytest.param("internmanip", marks=pytest.mark.long), "openpi", "lerobot"])
def test_out_and_in_again_acts_alike_to_the_bit(system: str, name: str, tmp_path: Path) -> None:
    from tendon.export.foreign import write_proven

    policy = policy_of(name, features=SINGLE).eval()
    policy.set_texts(("lift", "push_the block"))
    lacks = (system == "openpi" and "gr00t" in name) or (system == "lerobot" and name == "gr00t_n1")
    modes = {"lerobot": ("mean_std", "q99")}
    if lacks or (system in modes and policy.config.state_normalization not in (*modes[system], "min_max")):
        with pytest.raises(DataError, match=f"has no {name}"):
            weight_format(system)[0].write(policy, _info(policy), tmp_path / "out", "", {})
        return
    record = write_proven(weight_format(system)[0], policy, _info(policy), tmp_path / "out")
    assert record.max_abs_difference == 0
    again = format_of(tmp_path / "out")
    assert again.name == system


def test_without_our_folder_sizes_and_statistics_follow_from_theirs(tmp_path: Path) -> None:
    import shutil

    policy = policy_of("gr00t_n1_5", "policy.mask_text_padding=false").eval()
    weight_format("internmanip")[0].write(policy, _info(policy), tmp_path / "out", "", {})
    shutil.rmtree(tmp_path / "out/tendon")
    made = weight_format("internmanip")[0].read(tmp_path / "out")
    assert set(made.info.features) == set(policy.features)
    again = made.policy
    again.set_texts(("push_the block", "open the drawer and put the cup in it"))
    seen = seen_of(policy)
    actions, _ = policy.act(seen, policy.start(1, 2, 3))
    same, _ = again.act(seen, again.start(1, 2, 3))
    torch.testing.assert_close(same["action.arm"], actions["action.arm"], rtol=1e-5, atol=1e-5)


def test_many_files_have_an_index(tmp_path: Path) -> None:
    policy = policy_of("pi0").eval()
    InternManip(shard_bytes=60_000).write(policy, _info(policy), tmp_path / "out", "", {})
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    assert "model.paligemma_with_expert.gemma_expert.model.layers.0.mlp.up_proj.weight" in index["weight_map"]
    made = weight_format("internmanip")[0].read(tmp_path / "out").policy
    actions = [one.act(seen_of(policy), one.start(1, 2, 3))[0]["action.arm"] for one in (policy, made)]
    assert torch.equal(*actions)


def test_a_missing_tensor_and_missing_statistics_are_told(tmp_path: Path) -> None:
    openpi_folder(tmp_path / "in", "pi0")
    tensors = load_file(tmp_path / "in/model.safetensors")
    tensors.pop("action_out_proj.bias")
    save_file(tensors, tmp_path / "in/model.safetensors")
    with pytest.raises(DataError, match=r"action_out_proj\.bias is missing"):
        weight_format("openpi")[0].read(tmp_path / "in")
    (tmp_path / "in/assets/lab/norm_stats.json").unlink()
    with pytest.raises(DataError, match="no statistics"):
        weight_format("openpi")[0].read(tmp_path / "in")


def test_statistics_of_theirs_scale_states(tmp_path: Path) -> None:
    openpi_folder(tmp_path / "in", "pi0")
    policy = weight_format("openpi")[0].read(tmp_path / "in").policy
    assert policy.processing is not None
    scaled = policy.processing({STATE: torch.full((1, 1, 10), 0.9)})
    assert np.allclose(scaled[STATE], (0.9 - 0.1) / (0.8 + 1e-6))


def _info(policy: Any) -> Any:
    from tendon.policies.spec import PolicySpec

    return PolicySpec(policy.config, policy.features, policy.windows, tuple(policy.processing.texts))


@pytest.mark.parametrize("system", ["lerobot", "openpi", "internmanip"])
def test_a_folder_of_theirs_is_a_base_to_stand_on(system: str, tmp_path: Path) -> None:
    from tendon.policies.weight_spec import WeightSpec
    from tendon.weights.build import build_policy
    from tendon.weights.spec import content_sha256

    policy = policy_of("pi0", features=SINGLE)
    weight_format(system)[0].write(policy, _info(policy), tmp_path / "base", "", {})
    base = {"net": WeightSpec(str(tmp_path / "base"), content_sha256(tmp_path / "base"), dtype="bfloat16")}
    made = build_policy(policy.config, SINGLE, None, kept_uri=str(tmp_path / "kept"), base=base)
    held, given = made.net.state_dict(), policy.net.state_dict()  # type: ignore[operator, union-attr]
    assert held["vision.post_layernorm.weight"].dtype == torch.bfloat16  # it does not learn
    assert torch.equal(held["action_out_proj.weight"], given["action_out_proj.weight"])
