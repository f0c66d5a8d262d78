"""openpi's PyTorch checkpoints of pi0, pi0.5 and pi0-FAST: model.safetensors and assets/<id>/norm_stats.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from tendon.errors import DataError
from tendon.policies.base import Policy
from tendon.policies.spec import PolicySpec
from tendon.weights.foreign import ForeignPolicy, WeightFormat
from tendon.weights.formats import _vla
from tendon.weights.formats._vla import SLOTS, Found, Shapes

WEIGHTS, CONFIG, ASSETS, ASSET, STATS = "model.safetensors", "config.json", "assets", "tendon", "norm_stats.json"
PAIR = "paligemma_with_expert."


class OpenPi(WeightFormat):
    """The entry of the table."""

    name = "openpi"

    def sniff(self, path: Path) -> bool:
        """A folder whose tensors have openpi's names."""
        if not (path / WEIGHTS).is_file() or (path / "policy.json").is_file():
            return False
        try:
            return any(name.startswith(PAIR) for name in _vla.shapes_of(path / WEIGHTS))
        except DataError:
            return False

    def read(self, path: Path) -> ForeignPolicy:
        """The policy of a folder; its cameras are openpi's slots, its state and its actions as wide as their statistics."""
        where = str(path)

        def look(kind: str, shapes: Shapes) -> Found:
            files = sorted(path.glob(f"{ASSETS}/**/{STATS}"))
            if not files:
                why, fix = f"there is no {ASSETS}/<id>/{STATS}", "copy the folder assets of the checkpoint too"
                raise DataError("the policy has no statistics", where=where, why=why, fix=fix)
            config = json.loads((path / CONFIG).read_text()) if (path / CONFIG).is_file() else {}
            numbers = json.loads(files[0].read_text())["norm_stats"]
            section = _vla.sizes(kind, shapes)
            if "action_horizon" in config:
                section |= dict.fromkeys(("chunk_size", "n_action_steps"), int(config["action_horizon"]))
            section |= _vla.named_keys(kind, config, section)
            if section.get("pi05") or kind == "pi0fast":
                section |= {"state_normalization": "q99", "action_normalization": "q99"}
            if section.get("pi05"):
                section["tokenizer_max_length"] = 200
            stats = {
                "observation.state": _vla.stats_from(numbers["state"]),
                "action": _vla.stats_from(numbers["actions"]),
            }
            size = section["image_size"]
            features = [_vla.vector("observation.state", len(stats["observation.state"].mean))]
            features += [_vla.camera(slot, size) for slot in SLOTS]
            features += [_vla.instruction(), _vla.vector("action", len(stats["action"].mean), "action")]
            return Found(kind, section, {one.key: one for one in features}, stats)

        return _vla.read_folder(path, path / WEIGHTS, look, where)

    def write(self, policy: Policy, info: PolicySpec, path: Path, version: str, kept: Mapping[str, Any]) -> None:
        """A folder that openpi's loader takes: one file of weights, statistics of the joined state and action."""
        if info.name not in ("pi0", "pi0fast"):
            why, fix = "it has pi0, pi0.5 and pi0-FAST", "--format internmanip"
            raise DataError(f"openpi has no {info.name}", where=str(path), why=why, fix=fix)
        path.mkdir(parents=True, exist_ok=True)
        save_file(dict(_vla.tensors_of(policy, info.name)), path / WEIGHTS)
        stats = _vla.stats_of(policy)
        joined = {"state": _joined(stats, policy.reads), "actions": _joined(stats, policy.writes)}
        folder = path / ASSETS / ASSET
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STATS).write_text(json.dumps({"norm_stats": joined}, indent=2) + "\n")
        config: Any = info.config
        values = {"action_horizon": config.chunk_size, "action_dim": config.action_width, "precision": "float32"}
        (path / CONFIG).write_text(json.dumps(values, indent=2) + "\n")
        _vla.write_beside(policy, info, path)


FORMAT = OpenPi()


def _joined(stats: Mapping[str, Mapping[str, list[float]]], keys: tuple[str, ...]) -> dict[str, list[float]]:
    """Statistics of several keys as those of one vector."""
    chosen = [stats[key] for key in keys if key in stats]
    names = set.intersection(*(set(one) for one in chosen)) if chosen else set()
    return {name: [number for one in chosen for number in one[name]] for name in sorted(names)}
