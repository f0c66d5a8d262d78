"""The parts of the engine beside their definitions: average, groups, schedules, carry, precision, objectives."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tendon.errors import ConfigError, DataError, Interrupted
from tendon.policies.base import LossOutput
from tendon.train import carry
from tendon.train.ema import Ema, decay_at
from tendon.train.engine import Engine
from tendon.train.feed import to_tensors
from tendon.train.objectives import weighed
from tendon.train.schedule import learning_rate
from tests.train.small_trial import MemoryLoader, make_config, make_stats, run
from tests.train.test_resume import outcome


def engine_and_batches(count: int = 1, **training: Any) -> tuple[Engine, list[dict[str, torch.Tensor]]]:
    engine = Engine(make_config(**training), make_stats().features)
    return engine, [to_tensors(MemoryLoader(1, 8).batch(k), engine.policy.windows, engine.device) for k in range(count)]


def test_ema_is_minestudios(tmp_path: Path) -> None:
    """Copy before the first step, then after steps 0, 3, 6: decay * average + (1 - decay) * weights, no correction."""
    options = {"enable": True, "decay": 0.9, "every_n_steps": 3}
    engine, batches = engine_and_batches(7, ema=options)
    expected = [p.detach().double().clone() for p in engine.parameters]
    for step, batch in enumerate(batches):
        engine.update(batch, step, measure=False)
        if step in (0, 3, 6):
            expected = [0.9 * e + 0.1 * p.detach().double() for e, p in zip(expected, engine.parameters, strict=True)]
    assert engine.ema is not None
    for e, a in zip(expected, engine.ema.tensors().values(), strict=True):
        assert torch.allclose(e, a.double(), atol=1e-6)
    raw = [p.detach().clone() for p in engine.parameters]
    judged = engine.validate(batches[:1])["loss"]
    assert all(torch.equal(p, r) for p, r in zip(engine.parameters, raw, strict=True))
    assert judged != pytest.approx(engine.policy.loss(batches[0]).loss.item(), abs=1e-9)


def test_the_average_is_what_a_checkpoint_acts_with(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from tendon.export.bundle import load_policy

    uri = run(tmp_path, ema={"enable": True, "decay": 0.99, "every_n_steps": 1}).checkpoint_uri
    raw = load_file(f"{uri}/training_state/model.safetensors")
    acting = load_policy(uri)[0].state_dict()
    assert not torch.equal(acting["trunk.0.weight"], raw["trunk.0.weight"])
    assert (acting["trunk.0.weight"] - raw["trunk.0.weight"]).abs().max() < 0.05


def test_power_grows_as_diffusion_policys() -> None:
    config = make_config(ema={"enable": True, "decay": 0.9999, "power": 0.75}).ema
    assert [round(decay_at(config, n), 4) for n in (0, 1, 2, 3, 100)] == [0.0, 0.0, 0.4054, 0.5613, 0.9684]
    assert decay_at(config, 10**9) == 0.9999
    offloaded = Ema(make_config(ema={"cpu_offload": True}).ema, {"w": torch.ones(2)})
    assert offloaded.tensors()["w"].device.type == "cpu"


EVERYTHING: dict[str, Any] = {
    "ema": {"enable": True, "every_n_steps": 2},
    "gradient_accumulation_steps": 2,
    "grad_clip_norm": 0.5,
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "decay_norms_and_biases": False,
    "nonfinite": "skip",
    "callbacks": ("LearningRateMonitor",),
}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_everything_at_once_resumes_bit_for_bit(tmp_path: Path, precision: str) -> None:
    import signal

    options = EVERYTHING | {"precision": precision}
    run(tmp_path / "whole", **options)
    for at in (13, 24):
        with pytest.raises(Interrupted):
            run(tmp_path / "cut", lambda k, at=at: k == at and signal.raise_signal(signal.SIGTERM), **options)  # type: ignore[misc]
    run(tmp_path / "cut", **options)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_groups_and_frozen_parts() -> None:
    engine, batches = engine_and_batches(1, decay_norms_and_biases=False, weight_decay=0.1, freeze=("trunk.0",))
    groups = [(g["weight_decay"], sorted({p.ndim for p in g["params"]})) for g in engine.optimizer.param_groups]
    assert sorted(groups) == [(0.0, [1]), (0.1, [2])]
    before = engine.policy.state_dict()["trunk.0.weight"].clone()
    engine.update(batches[0], 0, measure=True)
    assert torch.equal(engine.policy.state_dict()["trunk.0.weight"], before)
    with pytest.raises(ConfigError, match="backbone"):
        engine_and_batches(lr_backbone=1e-5)


def test_multistep_and_linear_by_epoch_are_robomimics() -> None:
    """[3] changes from robomimic's epoch 4 on; linear with E=100 from 1e-4: epoch 2 9.91e-5, 100 1.09e-5, 101 on 1e-5."""
    steps = make_config(lr=1e-4, lr_scheduler="multistep", epoch_schedule=(3, 5), lr_warmup_steps=0).training
    by_epoch = [learning_rate(steps, 10 * (epoch - 1), 10) for epoch in (1, 3, 4, 5, 6)]
    assert by_epoch == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5, 1e-6])
    line = make_config(lr=1e-4, lr_scheduler="linear", epoch_schedule=(100,), lr_warmup_steps=0).training
    by_epoch = [learning_rate(line, 10 * (epoch - 1), 10) for epoch in (1, 2, 100, 101, 300)]
    assert by_epoch == pytest.approx([1e-4, 9.91e-5, 1.09e-5, 1e-5, 1e-5])


