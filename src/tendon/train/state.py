"""A run as files and back: pretrained_model (what export reads), training_state (what resume needs); no pickle.

Restoring gives the very numbers that were saved, so that the next update is the one the uninterrupted run would make.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tendon.train.engine import Engine

MODEL, STATE = "pretrained_model", "training_state"


def write_model(folder: Path, engine: Engine, stats: str, config_yaml: str) -> None:
    """pretrained_model/: weights, effective configuration, statistics, and what the policy reads and predicts."""
    model = folder / MODEL
    model.mkdir()
    _write_tensors(model / "model.safetensors", engine.policy.state_dict())
    (model / "config.yaml").write_text(config_yaml)
    (model / "stats.json").write_text(stats)
    _write_json(model / "policy.json", engine.info.to_json())


def write_training(folder: Path, engine: Engine, loader: Mapping[str, Any], step: Mapping[str, Any]) -> None:
    """training_state/: optimiser, schedule, random generators, the loader's position, and the step's own facts."""
    state = folder / STATE
    state.mkdir()
    optimizer = engine.optimizer.state_dict()
    tensors = {f"state/{i}/{k}": v for i, values in optimizer["state"].items() for k, v in values.items()}
    _write_tensors(state / "optimizer_state.safetensors", tensors)
    _write_json(state / "optimizer_param_groups.json", optimizer["param_groups"])
    rates = [group["lr"] for group in engine.optimizer.param_groups]
    _write_json(state / "scheduler_state.json", {"kind": engine.config.training.lr_scheduler, "last_lr": rates})
    _write_tensors(state / "rng_state.safetensors", random_state())
    _write_json(state / "loader_state.json", loader)
    _write_json(state / "training_step.json", dict(step))


def read_training(folder: Path, engine: Engine) -> tuple[dict[str, Any], dict[str, Any]]:
    """Put a checkpoint's numbers into the engine and the global generators; the loader's state and the step's facts."""
    engine.policy.load_state_dict(load_file(folder / MODEL / "model.safetensors"))
    state = folder / STATE
    optimizer: dict[int, dict[str, Tensor]] = {}
    for name, tensor in load_file(state / "optimizer_state.safetensors").items():
        _, index, key = name.split("/", 2)
        optimizer.setdefault(int(index), {})[key] = tensor
    groups = [_tuples(group) for group in _read_json(state / "optimizer_param_groups.json")]
    engine.optimizer.load_state_dict({"state": optimizer, "param_groups": groups})
    restore_random_state(load_file(state / "rng_state.safetensors"))
    return _read_json(state / "loader_state.json"), _read_json(state / "training_step.json")


def random_state() -> dict[str, Tensor]:
    """Python's, numpy's and torch's global generators as tensors, with LeRobot's names."""
    version, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    values = numpy_state["state"]["key"].astype(np.int64)
    state = {
        "py_rng_state": torch.tensor(words, dtype=torch.int64),
        "py_rng_version": torch.tensor([version]),
        "py_rng_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "np_rng_state_values": torch.tensor(values),
        "np_rng_state_index": torch.tensor([numpy_state["state"]["pos"]]),
        "np_rng_has_gauss": torch.tensor([numpy_state["has_gauss"]]),
        "np_rng_cached_gaussian": torch.tensor([numpy_state["gauss"]], dtype=torch.float64),
        "torch_rng_state": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state |= {f"torch_cuda_rng_state.{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return state


def restore_random_state(state: Mapping[str, Tensor]) -> None:
    """The inverse of ``random_state``; generators of GPUs that are not here are left out."""
    gauss = state["py_rng_gauss"].tolist()
    random.setstate((int(state["py_rng_version"]), tuple(state["py_rng_state"].tolist()), gauss[0] if gauss else None))
    values = state["np_rng_state_values"].numpy().astype(np.uint32)
    facts = (state["np_rng_state_index"], state["np_rng_has_gauss"])
    cached = float(state["np_rng_cached_gaussian"])
    np.random.set_state(("MT19937", values, int(facts[0]), int(facts[1]), cached))
    torch.set_rng_state(state["torch_rng_state"])
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"torch_cuda_rng_state.{i}" in state:
            torch.cuda.set_rng_state(state[f"torch_cuda_rng_state.{i}"], i)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # how safetensors says that the disk is full
        raise OSError(f"{path.name}: {error}") from error


def _tuples(group: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text())
