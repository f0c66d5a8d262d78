"""Tiny policies that use the hooks, one each; their configuration has the name of a policy that exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from tendon.config.schema import PolicyConfig, TrainingConfig
from tendon.policies.base import Batch, LossOutput, Memory, ParameterGroup, Policy
from tendon.policies.windows import Windows, windows_of
from tendon.weights.spec import WeightSpec

KEYS = ("observation.a_agent", "observation.b_target")


@dataclass(frozen=True)
class HookConfig(PolicyConfig):
    """Which policy, and its base weights."""

    model: ClassVar[str] = "tests.train.hook_policies:make"
    kind: str = "Plain"
    uri: str = ""
    sha256: str = ""
    dtype: Any = ""
    width: int = 4

    def windows(self, features: Mapping[str, Any]) -> Windows:
        return windows_of(self.reads(features), self.writes(features), (0,), (0,))

    def base_weights(self) -> Mapping[str, WeightSpec]:
        return {"base": WeightSpec(self.uri, self.sha256, dtype=self.dtype)} if self.uri else {}


class Plain(Policy):
    """Two layers."""

    config: HookConfig

    def __init__(self, config: HookConfig, features: Mapping[str, Any], stats: Any) -> None:
        super().__init__(config, features)
        self.first, self.second = nn.Linear(4, config.width), nn.Linear(config.width, 2)

    def net(self, seen: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(self.first(seen))
        return out

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        seen = torch.cat([batch[key] for key in KEYS], -1)
        return LossOutput((self.net(seen) - batch["action"]).square().mean())

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        return {"action": self.net(torch.cat([observation[key][:, -1:] for key in KEYS], -1))}, memory


class Phases(Plain):
    """The layers take turns of three updates."""

    def phase(self, step: int) -> tuple[str, ...]:
        return ("first",) if step // 3 % 2 == 0 else ("second",)


class Late(Plain):
    """The full rate for four updates; then the schedule begins."""

    def schedule_step(self, step: int) -> int | None:
        return None if step < 4 else step - 4


class Target(Plain):
    """A target network follows the second layer; it is a buffer-like module that does not learn."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.target = nn.Linear(self.config.width, 2)
        self.last_step = -1

    def frozen(self) -> tuple[str, ...]:
        return ("target",)

    def after_update(self, step: int) -> None:
        self.last_step = step
        for held, learnt in zip(self.target.parameters(), self.second.parameters(), strict=True):
            held.lerp_(learnt, 0.5)


class Groups(Plain):
    """The first layer learns ten times slower and does not decay."""

    def parameter_groups(self, training: TrainingConfig) -> tuple[ParameterGroup, ...]:
        return (ParameterGroup(("first",), 0.1, 0.0),)


class Units(Plain):
    """Its two layers are shared out one by one and computed again."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.dropout = nn.Dropout(0.5)
        self.first = nn.Sequential(self.first, self.dropout)  # type: ignore[assignment]
        self.calls = 0
        self.dropout.register_forward_pre_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1

    def shard_units(self) -> Sequence[nn.Module]:
        return (self.first, self.second)


class Recomputed(Units):
    """The same, and the first layer's activations are not kept."""

    def checkpointed_units(self) -> Sequence[nn.Module]:
        return (self.first,)


class Counting(Plain):
    """Its loss grows with the step."""

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        output = super().loss(batch, memory)
        return LossOutput(output.loss, {"step": torch.tensor(float(step))})


class OnBase(Plain):
    """A frozen base that is filled from weights, built without memory; a layer behind it learns."""

    def __init__(self, config: HookConfig, features: Mapping[str, Any], stats: Any) -> None:
        super().__init__(config, features, stats)
        with torch.device("meta"):
            self.base = nn.Sequential(
                nn.Linear(4, config.width), nn.BatchNorm1d(config.width), nn.Linear(config.width, 4)
            )

    def frozen(self) -> tuple[str, ...]:
        return ("base",)

    def net(self, seen: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.base(seen.flatten(0, 1).to(self.base[0].weight.dtype)).float()
        return super().net(hidden.view(seen.shape))


class WithLora(OnBase):
    """Its base learns through adapters only."""

    def __init__(self, config: HookConfig, features: Mapping[str, Any], stats: Any) -> None:
        from tendon.weights.lora import Lora, add_lora

        super().__init__(config, features, stats)
        add_lora(self.base, Lora(rank=2, targets=("0", "2")))

    def frozen(self) -> tuple[str, ...]:
        return ()


def make(config: HookConfig, features: Mapping[str, Any], stats: Any) -> Policy:
    """The policy that the configuration's ``kind`` names."""
    made: Policy = globals()[config.kind](config, features, stats)
    return made