def test_cosine_with_a_warm_up_ratio_is_transformers() -> None:
    """get_cosine_schedule_with_warmup(500 of 10000 steps), to 0."""
    cosine = make_config(
        lr=1e-4, offline_steps=10_000, lr_scheduler="cosine", lr_warmup_steps=0, warmup_ratio=0.05, lr_end_factor=0.0
    ).training
    for step in (0, 1, 250, 500, 501, 5000, 9999):
        expected = step / 500 if step < 500 else 0.5 * (1 + math.cos(math.pi * (step - 500) / 9500))
        assert learning_rate(cosine, step) == pytest.approx(1e-4 * expected, abs=1e-15)


def test_what_one_schedule_key_undoes_is_refused() -> None:
    bad = make_config(lr_scheduler="cosine", epoch_schedule=(3,), warmup_ratio=0.1).training
    assert {conflict.key for conflict in bad.conflicts()} == {"epoch_schedule", "warmup_ratio"}
    assert [c.key for c in make_config(batch_size=9, gradient_accumulation_steps=2).training.conflicts()] == [
        "batch_size"
    ]


def test_carry_is_split_and_joined_along_the_batch() -> None:
    memory = {"h": torch.arange(8.0).view(8, 1), "c": [torch.arange(8), (torch.ones(8, 2),)]}
    parts = carry.split(memory, 4)
    assert parts[1]["h"].tolist() == [[2.0], [3.0]]
    tensors, form = carry.to_tensors(carry.joined(parts))
    again = carry.from_tensors(tensors, form)
    assert torch.equal(again["h"], memory["h"])
    assert torch.equal(again["c"][1][0], memory["c"][1][0])
    assert carry.split(None, 2) == [None, None]


def test_carry_reaches_the_next_batch_and_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy whose loss depends on how many batches each slot has seen."""
    import signal

    from tendon.policies.bc.model import Bc

    plain = Bc.loss

    def loss(self: Bc, batch: dict[str, torch.Tensor], memory: Any = None, step: int = 0) -> LossOutput:
        assert "frame_index" in batch
        seen = torch.zeros(len(batch["action"])) if memory is None else memory["seen"]
        output = plain(self, batch)
        return LossOutput(output.loss * (1 + seen.mean()), output.metrics | {"seen": seen.mean()}, {"seen": seen + 1})

    monkeypatch.setattr(Bc, "loss", loss)
    made = Bc.__init__

    def carrying(self: Bc, *arguments: Any) -> None:
        made(self, *arguments)
        self.windows = replace(self.windows, stateful=True)

    monkeypatch.setattr(Bc, "__init__", carrying)
    options = {"gradient_accumulation_steps": 2}
    run(tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", lambda k: k == 13 and signal.raise_signal(signal.SIGTERM), **options)  # type: ignore[arg-type,return-value]
    run(tmp_path / "cut", **options)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")
    lines = outcome(tmp_path / "cut")[1]
    assert [line["train/seen"] for line in lines if "train/seen" in line] == [0.0, 10.0, 20.0, 30.0]


def test_objectives_are_weighed() -> None:
    terms = {"bc": torch.tensor(2.0), "kl": torch.tensor(4.0)}
    output = weighed(LossOutput(torch.tensor(6.0), objectives=terms), {"kl": 0.5})
    assert output.loss.item() == 4.0
    assert output.metrics["kl_objective"].item() == 4.0
    assert weighed(LossOutput(torch.tensor(6.0)), {"policy": 0.01}).loss.item() == pytest.approx(0.06)
    with pytest.raises(ConfigError, match="bc, kl"):
        weighed(LossOutput(torch.tensor(6.0), objectives=terms), {"gan": 1.0})


def test_skip_leaves_out_the_update_and_counts_it() -> None:
    engine, batches = engine_and_batches(3, nonfinite="skip")
    before = [p.detach().clone() for p in engine.parameters]
    bad = batches[1] | {"action": batches[1]["action"] * float("nan")}
    engine.update(bad, 0, measure=False)
    assert all(torch.equal(p, b) for p, b in zip(engine.parameters, before, strict=True))
    engine.update(batches[2], 1, measure=False)
    assert not torch.equal(engine.parameters[0], before[0])
    assert engine.num_skipped.item() == 1


class Norms(nn.Module):
    """A batch norm and dropout before a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.linear = nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 2)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.linear(self.drop(self.norm(values)))
        return made


