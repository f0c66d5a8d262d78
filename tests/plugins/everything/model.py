"""The net: a convolution for each camera, means of masks and tokens, one hidden layer, three heads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.policies.base import Batch, LossOutput, Memory, Policy
from tendon.policies.processing.processing import Processing
from tendon.policies.processing.text import ByteTokenizer

from .config import BUTTONS, CAMERA, TOKENS, EverythingConfig, of_kind


class Everything(Policy):
    """The memory counts the steps of each episode: a net may look at it, and a test too."""

    config: EverythingConfig
    processing: Processing

    def __init__(
        self, config: EverythingConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features)
        times = {key: len(span.deltas) for key, span in self.windows.training.items()}
        self.processing = Processing(config.processing(features), features, stats, times=times)
        self.num_draws = self.processing.num_draws
        self.cameras, self.masks = of_kind(features, "image"), of_kind(features, "mask")
        self.states, self.texts = of_kind(features, "state"), of_kind(features, "text")
        self.rewards = of_kind(features, "reward")
        after, width = self.processing.after, config.width
        self.eyes = nn.ModuleList(nn.Conv2d(after[key].shape[-1], width, 4, 4) for key in self.cameras)
        self.words = nn.Embedding(ByteTokenizer.num_ids, width)
        num_seen = width * (len(self.cameras) + bool(self.texts)) + config.image_size * len(self.masks)
        num_seen += sum(times[key] * after[key].dim for key in self.states)
        self.hidden = nn.Linear(num_seen, width)
        self.buttons = nn.Linear(width, config.chunk * features[BUTTONS].dim)
        self.view = nn.Linear(width, config.chunk * features[CAMERA].dim)
        self.reward = nn.Linear(width, config.chunk * max(1, len(self.rewards)))

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        """Buttons pressed or not, the view's turn, and the reward; steps behind the episode's end do not count."""
        seen = self.processing(batch)
        hidden_BW = self._hidden(seen)
        real_BT1 = (~batch[f"{BUTTONS}_is_pad"]).float().unsqueeze(-1)
        terms = {
            "buttons": functional.binary_cross_entropy_with_logits(
                self._chunk(self.buttons, hidden_BW), seen[BUTTONS], real_BT1.expand_as(seen[BUTTONS])
            ),
            "view": ((self._chunk(self.view, hidden_BW) - seen[CAMERA]).square() * real_BT1).mean(),
        }
        if self.rewards:
            rewards_BTR = torch.cat([seen[key] for key in self.rewards], -1)
            terms["reward"] = ((self._chunk(self.reward, hidden_BW) - rewards_BTR).square() * real_BT1).mean()
        total = torch.stack(list(terms.values())).sum()
        return LossOutput(total, {f"{name}_loss": value.detach() for name, value in terms.items()})

    def start(self, *seeds: int) -> Memory:
        """No step yet."""
        return torch.zeros(len(seeds), dtype=torch.int64, device=self.hidden.weight.device)

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        """The more probable state of each button, and the view's turn."""
        seen = self.processing(observation, "acting")
        hidden_BW = self._hidden(seen)
        actions = {
            BUTTONS: self._chunk(self.buttons, hidden_BW).sigmoid(),
            CAMERA: self._chunk(self.view, hidden_BW),
        }
        memory = self.start(*[0] * len(hidden_BW)) if memory is None else memory
        return self.processing.inverse(actions, seen), memory + 1

    def _hidden(self, seen: Mapping[str, Tensor]) -> Tensor:
        parts = [eye(seen[key][:, -1]).relu().mean((-1, -2)) for eye, key in zip(self.eyes, self.cameras, strict=True)]
        parts += [seen[key][:, -1].float().mean(-1) for key in self.masks]
        if self.texts:
            real_BL1 = seen[f"{TOKENS}_mask"][:, -1].unsqueeze(-1)
            words_BLW = self.words(seen[TOKENS][:, -1]) * real_BL1
            parts.append(words_BLW.sum(1) / real_BL1.sum(1).clamp(min=1))
        parts += [seen[key].flatten(1) for key in self.states]
        return self.hidden(torch.cat(parts, -1)).tanh()

    def _chunk(self, head: nn.Module, hidden_BW: Tensor) -> Tensor:
        values: Tensor = head(hidden_BW)
        return values.view(len(values), self.config.chunk, -1)
