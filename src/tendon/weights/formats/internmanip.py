"""Hugging Face's layout as InternManip and GR00T have it: config.json, safetensors with an index, experiment_cfg/metadata.json.

Names of tensors are GR00T's, or LeRobot's for pi0 and pi0-FAST. A run's folder is read at its last ``checkpoint-N``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tendon.errors import DataError
from tendon.policies.base import Policy
from tendon.policies.spec import PolicySpec
from tendon.policies.windows import bare
from tendon.weights.foreign import ForeignPolicy, WeightFormat
from tendon.weights.formats import _vla
from tendon.weights.formats._vla import Found, Shapes
from tendon.weights.load import SHARD_BYTES, write_sharded
from tendon.weights.spec import INDEX

CONFIG, METADATA = "config.json", Path("experiment_cfg/metadata.json")
TYPES = ("pi0", "pi0fast", "gr00t_n1", "gr00t_n1_5")
LANGUAGE = "model."  # in front of pi0's names there


class InternManip(WeightFormat):
    """The entry of the table."""

    name = "internmanip"

    def __init__(self, shard_bytes: int = SHARD_BYTES) -> None:
        self.shard_bytes = shard_bytes

    def sniff(self, path: Path) -> bool:
        """A folder whose config.json has one of the types, or a run with such checkpoints."""
        folder = last_checkpoint(path)
        try:
            config = json.loads((folder / CONFIG).read_text()) if (folder / CONFIG).is_file() else {}
        except ValueError:
            return False
        return isinstance(config, dict) and config.get("model_type") in TYPES and any(folder.glob("*.safetensors"))

    def read(self, path: Path) -> ForeignPolicy:
        """The policy; state, action and video keys are those of metadata.json, under the one embodiment that it has."""
        folder = last_checkpoint(path)
        where = str(folder)

        def look(kind: str, shapes: Shapes) -> Found:
            config = json.loads((folder / CONFIG).read_text())
            if not (folder / METADATA).is_file():
                why, fix = f"there is no {METADATA}", "copy experiment_cfg of the run into the checkpoint"
                raise DataError("the policy has no statistics", where=where, why=why, fix=fix)
            return _found(kind, config, json.loads((folder / METADATA).read_text()), _vla.sizes(kind, shapes))

        single = folder / "model.safetensors"
        weights = folder if (folder / INDEX).is_file() or not single.is_file() else single
        return _vla.read_folder(folder, weights, look, where)

    def write(self, policy: Policy, info: PolicySpec, path: Path, version: str, kept: Mapping[str, Any]) -> None:
        """A ``checkpoint-N`` folder, without the state of training."""
        if info.name not in TYPES:
            why, fix = f"it has {', '.join(TYPES)}", "--format safetensors"
            raise DataError(f"InternManip has no {info.name} of this kind", where=str(path), why=why, fix=fix)
        prefix = "" if info.name.startswith("gr00t") else LANGUAGE
        write_sharded(dict(_vla.tensors_of(policy, info.name, prefix)), path, self.shard_bytes)
        config: Any = info.config
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(config).items()}
        values = {"model_type": info.name, "torch_dtype": "float32", **values}
        if info.name.startswith("gr00t"):
            values |= {"action_horizon": config.chunk_size, "action_dim": config.max_action_dim}
        (path / CONFIG).write_text(json.dumps(values, indent=2) + "\n")
        (path / METADATA).parent.mkdir(parents=True, exist_ok=True)
        (path / METADATA).write_text(json.dumps(_metadata(policy, info), indent=2) + "\n")
        _vla.write_beside(policy, info, path)


FORMAT = InternManip()


def last_checkpoint(path: Path) -> Path:
    """The newest ``checkpoint-N`` of a run's folder, or the folder itself."""
    numbers = [int(one.name.partition("-")[2]) for one in path.glob("checkpoint-*") if one.name[11:].isdigit()]
    return path / f"checkpoint-{max(numbers)}" if numbers else path


def _found(kind: str, config: Mapping[str, Any], metadata: Mapping[str, Any], section: dict[str, Any]) -> Found:
    head = config.get("action_head_cfg", {})
    diffusion, adapter = head.get("diffusion_model_cfg", {}), head.get("vl_self_attention_cfg", {})
    horizon = config.get("chunk_size") or config.get("action_horizon") or head.get("action_horizon")
    if horizon:
        section |= dict.fromkeys(("chunk_size", "n_action_steps"), int(horizon))
    if kind.startswith("gr00t"):
        section |= {"mask_text_padding": False}
        section |= {"diffusion_heads": diffusion["num_attention_heads"]} if diffusion else {}
        section |= {"vl_heads": adapter["num_attention_heads"]} if adapter and kind == "gr00t_n1_5" else {}
        if head.get("num_inference_timesteps"):
            section["num_inference_steps"] = head["num_inference_timesteps"]
    section |= _vla.named_keys(kind, config, section)
    tag, one = next(iter(metadata.items()))
    if kind.startswith("gr00t"):
        section["embodiment_tag"] = tag
    modalities, statistics = one["modalities"], one["statistics"]
    features = {}
    for name, entry in modalities.get("video", {}).items():
        width, height = entry["resolution"]
        made = _vla.camera(name, section["image_size"], height, width)
        features[made.key] = made
    stats = {}
    for group, kind_of_feature in (("state", "state"), ("action", "action")):
        for name, entry in modalities.get(group, {}).items():
            key = f"observation.{name}" if group == "state" else f"action.{name}"
            features[key] = _vla.vector(key, int(entry["shape"][0]), kind_of_feature)
            stats[key] = _vla.stats_from(statistics[group][name])
    task = _vla.instruction()
    return Found(kind, section, {**features, task.key: task}, stats)


def _metadata(policy: Policy, info: PolicySpec) -> dict[str, Any]:
    stats = _vla.stats_of(policy)
    modalities: dict[str, dict[str, Any]] = {"video": {}, "state": {}, "action": {}}
    statistics: dict[str, dict[str, Any]] = {"state": {}, "action": {}}
    for key, feature in info.features.items():
        if feature.kind == "image":
            height, width, channels = feature.shape
            modalities["video"][bare(key)] = {"resolution": [width, height], "channels": channels, "fps": 0.0}
        elif feature.kind in ("state", "action"):
            name = bare(key) if feature.kind == "state" else key.removeprefix("action.")
            entry = {"absolute": True, "rotation_type": None, "shape": [feature.dim], "continuous": True}
            modalities[feature.kind][name] = entry
            statistics[feature.kind][name] = stats.get(key, {})
    tag = getattr(info.config, "embodiment_tag", "new_embodiment")
    return {tag: {"statistics": statistics, "modalities": modalities, "embodiment_tag": tag}}
