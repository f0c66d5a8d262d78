"""LeRobot's folders of pi0, pi0.5, pi0-FAST and GR00T: config.json, model.safetensors, processors with their statistics.

Names of tensors are openpi's behind ``model.`` (or those of LeRobot's first files), GR00T's behind ``_groot_model.``. Called by
folder.py, which recognises LeRobot's folders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tendon.errors import DataError
from tendon.policies.base import Policy
from tendon.policies.spec import PolicySpec
from tendon.weights.foreign import ForeignPolicy
from tendon.weights.formats import _vla
from tendon.weights.formats._vla import Found, Shapes
from tendon.weights.formats.lerobot.layout import Layout, features_of, processor_texts, their_features
from tendon.weights.formats.lerobot.statistics import THEIR_MODES, from_flat
from tendon.weights.formats.lerobot.table import COMMON

TYPES: Mapping[str, str] = {"pi0": "pi0", "pi05": "pi0", "pi0_fast": "pi0fast", "groot": "gr00t_n1_5"}
PREFIXES = {"groot": "_groot_model."}
KEYS = (
    "chunk_size",
    "n_action_steps",
    "max_state_dim",
    "max_action_dim",
    "num_inference_steps",
    "tokenizer_max_length",
)
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def is_vla(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is of one of these."""
    return config.get("type") in TYPES


def read(folder: Path, config: Mapping[str, Any]) -> ForeignPolicy:
    """The policy of a folder.

    Raises:
        DataError: tensors or statistics are missing, left over or of another shape.
    """
    where = str(folder)

    def look(kind: str, shapes: Shapes) -> Found:
        features, types, modes = features_of(config, where)
        section = _vla.sizes(kind, shapes)
        section |= {key: config[key] for key in KEYS if key in config and not _is_idle(kind, key, section)}
        section |= {
            key: value for key, value in _vla.named_keys(kind, config, section).items() if key.endswith("_heads")
        }
        for type_name, key in (("STATE", "state_normalization"), ("ACTION", "action_normalization")):
            section[key] = modes.get(type_name, "identity")
        if kind.startswith("gr00t"):
            section |= {"mask_text_padding": False, "embodiment_tag": config.get("embodiment_tag", "new_embodiment")}
        texts = {file.name: file.read_text() for file in sorted(folder.glob("policy_p*processor.json"))}
        flat: dict[str, torch.Tensor] = {}
        for name in processor_texts(texts).states:
            flat |= load_file(folder / name) if (folder / name).is_file() else {}
        stats = {}
        for key, values in from_flat(flat).items():
            if types.get(key) in ("STATE", "ACTION"):
                stats[key] = _vla.stats_from({name: value.flatten().tolist() for name, value in values.items()})
        lacking = [key for key, one in types.items() if one in ("STATE", "ACTION") and key not in stats]
        scaled = [key for key in lacking if modes[types[key]] != "identity"]
        if scaled:
            why = f"there are none of {', '.join(scaled)} in the files of its processors"
            fix = "copy policy_preprocessor.json and the files that it names too"
            raise DataError("the policy has no statistics", where=where, why=why, fix=fix)
        task = _vla.instruction()
        return Found(kind, section, {**features, task.key: task}, stats)

    return _vla.read_folder(folder, folder / WEIGHTS, look, where)


def write(policy: Policy, info: PolicySpec, path: Path) -> None:
    """A pretrained_model folder."""
    config: Any = info.config
    name = _type_of(info.name, config)
    inputs, outputs, _ = their_features(info, policy)
    inputs.pop("task", None)
    mapping = {"VISUAL": "IDENTITY"}
    for type_name, key in (("STATE", "state_normalization"), ("ACTION", "action_normalization")):
        mode = getattr(config, key)
        if mode not in THEIR_MODES:
            why, fix = f"policy.{key} is {mode}, LeRobot has {', '.join(THEIR_MODES)}", "--format internmanip"
            raise DataError("LeRobot scales in other ways", where=str(path), why=why, fix=fix)
        mapping[type_name] = THEIR_MODES[mode]
    made: dict[str, Any] = {
        "type": name,
        "n_obs_steps": 1,
        "input_features": inputs,
        "output_features": outputs,
        **COMMON,
    }
    made |= {key: getattr(config, key) for key in KEYS if hasattr(config, key)} | {"normalization_mapping": mapping}
    if name == "groot":
        made["embodiment_tag"] = config.embodiment_tag
    else:
        made |= {"image_resolution": [config.image_size] * 2, "dtype": "float32"}
    path.mkdir(parents=True, exist_ok=True)
    save_file(dict(_vla.tensors_of(policy, info.name, PREFIXES.get(name, "model."))), path / WEIGHTS)
    (path / CONFIG).write_text(json.dumps(made, indent=4))
    layout = Layout.of(made, {})
    for file, text in layout.texts.items():
        (path / file).write_text(text)
    flat = {f"{key}.{stat}": values for key, one in _vla.stats_of(policy).items() for stat, values in one.items()}
    for file in layout.states:
        save_file({key: torch.tensor(values) for key, values in flat.items()}, path / file)
    _vla.write_beside(policy, info, path)


def _is_idle(kind: str, key: str, section: Mapping[str, Any]) -> bool:
    """Keys that the policy does not have, or that its shapes decide."""
    if key in ("max_state_dim", "max_action_dim"):
        return True
    return key == "num_inference_steps" and kind == "pi0fast"


def _type_of(name: str, config: Any) -> str:
    if name == "pi0":
        return "pi05" if config.pi05 else "pi0"
    if name not in TYPES.values():
        why, fix = "it has pi0, pi0.5, pi0-FAST and GR00T N1.5", "--format internmanip"
        raise DataError(f"LeRobot has no {name}", where="--format lerobot", why=why, fix=fix)
    return next(theirs for theirs, ours in TYPES.items() if ours == name)
