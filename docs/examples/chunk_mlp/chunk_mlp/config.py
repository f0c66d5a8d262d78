"""The keys and the window. No torch: a plan is checked where there is none."""

from dataclasses import dataclass
from typing import ClassVar

from tendon.config.schema import Count, Layers, PolicyConfig
from tendon.policies.windows import windows_of


@dataclass(frozen=True)
class ChunkMlpConfig(PolicyConfig):
    """An MLP from the last observations to the next actions."""

    model: ClassVar[str] = "chunk_mlp.model:ChunkMlp"

    hidden_dims: Layers
    n_obs_steps: Count
    chunk_size: Count
    n_action_steps: Count

    def windows(self, features):
        """``n_obs_steps`` observations up to now; ``chunk_size`` actions from now on, of which some are carried out."""
        seen, targets = range(1 - self.n_obs_steps, 1), range(self.chunk_size)
        chunk = {"chunk": self.chunk_size, "execute": self.n_action_steps}
        return windows_of(self.reads(features), self.writes(features), seen, targets, **chunk)
