"""Every hook of a policy does in the engine what its docstring says; each has a tiny policy that uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tendon.errors import ConfigError, Interrupted
from tendon.train.loop.data_feeds import to_tensors
from tendon.train.loop.engine import Engine
from tendon.train.loop.training import train
from tests.train import hook_policies
from tests.train.forked_ranks import run_ranks
from tests.train.hook_policies import HookConfig
from tests.train.small_trial import MemoryLoader, OpenMemory, make_config, make_stats
from tests.train.test_resume import outcome


def engine_of(kind: str, **training: Any) -> Engine:
    config = make_config(policy=HookConfig("bc", kind), **training)
    return Engine(config, make_stats().features)


def batches(engine: Engine, count: int) -> list[dict[str, torch.Tensor]]:
    loader = MemoryLoader(1, 8)
    return [to_tensors(loader.batch(k), engine.policy.windows, engine.device) for k in range(count)]


def copies(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def moved(before: dict[str, torch.Tensor], module: torch.nn.Module) -> set[str]:
    return {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}


def test_only_the_parameters_of_the_phase_learn() -> None:
    engine = engine_of("Phases", weight_decay=0.1, lr_scheduler="constant", lr_warmup_steps=0)
    for step, batch in enumerate(batches(engine, 9)):
        before = copies(engine.policy)
        engine.update(batch, step, measure=False)
        part = "first" if step // 3 % 2 == 0 else "second"
        assert moved(before, engine.policy) == {f"{part}.weight", f"{part}.bias"}, step
        if step == 0:
            engine.check_used(step)


def trial(kind: str, uri: Path, before_batch: Any = lambda k: None, **training: Any) -> None:
    config = make_config(policy=HookConfig("bc", kind), **training)
    train(config, "memory", make_stats(), str(uri), open_data=OpenMemory(before_batch))


@pytest.mark.parametrize("kind", ["Phases", "Target", "Groups", "Recomputed"])
def test_a_resumed_run_with_hooks_ends_with_the_same_bytes(tmp_path: Path, kind: str) -> None:
    import signal

    trial(kind, tmp_path / "whole")
    with pytest.raises(Interrupted):
        trial(kind, tmp_path / "cut", lambda k: k == 13 and signal.raise_signal(signal.SIGTERM))
    trial(kind, tmp_path / "cut")
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_after_update_comes_behind_the_optimiser() -> None:
    engine = engine_of("Target")
    target, second = engine.policy.target, engine.policy.second
    before = target.weight.detach().clone()
    engine.update(batches(engine, 1)[0], 4, measure=False)
    assert engine.policy.last_step == 4
    assert torch.equal(target.weight, before.lerp(second.weight, 0.5))


def test_a_policy_says_where_its_schedule_begins() -> None:
    """Warm-up over two updates behind four at the full rate; the rate that is logged is the next update's."""
    engine = engine_of("Late", lr=1e-2, lr_scheduler="cosine", lr_warmup_steps=2)
    rates = []
    for step, batch in enumerate(batches(engine, 7)):
        engine.update(batch, step, measure=False)
        rates.append(engine.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-2] * 4 + [0.0, 5e-3, 1e-2])


def test_groups_have_their_own_rate_and_decay() -> None:
    engine = engine_of("Groups", weight_decay=0.1, lr=1e-2, lr_scheduler="constant", lr_warmup_steps=0)
    engine.update(batches(engine, 1)[0], 0, measure=False)
    slow, fast = engine.optimizer.param_groups
    assert (slow["lr"], slow["weight_decay"]) == (pytest.approx(1e-3), 0.0)
    assert (fast["lr"], fast["weight_decay"]) == (1e-2, 0.1)
    assert {id(p) for p in slow["params"]} == {id(p) for p in engine.policy.first.parameters()}


def test_a_group_without_parameters_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = (hook_policies.ParameterGroup(("backbone",)),)
    monkeypatch.setattr(hook_policies.Plain, "parameter_groups", lambda self, training: groups)
    with pytest.raises(ConfigError, match="no learning parameter under backbone"):
        engine_of("Plain")


def test_recomputed_units_run_twice_and_change_no_bit() -> None:
    """Dropout included: the second pass draws the numbers of the first."""
    states = []
    for kind, calls in (("Units", 1), ("Recomputed", 2)):
        engine = engine_of(kind)
        torch.manual_seed(3)
        for step, batch in enumerate(batches(engine, 3)):
            engine.update(batch, step, measure=False)
        assert engine.policy.calls == 3 * calls
        with torch.no_grad():
            engine.policy.loss(batches(engine, 1)[0])
        assert engine.policy.calls == 3 * calls + 1
        states.append(copies(engine.policy))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_loss_is_told_the_step() -> None:
    engine = engine_of("Counting", gradient_accumulation_steps=2)
    assert engine.update(batches(engine, 1)[0], 17, measure=False).metrics["step"].item() == 17
    assert engine.validate(batches(engine, 1), 18)["step"] == 18


def test_shard_units_are_what_is_sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of lists without a word of the policy; what it names when it says so."""
    import torch.distributed.fsdp as fsdp

    from tendon.train.distributed.parallel import Loss, _shard
    from tendon.train.distributed.ranks import ALONE

    sharded: list[torch.nn.Module] = []
    monkeypatch.setattr(fsdp, "fully_shard", lambda module, **options: sharded.append(module))
    monkeypatch.setattr(fsdp, "register_fsdp_forward_method", lambda module, name: None)
    policy = engine_of("Units").policy
    loss = Loss(policy)
    _shard(loss, make_config().training, ALONE)
    assert sharded == [policy.first, policy.second, loss]
    assert engine_of("Plain").policy.shard_units() == []


@pytest.mark.parametrize("sharding", [pytest.param("ddp", marks=pytest.mark.long), "fsdp"])
def test_phases_hold_in_several_processes(tmp_path: Path, sharding: str) -> None:
    """Two processes end where one does."""
    trial("Phases", tmp_path / "one")
    assert run_ranks(tmp_path / "two", policy=HookConfig("bc", "Phases"), sharding=sharding) == [0, 0]
    one, two = (outcome(tmp_path / name)[1][-1] for name in ("one", "two"))
    key = next(name for name in one if name.endswith("loss"))
    assert two[key] == pytest.approx(one[key], rel=1e-4)