@pytest.mark.parametrize("by", ["configuration", "policy", "each parameter"])
def test_a_frozen_module_is_really_frozen(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """Weights and buffers stay, dropout is off, and it stays so after a validation; beside it a batch norm learns."""
    from tendon.policies.bc.model import Bc

    made, plain = Bc.__init__, Bc.loss

    def with_norms(self: Bc, *arguments: Any) -> None:
        made(self, *arguments)
        self.base, self.adapter = Norms(), Norms()

    def loss(self: Bc, batch: dict[str, torch.Tensor], memory: Any = None, step: int = 0) -> LossOutput:
        seen = batch["observation.a_agent"][:, 0]
        output = plain(self, batch)
        return replace(output, loss=output.loss + self.adapter(self.base(seen)).square().mean())

    monkeypatch.setattr(Bc, "__init__", with_norms)
    monkeypatch.setattr(Bc, "loss", loss)
    names = tuple(f"base.{name}" for name, _ in Norms().named_parameters())
    if by == "policy":
        monkeypatch.setattr(Bc, "frozen", lambda self: ("base",), raising=False)
    options = {"configuration": {"freeze": ("base",)}, "policy": {}, "each parameter": {"freeze": names}}[by]
    engine, batches = engine_and_batches(3, **options)
    policy = engine.policy
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    for step, batch in enumerate(batches):
        engine.update(batch, step, measure=False)
        engine.validate(batches[:1])
    seen = batches[-1]["observation.a_agent"][:, 0]
    assert policy.training
    assert torch.equal(policy.base(seen), policy.base(seen))  # type: ignore[operator]
    assert not torch.equal(policy.adapter(seen), policy.adapter(seen))  # type: ignore[operator]
    moved = {name for name, value in policy.state_dict().items() if not torch.equal(value, before[name])}
    assert not [name for name in moved if name.startswith("base.")]
    assert {"adapter.norm.running_mean", "adapter.norm.num_batches_tracked", "adapter.linear.weight"} <= moved


def test_a_policy_that_freezes_what_it_does_not_have_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from tendon.policies.bc.model import Bc

    monkeypatch.setattr(Bc, "frozen", lambda self: ("backbone",))
    with pytest.raises(ConfigError, match="no learning parameter under backbone") as caught:
        engine_and_batches()
    assert caught.value.problems[0].where == "policy=bc"


def test_a_nan_stops_and_the_batch_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = MemoryLoader.batch

    def batch(self: MemoryLoader, k: int) -> dict[str, np.ndarray]:
        arrays = plain(self, k)
        return arrays | {"action": arrays["action"] * np.nan} if k == 12 and self.seed == 1 else arrays

    monkeypatch.setattr(MemoryLoader, "batch", batch)
    with pytest.raises(DataError, match="step 12"):
        run(tmp_path)
    with np.load(tmp_path / "failures/batch-000012.npz", allow_pickle=False) as kept:
        assert np.isnan(kept["action"]).all()
        assert kept["episode_index"].shape == (8,)
