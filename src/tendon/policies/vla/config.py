"""What the vision-language-action policies share: what they read, how it is scaled, which parts learn, LoRA, base weights. No torch.

The network has up to four parts: ``llm`` (language model), ``visual`` (vision tower and its connector), ``projector`` (states
and actions in and out) and ``diffusion_model`` (what denoises actions). ``tune_<part>`` says whether it learns; with LoRA a
part that learns does so through adapters, but for the projector, which peft would call modules to save.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tendon.config.schema import Conflict, Count, CountOrNone, PolicyConfig, Positive, Share, Text
from tendon.data.features import Feature
from tendon.errors import Problem
from tendon.policies.processing.images import Colour, Crop, Letterbox, Resize, ToFloat
from tendon.policies.processing.join import Join
from tendon.policies.processing.normalize import Mode, Normalize, Rules
from tendon.policies.processing.parts import MODES, NormalizeParts
from tendon.policies.processing.transform import Transform
from tendon.policies.weight_spec import WeightSpec
from tendon.policies.windows import Windows, bare, seen_now

STATE, ACTIONS, TOKENS = "joined.state", "joined.action", "tokens"  # what a network reads beside its cameras
Scaling = Literal["mean_std", "min_max", "q99", "scale", "binary", "identity"]
NET = "net"  # the module of the policy that base weights fill


@dataclass(frozen=True)
class VlaConfig(PolicyConfig):
    """Keys of all of them; InternManip's and LeRobot's names where they have one."""

    decides: ClassVar[tuple[str, ...]] = ("lora_rank",)
    rules: ClassVar[Rules] = "groot"  # whose conventions hold where a dimension hardly moves
    letterbox: ClassVar[bool] = False  # pictures in their own proportions, or stretched

    chunk_size: Count
    n_action_steps: Count
    tokenizer: Text
    tokenizer_max_length: Count
    image_size: Count
    crop_scale: Share
    brightness: Share
    contrast: Share
    saturation: Share
    hue: Share
    state_normalization: Scaling
    action_normalization: Scaling
    normalization: dict[str, Any]
    statistics: dict[str, Any]
    tune_llm: bool
    tune_visual: bool
    lora_rank: CountOrNone
    lora_alpha: Count
    lora_dropout: Share
    lora_targets: tuple[Text, ...]
    gradient_checkpointing: bool
    base_model_path: str
    base_sha256: str
    base_revision: str
    base_dtype: Literal["", "float32", "bfloat16"]
    vision_width: Count
    vision_layers: Count
    vision_heads: Count
    vision_feedforward: Count
    patch_size: Count
    text_width: Count
    text_layers: Count
    text_heads: Count
    text_kv_heads: Count
    text_head_dim: Count
    text_feedforward: Count
    vocab_size: Count

    @property
    def state_width(self) -> int:
        """What a joined state is filled up to; 0: as wide as it is."""
        return 0

    @property
    def action_width(self) -> int:
        """Likewise of an action."""
        return 0

    def tuned(self) -> Mapping[str, bool]:
        """Each part and whether it learns."""
        values = {key.removeprefix("tune_"): value for key, value in vars(self).items() if key.startswith("tune_")}
        return {part: values[part] for part in ("llm", "visual", "projector", "diffusion_model") if part in values}

    def conflicts(self) -> Iterator[Conflict]:
        """What is executed is predicted; sizes fit each other; something learns; base weights are named whole."""
        if self.n_action_steps > self.chunk_size:
            what = f"policy.n_action_steps is {self.n_action_steps}, policy.chunk_size {self.chunk_size}"
            why, fix = "no more actions can be executed than are predicted", f"policy.n_action_steps={self.chunk_size}"
            yield Conflict("n_action_steps", what, why, fix)
        for key, heads in (("vision_width", "vision_heads"), ("text_heads", "text_kv_heads")):
            whole, parts = getattr(self, key), getattr(self, heads)
            if whole % parts:
                what = f"policy.{heads} is {parts}, policy.{key} {whole}"
                fix = f"policy.{key}={-(-whole // parts) * parts}"
                yield Conflict(heads, what, "each head takes an equal part", fix)
        if self.image_size % self.patch_size:
            what = f"policy.image_size is {self.image_size}, policy.patch_size {self.patch_size}"
            fix = f"policy.image_size={-(-self.image_size // self.patch_size) * self.patch_size}"
            yield Conflict("image_size", what, "a picture is cut into whole patches", fix)
        for key, mode in self.normalization.items():
            parts = mode if isinstance(mode, (list, tuple)) else [(0, 1, mode)]
            if not all(isinstance(part, (list, tuple)) and len(part) == 3 and part[2] in MODES for part in parts):
                what = f"policy.normalization scales {key} by {mode}"
                why = f"it is one of {', '.join(MODES)}, or a list of [from, to, mode]"
                yield Conflict("normalization", what, why, f"policy.normalization={{{key}: binary}}")
        if not any(self.tuned().values()) and not self.always_learns:
            names = [f"policy.tune_{part}" for part in self.tuned()]
            what, why = "nothing of the policy learns", f"{', '.join(names)} are all false"
            yield Conflict(names[-1].removeprefix("policy."), what, why, f"{names[-1]}=true")
        yield from self._base_conflicts()

    always_learns: ClassVar[bool] = False  # whether it has parts that no key freezes

    def _base_conflicts(self) -> Iterator[Conflict]:
        if self.base_model_path:
            for spec in self.base_weights().values():
                yield from spec.conflicts("base_model_path")
            return
        for key in ("base_sha256", "base_revision", "base_dtype"):
            if getattr(self, key):
                what, why = f"policy.{key} is {getattr(self, key)}", "there are no base weights that it could be of"
                yield Conflict(key, what, why, f"policy.{key}=''")

    def without_effect(self) -> dict[str, str]:
        """Keys of LoRA, where there is none."""
        names = ("lora_alpha", "lora_dropout", "lora_targets")
        return {} if self.lora_rank else dict.fromkeys(names, "policy.lora_rank=16")

    def base_weights(self) -> Mapping[str, WeightSpec]:
        """Of the whole network."""
        if not self.base_model_path:
            return {}
        spec = WeightSpec(self.base_model_path, self.base_sha256, self.base_revision, dtype=self.base_dtype)
        return {NET: spec}

    # ------------------------------------------------------------------------------------------------ what is read

    def reads(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """States, cameras, the instruction; each in the order in which they are named."""
        return (*self.states(features), *self.cameras(features), *self.texts(features))

    def feature_problems(self, features: Mapping[str, Feature]) -> Iterator[Problem]:
        """As every policy; it has to see something, and one instruction."""
        name = self.name
        readable = (*self.states(features), *self.cameras(features), *self.texts(features), *self.writes(features))
        for key, feature in features.items():
            if key not in readable:
                why = f"its network takes numbers, cameras and an instruction, {key} is a {feature.kind}"
                yield Problem(
                    f"{name} cannot read {bare(key)}", "env.observation", why, "leave it out of env.observation"
                )
        if not self.writes(features):
            yield Problem(f"{name} has nothing to predict", f"policy={name}", "the dataset has no action", "name one")
        if not self.cameras(features):
            why = "no camera was selected; a vision-language-action policy looks"
            yield Problem(f"{name} has nothing to look at", "env.observation", why, "name at least one camera")
        if len(self.texts(features)) > 1:
            why = f"{', '.join(self.texts(features))} are texts"
            yield Problem(f"{name} takes one instruction", "env.observation", why, "name one of them")

    def states(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """Numbers that are seen."""
        return tuple(key for key, feature in features.items() if feature.kind == "state")

    def cameras(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """Images."""
        return tuple(key for key, feature in features.items() if feature.kind == "image")

    def texts(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """The instruction; without one there is a text of the policy's own."""
        return tuple(key for key, feature in features.items() if feature.kind == "text")

    def windows(self, features: Mapping[str, Feature]) -> Windows:
        """What is seen now; a chunk of actions from now on."""
        return seen_now(self.reads(features), self.writes(features), self.chunk_size, self.n_action_steps)

    def processing(self, features: Mapping[str, Feature]) -> tuple[Transform, ...]:
        """Cameras in [-1, 1] of the network's size, numbers scaled and joined, the prompt."""
        cameras, states = self.cameras(features), self.states(features)
        made: list[Transform] = []
        if cameras:
            made += self._camera_transforms(cameras)
        made += self._scaling(features, cameras)
        if states:
            made.append(Join(into=STATE, keys=states, width=self.state_width))
        made.append(Join(into=ACTIONS, keys=self.writes(features), width=self.action_width))
        return (*made, *self.prompt(features))

    def prompt(self, features: Mapping[str, Feature]) -> tuple[Transform, ...]:
        """From the instruction (and the state) to token ids."""
        raise NotImplementedError

    def _camera_transforms(self, cameras: tuple[str, ...]) -> Iterator[Transform]:
        size = (self.image_size, self.image_size)
        yield ToFloat(keys=cameras)
        if self.crop_scale < 1:
            yield Crop(keys=cameras, scale=self.crop_scale)
        # openpi's resize does not smooth, GR00T's does
        yield Letterbox(keys=cameras, size=size, antialias=False) if self.letterbox else Resize(keys=cameras, size=size)
        if any((self.brightness, self.contrast, self.saturation, self.hue)):
            yield Colour(
                keys=cameras,
                brightness=self.brightness,
                contrast=self.contrast,
                saturation=self.saturation,
                hue=self.hue,
            )

    def _scaling(self, features: Mapping[str, Feature], cameras: tuple[str, ...]) -> Iterator[Transform]:
        """A mode for each feature, or for each part of it."""
        modes: dict[str, Mode] = dict.fromkeys(self.states(features), self.state_normalization)
        modes |= dict.fromkeys(self.writes(features), self.action_normalization)
        own = {key: mode for key, mode in self.normalization.items() if key in modes}
        parts = {key: tuple(map(tuple, mode)) for key, mode in own.items() if isinstance(mode, (list, tuple))}
        modes = {key: own.get(key, mode) for key, mode in modes.items() if key not in parts}
        modes |= dict.fromkeys(cameras, "mean_std")
        halves = {key: dict.fromkeys(("mean", "std"), (0.5,) * features[key].shape[-1]) for key in cameras}
        yield Normalize(modes=modes, rules=self.rules, statistics={**halves, **self.statistics})
        if parts:
            yield NormalizeParts(parts=parts, rules=self.rules)


@dataclass(frozen=True)
class FlowConfig(VlaConfig):
    """Of those that turn noise into actions of one width for all robots."""

    max_state_dim: Count
    max_action_dim: Count
    num_inference_steps: Count
    mask_padded_steps: bool
    noise_beta_alpha: Positive
    noise_beta_beta: Positive
    tune_projector: bool
    tune_diffusion_model: bool

    @property
    def state_width(self) -> int:
        """As it is for every robot."""
        return self.max_state_dim

    @property
    def action_width(self) -> int:
        """As it is for every robot."""
        return self.max_action_dim
