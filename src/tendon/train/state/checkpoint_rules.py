"""When a checkpoint is made and which ones stay: robomimic's rules and names. Pure but for the clock and the cluster.

``best`` compares as robomimic does: a validation loss as low as the best so far counts, a return or a success rate must
be greater; a save for any recurring reason starts the clock of ``every_n_seconds`` anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tendon.config.schema import SaveConfig, TrainingConfig

VALIDATION, RETURN, SUCCESS = "best_validation", "best_rollout_return", "best_rollout_success_rate"
CLUSTER_EVERY_S = 300.0
LISTED, RECURRING = "epoch", "time"


def usual_every_s() -> float:
    """Seconds between checkpoints when the configuration names none: on a cluster a pod may be gone within one second.

    It is no part of the configuration, so a trial has the same run key on a cluster and on a laptop.
    """
    return CLUSTER_EVERY_S if "KUBERNETES_SERVICE_HOST" in os.environ else 0.0


@dataclass
class SaveRules:
    """The rules of one run and what they have seen so far."""

    save: SaveConfig
    training: TrainingConfig
    steps_per_epoch: int
    saved_at_s: float
    best: dict[str, float] = field(default_factory=dict)
    records: dict[str, dict[str, float]] = field(default_factory=dict)  # checkpoint: reason to score

    def is_time(self, now_s: float) -> bool:
        """Whether ``every_n_seconds`` have passed."""
        every_s = self.save.every_n_seconds or usual_every_s()
        return every_s > 0 and now_s - self.saved_at_s > every_s

    def recurring(self, num_done: int, is_time: bool, now_s: float) -> dict[str, float]:
        """Why the state after ``num_done`` updates is saved, whatever it is worth."""
        reasons: dict[str, float] = {}
        epoch, rest = divmod(num_done, self.steps_per_epoch)
        every = self.save.every_n_epochs
        if is_time or num_done % self.training.save_freq == 0 or (every and not rest and not epoch % every):
            reasons[RECURRING] = 0.0
        if not rest and epoch in self.save.epochs:
            reasons[LISTED] = epoch
        if not self.training.save_checkpoint:
            return {}
        if reasons:
            self.saved_at_s = now_s
        return reasons

    def after_validation(self, loss: float) -> dict[str, float]:
        """Why this validation is a reason to save."""
        if not loss <= self.best.get(VALIDATION, float("inf")):
            return {}
        self.best[VALIDATION] = loss
        return {VALIDATION: loss} if self._wants(self.save.on_best_validation) else {}

    def after_rollouts(self, mean_return: float, success_rate: float) -> dict[str, float]:
        """Why these rollouts are a reason to save."""
        reasons = {}
        for name, value, wanted in (
            (RETURN, mean_return, self.save.on_best_rollout_return),
            (SUCCESS, success_rate, self.save.on_best_rollout_success_rate),
        ):
            if value > self.best.get(name, float("-inf")):
                self.best[name] = value
                if self._wants(wanted):
                    reasons[name] = value
        return reasons

    def _wants(self, rule: bool) -> bool:
        return rule and self.training.save_checkpoint

    def kept(self, names: Iterable[str]) -> set[str]:
        """Which of the checkpoints stay: the newest few, the listed ones, and the ``top_k`` of each best."""
        newest = sorted(names, key=int, reverse=True)
        kept = set(newest[: self.training.keep_checkpoints])
        kept |= {name for name in newest if LISTED in self.records.get(name, {})}
        for reason, sign in ((VALIDATION, 1), (RETURN, -1), (SUCCESS, -1)):
            scored = [name for name in newest if reason in self.records.get(name, {})]  # of equals the newest
            kept |= set(sorted(scored, key=lambda name: sign * self.records[name][reason])[: self.save.top_k])
        return kept

    def best_names(self) -> dict[str, str]:
        """The checkpoint that is best in each way that was asked for."""
        found = {}
        for reason, sign in ((VALIDATION, 1), (RETURN, -1), (SUCCESS, -1)):
            scored = [
                (sign * scores[reason], -int(name), name) for name, scores in self.records.items() if reason in scores
            ]
            if scored:
                found[reason] = min(scored)[2]
        return found

    def to_json(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"best": self.best, "records": self.records}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``to_json``."""
        self.best, self.records = dict(state["best"]), dict(state["records"])
