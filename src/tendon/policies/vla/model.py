"""The base of the vision-language-action policies: parts that learn or do not, adapters, precision, what a network sees.

A subclass builds ``self.net`` and names its parts. Legend: B batch, D width of the joined state, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError
from tendon.policies.base import Batch, Policy
from tendon.policies.parts.lora import Lora, add_lora, wrapped_layers
from tendon.policies.parts.towers import without_values
from tendon.policies.processing.processing import Processing
from tendon.policies.processing.text import MASK
from tendon.policies.vla.config import STATE, TOKENS, VlaConfig

NUMERICS = 1

PROJECTOR = "projector"  # learns whole beside adapters


@dataclass(frozen=True)
class Seen:
    """What a network reads of one observation."""

    images: tuple[Tensor, ...]  # [B, C, H, W] each
    tokens: Tensor  # [B, L]
    real: Tensor  # [B, L]
    state: Tensor  # [B, D]
    embodiment: Tensor | None = None  # [B]


@dataclass(frozen=True)
class PartCount:
    """One line of the table of parts."""

    part: str
    num_parameters: int
    num_learning: int


class VlaPolicy(Policy):
    """Chance in training comes from torch's global generator, in acting from the episode's seed."""

    config: VlaConfig
    processing: Processing

    def __init__(
        self, config: VlaConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features)
        problems = [*config.feature_problems(features)]
        if problems:
            raise ConfigError.of(problems)
        used = {key: features[key] for key in (*self.reads, *self.writes)}
        times = {key: len(span.deltas) for key, span in self.windows.training.items()}
        self.processing = Processing(config.processing(used), used, stats, times=times)
        self.num_draws = self.processing.num_draws
        self.cameras, self.states = config.cameras(features), config.states(features)
        with without_values() if config.base_model_path else nullcontext():
            self.net: nn.Module = self.build()
        self._choose()

    # -------------------------------------------------------------------------------------------- what a subclass gives

    def build(self) -> nn.Module:
        """The network; inside of ``without_values`` where base weights fill it."""
        raise NotImplementedError

    def parts(self) -> Mapping[str, Sequence[str]]:
        """Names of modules (or parameters) of ``net`` by part; what no part names always learns."""
        raise NotImplementedError

    def never_learn(self) -> Sequence[nn.Module]:
        """Modules on which no number depends, held because published files do."""
        return ()

    # ------------------------------------------------------------------------------------------------------------ a batch

    def seen(self, batch: Batch) -> Seen:
        """What the network reads of a processed batch."""
        images = tuple(batch[key][:, -1] for key in self.cameras)
        tokens_BL, real_BL = batch[TOKENS][:, -1], batch[TOKENS + MASK][:, -1]
        nothing_BD = torch.zeros(len(tokens_BL), self.config.state_width, device=tokens_BL.device)
        return Seen(images, tokens_BL, real_BL, batch[STATE][:, -1] if STATE in batch else nothing_BD)

    def precision(self) -> AbstractContextManager[object]:
        """Mixed, where what does not learn is held in low precision."""
        device = self.processing.numbers_device()
        low = next((one.dtype for one in self.net.parameters() if one.dtype in (torch.bfloat16, torch.float16)), None)
        return torch.autocast(device.type, low) if low else nullcontext()

    # ------------------------------------------------------------------------------------------------------ what learns

    def _choose(self) -> None:
        """Which parameters learn, and the adapters of those parts that learn through them."""
        config, tuned = self.config, self.config.tuned()
        lora = Lora(config.lora_rank, config.lora_alpha, config.lora_dropout, config.lora_targets)
        for part, names in self.parts().items():
            modules = [self.net.get_submodule(name) for name in names]
            learns, wraps = tuned.get(part, True), bool(config.lora_rank) and part in tuned and part != PROJECTOR
            for module in modules:
                module.requires_grad_(learns and not wraps)
                if learns and wraps and wrapped_layers(module, lora.targets):
                    add_lora(module, lora)
        for module in self.never_learn():
            module.requires_grad_(False)

    def table(self) -> list[PartCount]:
        """Each part with its parameters and how many of them learn."""
        counts: dict[str, list[int]] = {}
        owner = {name: part for part, names in self.parts().items() for name in names}
        for name, parameter in self.net.named_parameters():
            part = next((part for prefix, part in owner.items() if f"{name}.".startswith(f"{prefix}.")), "always")
            count = counts.setdefault(part, [0, 0])
            count[0] += parameter.numel()
            count[1] += parameter.numel() * parameter.requires_grad
        order = [*self.parts(), "always"]
        return [PartCount(part, *counts[part]) for part in dict.fromkeys(order) if part in counts]

    def describe(self) -> str:
        """The table as text: what is printed before the first update."""
        rows = self.table()
        rows.append(PartCount("together", sum(r.num_parameters for r in rows), sum(r.num_learning for r in rows)))
        lines = [f"{'part':<16} {'parameters':>15} {'learn':>15}"]
        return "\n".join([*lines, *(f"{r.part:<16} {r.num_parameters:>15,} {r.num_learning:>15,}" for r in rows)])

    def shard_units(self) -> Sequence[nn.Module]:
        """Each block of each tower; a list inside of a block belongs to it."""
        units = super().shard_units()
        inside = {id(module) for unit in units for module in unit.modules() if module is not unit}
        return [unit for unit in units if id(unit) not in inside]

    def checkpointed_units(self) -> Sequence[nn.Module]:
        """Each block of each tower."""
        return self.shard_units() if self.config.gradient_checkpointing else ()
