"""A run as files and back: pretrained_model (what export reads), training_state (what resume needs); no pickle.

Restoring gives the very numbers that were saved, so that the next update is the one the uninterrupted run would make.
With a moving average, pretrained_model holds the average and training_state the weights that learn. Whole tensors, the
carry of the whole batch and each process's generators: another number of processes can go on from it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tendon.train.distributed.parallel import as_local, full_tensor, load_weights
from tendon.train.loop import recurrent_state
from tendon.train.loop.engine import Engine
from tendon.weights.spec import SPEC_FILE, SavedWeights

MODEL, STATE = "pretrained_model", "training_state"
WEIGHTS = "model.safetensors"
ONLINE = "online_buffer.safetensors"  # episodes of an online phase
PARAMETERS = "optimizer_parameters.json"  # what the optimiser's numbers stand for
Tensors = dict[str, Tensor]
NOTHING: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class Snapshot:
    """The state between two updates, in host memory: it can be written while training goes on."""

    tensors: Mapping[str, Tensors]  # by file name
    texts: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """Every file below ``folder``."""
        for name, tensors in self.tensors.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _write_tensors(folder / name, tensors)
        for name, text in self.texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    @property
    def num_bytes(self) -> int:
        """How large the tensors are."""
        return sum(t.numel() * t.element_size() for tensors in self.tensors.values() for t in tensors.values())


def take_snapshot(
    engine: Engine,
    stats: str,
    config_yaml: str,
    loader: Mapping[str, Any],
    facts: Mapping[str, Any],
    played: Mapping[str, Tensor] = NOTHING,
) -> Snapshot:
    """Everything a checkpoint holds, copied to host memory; every process must ask, the first one's is complete.

    ``played``: episodes of an online phase, which never change and so are not copied.
    """
    weights = {name: _copied(tensor) for name, tensor in engine.policy.trainable_state_dict().items()}
    acting = weights
    tensors: dict[str, Tensors] = {}
    if engine.ema is not None:
        acting = weights | {name: _copied(tensor) for name, tensor in engine.ema.tensors().items()}
        tensors[f"{STATE}/{WEIGHTS}"] = weights
    optimizer = engine.optimizer.state_dict()
    moments = {f"state/{i}/{k}": _copied(v) for i, values in optimizer["state"].items() for k, v in values.items()}
    tensors |= {f"{MODEL}/{WEIGHTS}": acting, f"{STATE}/optimizer_state.safetensors": moments}
    if played:
        tensors[f"{STATE}/{ONLINE}"] = dict(played)
    for rank, state in enumerate(engine.world.to_first(random_state())):
        tensors[f"{STATE}/{_rng_file(rank)}"] = state
    rates = [group["lr"] for group in engine.optimizer.param_groups]
    texts = {
        f"{MODEL}/config.yaml": config_yaml,
        f"{MODEL}/stats.json": stats,
        f"{MODEL}/policy.json": _json(engine.info.to_json()),
        f"{STATE}/optimizer_param_groups.json": _json(optimizer["param_groups"]),
        f"{STATE}/{PARAMETERS}": _json(_parameter_names(engine)),
        f"{STATE}/scheduler_state.json": _json({"kind": engine.config.training.lr_scheduler, "last_lr": rates}),
        f"{STATE}/loader_state.json": _json(dict(loader)),
        f"{STATE}/training_step.json": _json({**facts, "num_skipped": engine.num_skipped.item()}),
    }
    if engine.base:
        texts[f"{MODEL}/{SPEC_FILE}"] = SavedWeights(engine.base).to_json()
    if engine.scaler.is_enabled():
        texts[f"{STATE}/scaler_state.json"] = _json(engine.scaler.state_dict())
    memories = engine.world.to_first(_carry(engine))
    if memories and memories[0] is not None:
        leaves, form = recurrent_state.to_tensors(recurrent_state.join(memories))
        tensors[f"{STATE}/carry.safetensors"] = {name: _copied(leaf) for name, leaf in leaves.items()}
        texts[f"{STATE}/carry.json"] = _json(form)
    return Snapshot(tensors, texts)


def read_training(folder: Path, engine: Engine) -> tuple[dict[str, Any], dict[str, Any]]:
    """Put a checkpoint's numbers into the engine and the global generators; the loader's state and the step's facts."""
    state = folder / STATE
    _read_weights(folder, engine)
    engine.optimizer.load_state_dict(
        {
            "state": _moments(load_file(state / "optimizer_state.safetensors"), engine),
            "param_groups": [_tuples(group) for group in _read_json(state / "optimizer_param_groups.json")],
        }
    )
    if engine.scaler.is_enabled():
        engine.scaler.load_state_dict(_read_json(state / "scaler_state.json"))
    if (state / "carry.json").exists():
        _restore_carry(engine, load_file(state / "carry.safetensors"), _read_json(state / "carry.json"))
    facts = _read_json(state / "training_step.json")
    engine.num_skipped.fill_(facts["num_skipped"])
    own = state / _rng_file(engine.world.rank)
    if own.exists():  # a process that the saved run did not have keeps the generators it was born with
        restore_random_state(load_file(own))
    return _read_json(state / "loader_state.json"), facts


