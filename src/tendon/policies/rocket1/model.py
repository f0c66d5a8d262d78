"""ROCKET-1: behaviour cloning of buttons and camera on video, shown a mask of its target and the kind of interaction.

The memory of a row belongs to an episode and a step: a window that does not go on where the last one of its row ended, in
the same episode, begins with an empty memory. Legend: B rows, T steps, K buttons.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError, Problem
from tendon.policies.base import AUGMENT_NOISE, Batch, LossOutput, Memory, Policy
from tendon.policies.parts.noise import draw_uniform, start_noise
from tendon.policies.rocket1 import behaviour
from tendon.policies.rocket1.backbone import start_backbone
from tendon.policies.rocket1.classes import ActionClasses, draw
from tendon.policies.rocket1.config import STANDARD, Rocket1Config, one_of
from tendon.policies.rocket1.features import (
    AIM,
    BUTTON_NAMES,
    BUTTONS,
    FPS,
    NO_TARGET,
    TARGETS_PREFIX,
    TRACK_IDS,
    TRACK_INTERACTIONS,
)
from tendon.policies.rocket1.network import RocketNetwork

NUMERICS = 1
CLONING = "behaviour_cloning"  # the objective's name for training.objective_weights
HEADS = ("buttons", "camera")


class Rocket1(Policy):
    """The memory is ``keys`` and ``values`` ``[B, L, M, H]``, ``valid`` ``[B, M]``, and where and when they are from."""

    config: Rocket1Config

    def __init__(
        self, config: Rocket1Config, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features)
        problems = _problems(features)
        if problems:
            raise ConfigError.of(problems)
        self.image, self.mask, self.interaction = (str(one_of(features, kind)) for kind in STANDARD)
        names = features[BUTTONS].names or BUTTON_NAMES
        self.classes = ActionClasses(config.codec, names)
        self.net = RocketNetwork(config)
        if stats is not None:  # without them all weights are loaded next
            start_backbone(self.net.backbone, config.backbone, config.backbone_weights, config.mask_channel_init)
        self.num_draws = config.timesteps * (bool(config.prompt_dropout) + (config.num_targets > 1))

    def frozen(self) -> tuple[str, ...]:
        """The value head is kept for reinforcement learning; cloning gives it no gradient."""
        return ("net.value_head",)

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        """The negative log-likelihood of the buttons of every real step, and of the camera where it moves."""
        real_BT = ~batch[f"{BUTTONS}_is_pad"]
        mask, interaction_BT = self._prompt(batch, real_BT)
        first_BT, state = self._carried(batch, memory, real_BT)
        log_probs, state = self.net(batch[self.image], mask, interaction_BT, first_BT, state)
        targets = self.classes.encode(batch[BUTTONS], batch[AIM])
        moving_BT = real_BT & (targets["camera"] != self.classes.codec.camera.null)
        counted = {"buttons": real_BT.float(), "camera": moving_BT.float()}
        nll = {
            head: -log_probs[head].gather(-1, targets[head].unsqueeze(-1)).squeeze(-1) * counted[head] for head in HEADS
        }
        loss = torch.stack([self._reduced(nll[head], real_BT) for head in HEADS]).sum()
        metrics = self._metrics(log_probs, targets, nll, counted, batch, real_BT) if self.measured else {}
        carried = state | self._place(batch, real_BT) if self.config.episode_continuous_batch else None
        return LossOutput(loss, metrics, carried, {CLONING: loss})

    def start(self, *seeds: int) -> Memory:
        """An empty memory, and the chance of each episode."""
        empty = self.net.recurrent.empty(len(seeds), self.net.mean.device)
        return empty if self.config.deterministic else empty | {"noise": start_noise(*seeds)}

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        """Buttons and degrees of one step."""
        image_BTHWC = observation[self.image]
        before = self.start(*[0] * len(image_BTHWC)) if memory is None else memory
        state = {key: before[key] for key in ("keys", "values", "valid")}
        interaction_BT = observation[self.interaction].reshape(image_BTHWC.shape[:2]).long()
        first_BT = torch.zeros(image_BTHWC.shape[:2], dtype=torch.bool, device=image_BTHWC.device)
        log_probs, after = self.net(image_BTHWC, observation[self.mask], interaction_BT, first_BT, state)
        if self.config.deterministic:
            chosen = {head: values[:, -1].argmax(-1) for head, values in log_probs.items()}
        else:
            uniform_B2, after["noise"] = draw_uniform(before["noise"], len(HEADS))
            uniform_B2 = uniform_B2.to(image_BTHWC.device)
            chosen = {
                head: draw(log_probs[head][:, -1], uniform_B2[:, i], self.config.nucleus_prob)
                for i, head in enumerate(HEADS)
            }
        buttons_BK, camera_B2 = self.classes.decode(chosen["buttons"], chosen["camera"])
        return {BUTTONS: buttons_BK.unsqueeze(1), AIM: camera_B2.unsqueeze(1)}, after

    def _prompt(self, batch: Batch, real_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Mask and interaction as the network is shown them: nothing behind the end, nor where the prompt is dropped."""
        shown_BT, num_steps = real_BT, real_BT.shape[1]
        noise_BN = batch.get(AUGMENT_NOISE)
        if self.config.prompt_dropout and noise_BN is not None:
            shown_BT = shown_BT & (noise_BN[:, :num_steps] >= self.config.prompt_dropout)
        if self.config.num_targets > 1:
            uniform_BT = (
                torch.zeros_like(real_BT, dtype=torch.float32) if noise_BN is None else noise_BN[:, -num_steps:]
            )
            mask_BTHW, interaction_BT = self._chosen(batch, real_BT, uniform_BT)
        else:
            mask_BTHW, interaction_BT = batch[self.mask], batch[self.interaction].reshape(real_BT.shape).long()
        mask_BTHW = mask_BTHW * shown_BT[:, :, None, None].to(mask_BTHW.dtype)
        return mask_BTHW, torch.where(shown_BT, interaction_BT, NO_TARGET)

    def _chosen(self, batch: Batch, real_BT: Tensor, uniform_BT: Tensor) -> tuple[Tensor, Tensor]:
        """One of the overlapping targets of every step: its mask and its interaction."""
        K = self.config.num_targets
        ids_BTK = torch.where(real_BT.unsqueeze(-1), batch[TRACK_IDS][..., :K], NO_TARGET)
        track_BT = chosen_tracks(ids_BTK, uniform_BT)
        interactions_BTK = batch[TRACK_INTERACTIONS][..., :K].long()
        interaction_BT = interactions_BTK.gather(-1, track_BT.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        mask_BTHW = torch.zeros_like(batch[f"{TARGETS_PREFIX}0"])
        for k in range(K):
            own_BT11 = (track_BT == k)[:, :, None, None].to(mask_BTHW.dtype)
            mask_BTHW = mask_BTHW + batch[f"{TARGETS_PREFIX}{k}"] * own_BT11
        return mask_BTHW, torch.where(track_BT >= 0, interaction_BT, NO_TARGET)

    def _carried(self, batch: Batch, memory: Memory, real_BT: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Where episodes begin ``[B, T]``, and the memory before the window; what is of another place is not seen."""
        first_BT = torch.zeros_like(real_BT)
        given = batch.get("first")
        if given is not None and given.dim() == 2:
            first_BT = first_BT | given
        elif given is not None:
            first_BT[:, 0] |= given
        if memory is None:
            return first_BT, self.net.recurrent.empty(len(real_BT), real_BT.device)
        goes_on_B = torch.ones_like(real_BT[:, 0])
        if "episode_index" in batch and "episode_index" in memory:
            same_episode_B = batch["episode_index"] == memory["episode_index"]
            goes_on_B = same_episode_B & (batch["frame_index"] == memory["frame_index"])
        first_BT[:, 0] |= ~goes_on_B
        return first_BT, {key: memory[key] for key in ("keys", "values", "valid")}

    def _place(self, batch: Batch, real_BT: Tensor) -> dict[str, Tensor]:
        """The episode of each row, and the step with which its memory goes on."""
        if "episode_index" not in batch:
            return {}
        return {
            "episode_index": batch["episode_index"],
            "frame_index": batch["frame_index"] + real_BT.sum(1),
        }

    def _reduced(self, nll_BT: Tensor, real_BT: Tensor) -> Tensor:
        """MineStudio sums over a window, so that a short tail weighs less; or a mean over the real steps."""
        if self.config.loss_reduction == "sum_time":
            return nll_BT.sum(1).mean()
        return nll_BT.sum() / real_BT.sum().clamp(min=1)

    @torch.no_grad()
    def _metrics(
        self,
        log_probs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        nll: Mapping[str, Tensor],
        counted: Mapping[str, Tensor],
        batch: Batch,
        real_BT: Tensor,
    ) -> dict[str, Tensor]:
        """Per head what a counted step costs and how often the most probable class is right; MineStudio's sums; behaviour."""
        metrics: dict[str, Tensor] = {}
        entropy = torch.zeros((), device=real_BT.device)
        for head, short in zip(HEADS, ("button", "camera"), strict=True):
            steps = counted[head].sum().clamp(min=1)
            right = (log_probs[head].argmax(-1) == targets[head]).float()
            metrics[f"{short}_nll"] = nll[head].sum() / steps
            metrics[f"{short}_accuracy"] = (right * counted[head]).sum() / steps
            metrics[f"{short}_loss"] = nll[head].sum(1).mean()
            entropy = entropy - (((log_probs[head].exp() * log_probs[head]).sum(-1)) * counted[head]).sum(1).mean()
        metrics["entropy"] = entropy
        nucleus = 1.0 if self.config.deterministic else self.config.nucleus_prob
        own = behaviour.of_policy(log_probs, self.classes, real_BT, FPS, nucleus)
        data = behaviour.of_data(batch[BUTTONS], batch[AIM], real_BT, FPS)
        for name in ("flips_per_s", "camera_jerk"):
            metrics |= {name: own[name], f"{name}_data": data[name]}
        metrics["press_rate_gap"] = (own["press_rates"] - data["press_rates"]).abs().mean()
        if not self.training:
            for i, name in enumerate(self.features[BUTTONS].names or BUTTON_NAMES):
                metrics |= {f"press.{name}": own["press_rates"][i], f"press.{name}_data": data["press_rates"][i]}
        return {name: value.detach() for name, value in metrics.items()}


def chosen_tracks(ids_BTK: Tensor, uniform_BT: Tensor) -> Tensor:
    """The track of the target of every step, -1 where there is none, as MineStudio's reader chooses on a window.

    Backwards from the end: an interaction stays the target while it is annotated, and over steps without any annotation; at a
    step that has others only, one of them is drawn.
    """
    B, T, _ = ids_BTK.shape
    current_B = ids_BTK.new_full((B,), NO_TARGET)
    tracks = []
    for t in reversed(range(T)):
        here_BK = ids_BTK[:, t] >= 0
        num_B = here_BK.sum(-1)
        same_BK = here_BK & (ids_BTK[:, t] == current_B.unsqueeze(-1))
        place_B = (uniform_BT[:, t] * num_B).long().clamp(max=(num_B - 1).clamp(min=0))
        drawn_BK = here_BK & (here_BK.long().cumsum(-1) == (place_B + 1).unsqueeze(-1))
        picked_BK = torch.where(same_BK.any(-1, keepdim=True), same_BK, drawn_BK)
        track_B = torch.where(num_B > 0, picked_BK.long().argmax(-1), NO_TARGET)
        picked_B = ids_BTK[:, t].gather(-1, track_B.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        current_B = torch.where(num_B > 0, picked_B, current_B)
        tracks.append(track_B)
    return torch.stack(tracks[::-1], 1)


def _problems(features: Mapping[str, Feature]) -> list[Problem]:
    """What the features lack."""
    where, fix = "env.observation", "choose an env with a picture, a mask of the target and the kind of interaction"
    missing = [kind for kind in STANDARD if one_of(features, kind) is None]
    problems = [
        Problem(f"rocket1 needs one {kind}", where, f"the features are {', '.join(features)}", fix) for kind in missing
    ]
    for key in (BUTTONS, AIM):
        if key not in features:
            why = f"it predicts {BUTTONS} and {AIM}; the features are {', '.join(features)}"
            problems.append(
                Problem(f"there is no {key}", "env.action", why, "choose MineStudio's data, or an env with both")
            )
    if not problems:
        width = len(features[BUTTONS].names or BUTTON_NAMES)
        if features[BUTTONS].dim != width or features[AIM].dim != 2:
            why = f"{BUTTONS} has {features[BUTTONS].dim} numbers, {AIM} {features[AIM].dim}; {width} and 2 are needed"
            problems.append(Problem("the actions are not buttons and a camera", "env.action", why, "name every button"))
    return problems
