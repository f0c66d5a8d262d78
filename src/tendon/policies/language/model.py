"""A policy that is told what to do: texts become vectors, which its network reads; what of it is tuned.

The table of texts is encoded once where the encoder does not learn, and again when it has more texts. Legend: B batch,
N texts, W numbers of a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from tendon.data.features import TASK
from tendon.errors import ConfigError
from tendon.policies.base import Batch, under
from tendon.policies.language.config import TOKENS, LanguageConfig
from tendon.policies.lerobot.model import READABLE, LeRobotPolicy
from tendon.policies.parts.lora import Lora, add_lora
from tendon.policies.parts.text_encoder import TextEncoder
from tendon.policies.processing.text import MASK, Tokenize

NUMERICS = 1

GROUPS = ("llm", "visual", "projector", "diffusion_model")


class LanguagePolicy(LeRobotPolicy):
    """Listed before the policy that it adds language to. ``modules_of_group`` says what each ``tune_*`` key stands for."""

    readable = (*READABLE, "text")
    modules_of_group: ClassVar[Mapping[str, Sequence[str]]] = {}

    def add_language(self, text_dim: int) -> None:
        """Build the encoder and the layer behind it; called at the end of ``__init__``."""
        config = self.language_config
        if TASK not in self.reads:
            raise ConfigError(
                f"{config.name} is not told what to do",
                where="env.observation",
                why=f"it reads a text, and there is no {TASK} among the observations",
                fix="name task in env.observation, with env.features.task={key: task, kind: text}",
            )
        self.text_encoder = TextEncoder(config.source, config.text_sizes, empty=bool(config.base_weights()))
        if config.lora_rank:
            lora = Lora(config.lora_rank, config.lora_alpha, config.lora_dropout, config.source.lora_targets)  # type: ignore[arg-type]
            add_lora(self.text_encoder, lora)
        self.text_projection = nn.Linear(self.text_encoder.output_dim, text_dim)
        self.text_dropout = nn.Dropout(config.text_dropout)
        self._vectors: Tensor | None = None  # of all texts, while the encoder does not learn

    @property
    def language_config(self) -> LanguageConfig:
        """The configuration, as what it is here."""
        config = self.config
        assert isinstance(config, LanguageConfig)
        return config

    def set_texts(self, texts: Sequence[str]) -> None:
        """Another table: its vectors are made when they are asked for."""
        super().set_texts(texts)
        self._vectors = None

    def base_tensor(self, name: str) -> str:
        """CLIP's file holds its vision side too, MiniLM's a layer that no number here depends on."""
        return "" if under(name, self.language_config.source.skip) else name

    def describe(self) -> str:
        """A line for each group of ``tune_*``, and for all that no key switches off."""
        group_of = {name: group for group, names in self.modules_of_group.items() for name in names}
        counts = {group: [0, 0] for group in (*GROUPS, "always")}
        for name, parameter in self.named_parameters():
            count = counts[group_of.get(name.partition(".")[0], "always")]
            count[0] += parameter.numel()
            count[1] += parameter.numel() * parameter.requires_grad
        rows = [(group, num, learning) for group, (num, learning) in counts.items() if num]
        rows.append(("together", sum(num for _, num, _ in rows), sum(learning for _, _, learning in rows)))
        head = f"{'part':<16} {'parameters':>15} {'learn':>15}"
        return "\n".join([head, *(f"{group:<16} {num:>15,} {learning:>15,}" for group, num, learning in rows)])

    def frozen(self) -> tuple[str, ...]:
        """What the ``tune_*`` keys switch off; the rest is frozen where adapters learn."""
        config, present = self.language_config, dict(self.named_children())
        off = [group for group in GROUPS if not getattr(config, f"tune_{group}")]
        names = [name for group in off for name in self.modules_of_group.get(group, ())]
        return tuple(name for name in names if name in present and list(present[name].parameters()))

    def checkpointed_units(self) -> Sequence[nn.Module]:
        """Each block."""
        return self.shard_units() if self.language_config.gradient_checkpointing else ()

    def told(self, seen: Batch) -> Tensor:
        """The projected vector of each row's text ``[B, K]``, that of the newest step."""
        tokens_BL, real_BL = seen[TOKENS][:, -1], seen[TOKENS + MASK][:, -1]
        learns = (
            self.language_config.tune_llm or self.language_config.lora_rank
        )  # no table: it would be of older weights
        vectors_BW = self._encoded_rows(tokens_BL, real_BL) if learns else self._table()[seen[TASK][:, -1]]
        projected: Tensor = self.text_dropout(self.text_projection(vectors_BW))
        return projected

    def _encoded_rows(self, tokens_BL: Tensor, real_BL: Tensor) -> Tensor:
        """Each text of a batch once."""
        _, rows_B = torch.unique(tokens_BL, dim=0, return_inverse=True)
        num_texts = int(rows_B.max()) + 1
        first_N = torch.full((num_texts,), len(rows_B), device=rows_B.device)
        first_N = first_N.scatter_reduce(0, rows_B, torch.arange(len(rows_B), device=rows_B.device), "amin")
        vectors_NW: Tensor = self.text_encoder(tokens_BL[first_N], real_BL[first_N])
        return vectors_NW[rows_B]

    def _table(self) -> Tensor:
        """The vectors of all texts that the processing knows ``[N, W]``."""
        device = self.text_projection.weight.device
        vectors = self._vectors
        if vectors is None or len(vectors) != len(self.processing.texts) or vectors.device != device:
            ids, real = self._tokens()
            with torch.no_grad(), torch.autocast(device.type, enabled=False):
                vectors = self._vectors = self.text_encoder(ids.to(device), real.to(device)).float()
        return vectors

    def _tokens(self) -> tuple[Tensor, Tensor]:
        index = next(i for i, one in enumerate(self.processing.transforms) if isinstance(one, Tokenize))
        numbers = self.processing.numbers(index)
        return numbers["ids"], numbers["real"]