def read_online(folder: Path) -> Tensors:
    """Episodes of an online phase in a checkpoint; none where there was no such phase, or nothing was played yet."""
    file = folder / STATE / ONLINE
    return load_file(file) if file.exists() else {}


def read_other(
    folder: Path, engine: Engine, *, same_batches: bool, same_seed: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """As ``read_training``, from a run with other settings: what the settings say is new, what was learnt goes on.

    Args:
        folder: a checkpoint.
        engine: of the new run.
        same_batches: whether the carry of the batch still belongs to the rows.
        same_seed: whether the generators go on too.

    Raises:
        RuntimeError: the networks differ.
    """
    state = folder / STATE
    _read_weights(folder, engine)
    names = _read_json(state / PARAMETERS)
    saved: dict[str, Tensors] = {}
    for name, tensor in load_file(state / "optimizer_state.safetensors").items():
        _, index, key = name.split("/", 2)
        saved.setdefault(names[int(index)], {})[f"state/{{}}/{key}"] = tensor
    moments = {
        key.format(index): tensor
        for index, name in enumerate(_parameter_names(engine))
        for key, tensor in saved.get(name, {}).items()
    }
    groups = engine.optimizer.state_dict()["param_groups"]
    engine.optimizer.load_state_dict({"state": _moments(moments, engine), "param_groups": groups})
    if engine.scaler.is_enabled() and (state / "scaler_state.json").exists():
        engine.scaler.load_state_dict(_read_json(state / "scaler_state.json"))
    if same_batches and (state / "carry.json").exists():
        _restore_carry(engine, load_file(state / "carry.safetensors"), _read_json(state / "carry.json"))
    generators = state / _rng_file(engine.world.rank)
    if same_seed and generators.exists():
        restore_random_state(load_file(generators))
    return _read_json(state / "loader_state.json"), _read_json(state / "training_step.json")


def _read_weights(folder: Path, engine: Engine) -> None:
    """The weights that learn, and their average."""
    acting, learning = load_file(folder / MODEL / WEIGHTS), folder / STATE / WEIGHTS
    load_weights(engine.policy, load_file(learning) if learning.exists() else acting)
    if engine.ema is not None:
        average = engine.ema.tensors()
        own = engine.policy.state_dict()  # of what began to learn since
        engine.ema.load({name: as_local(acting.get(name, own[name]), tensor) for name, tensor in average.items()})


def _parameter_names(engine: Engine) -> list[str]:
    """Names of the learning parameters in the optimiser's order."""
    names = {id(parameter): name for name, parameter in engine.named.items()}
    return [names[id(parameter)] for group in engine.optimizer.param_groups for parameter in group["params"]]


def _moments(saved: Tensors, engine: Engine) -> dict[int, Tensors]:
    parameters = [parameter for group in engine.optimizer.param_groups for parameter in group["params"]]
    state: dict[int, Tensors] = {}
    for name, tensor in saved.items():
        _, index, key = name.split("/", 2)
        state.setdefault(int(index), {})[key] = tensor if key == "step" else as_local(tensor, parameters[int(index)])
    return state


def _carry(engine: Engine) -> Any:
    """This process's carry on the CPU."""
    if engine.memories[0] is None:
        return None
    leaves, form = recurrent_state.to_tensors(recurrent_state.join(engine.memories))
    return recurrent_state.from_tensors({name: _copied(leaf) for name, leaf in leaves.items()}, form)


def _restore_carry(engine: Engine, saved: Tensors, form: Any) -> None:
    memory = recurrent_state.from_tensors({name: tensor.to(engine.device) for name, tensor in saved.items()}, form)
    own = recurrent_state.split(memory, engine.world.size)[engine.world.rank]
    engine.memories = recurrent_state.split(own, len(engine.memories))


def _rng_file(rank: int) -> str:
    return f"rng_state_{rank}.safetensors" if rank else "rng_state.safetensors"


def _copied(tensor: Tensor) -> Tensor:
    return full_tensor(tensor.detach()).to("cpu", copy=True).contiguous()


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
        save_file(dict(tensors), path)
    except SafetensorError as error:  # how safetensors says that the disk is full
        raise OSError(f"{path.name}: {error}") from error


def _tuples(group: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}


def _json(data: Any) -> str:
    return json.dumps(data, indent=1) + "\n"


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text())
