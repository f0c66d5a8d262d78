"""Diffusion Policy: its keys and its window. No torch. Names and defaults are LeRobot's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from tendon.config.schema import Conflict, Count, ImageSize, Layers, Must, Positive
from tendon.data.features import Feature
from tendon.policies.lerobot.config import Backbone, ImageScaling, LeRobotConfig, Scaling
from tendon.policies.processing.images import Crop, Resize, ToFloat
from tendon.policies.processing.transform import Transform
from tendon.policies.windows import Windows, windows_of

Ratio = Annotated[float, Must("more than 0 and at most 1", lambda value: 0 < value <= 1, "0.9")]
DropLast = Annotated[int | None, Must("0 or more, or null", lambda value: value is None or value >= 0, "7")]


@dataclass(frozen=True)
class DiffusionConfig(LeRobotConfig):
    """Diffusion Policy with a U-Net over time."""

    model: ClassVar[str] = "tendon.policies.diffusion.model:Diffusion"
    decides: ClassVar[tuple[str, ...]] = ("crop_shape", "crop_ratio", "beta_schedule", "clip_sample")

    state_normalization: Scaling = "min_max"
    environment_normalization: Scaling = "min_max"
    action_normalization: Scaling = "min_max"
    image_normalization: ImageScaling = "signed"
    n_obs_steps: Count = 2
    horizon: Count = 16
    n_action_steps: Count = 8
    drop_n_last_frames: DropLast = None
    vision_backbone: Backbone = "resnet18"
    pretrained_backbone_weights: str | None = None
    use_group_norm: bool = True
    spatial_softmax_num_keypoints: Count = 32
    use_separate_rgb_encoder_per_camera: bool = False
    resize_shape: ImageSize = ()
    crop_shape: ImageSize = ()
    crop_ratio: Ratio = 1.0
    crop_is_random: bool = True
    down_dims: Layers = (512, 1024, 2048)
    kernel_size: Count = 5
    n_groups: Count = 8
    diffusion_step_embed_dim: Count = 128
    use_film_scale_modulation: bool = True
    noise_scheduler_type: Literal["DDPM", "DDIM"] = "DDPM"
    num_train_timesteps: Count = 100
    beta_schedule: Literal["squaredcos_cap_v2", "linear", "scaled_linear"] = "squaredcos_cap_v2"
    beta_start: Positive = 1e-4
    beta_end: Positive = 0.02
    prediction_type: Literal["epsilon", "sample"] = "epsilon"
    clip_sample: bool = True
    clip_sample_range: Positive = 1.0
    num_inference_steps: Annotated[
        int | None, Must("1 or more, or null", lambda value: value is None or value > 0, "10")
    ] = None
    do_mask_loss_for_padding: bool = False

    @property
    def crop_size(self) -> tuple[int, ...]:
        """Height and width of the crop; () where there is none."""
        if not self.resize_shape:
            return self.crop_shape
        return tuple(int(side * self.crop_ratio) for side in self.resize_shape) if self.crop_ratio < 1.0 else ()

    def conflicts(self) -> Iterator[Conflict]:
        """Halved once a level, the horizon stays whole; what is executed is predicted; norms divide their channels."""
        levels = 2 ** len(self.down_dims)
        if self.horizon % levels:
            what = f"policy.horizon is {self.horizon} with {len(self.down_dims)} policy.down_dims"
            why = f"the U-Net halves the horizon at each level: it must be a multiple of {levels}"
            yield Conflict("horizon", what, why, f"policy.horizon={-(-self.horizon // levels) * levels}")
        if self.n_action_steps > self.horizon - self.n_obs_steps + 1:
            what = f"policy.n_action_steps is {self.n_action_steps}, policy.horizon {self.horizon}"
            why = f"the horizon begins at the first of {self.n_obs_steps} observations, and actions at the last"
            fix = f"policy.n_action_steps={max(1, self.horizon - self.n_obs_steps + 1)}"
            yield Conflict("n_action_steps", what, why, fix)
        if any(width % self.n_groups for width in self.down_dims):
            what = f"policy.n_groups is {self.n_groups}, policy.down_dims {list(self.down_dims)}"
            yield Conflict("n_groups", what, "each width is split into groups of one size", "policy.n_groups=8")
        if self.pretrained_backbone_weights is not None and self.use_group_norm:
            what = "policy.use_group_norm is on with policy.pretrained_backbone_weights"
            why = "ImageNet's weights belong to batch norms"
            yield Conflict("use_group_norm", what, why, "policy.use_group_norm=false")
        if self.resize_shape and self.crop_shape not in ((), self.crop_size):
            what = f"policy.crop_shape is {list(self.crop_shape)} with policy.resize_shape {list(self.resize_shape)}"
            why = "where images are resized, policy.crop_ratio says which share of them the crop is"
            yield Conflict("crop_shape", what, why, "policy.crop_shape=[] policy.crop_ratio=0.9")
        if (self.num_inference_steps or 1) > self.num_train_timesteps:
            what = f"policy.num_inference_steps is {self.num_inference_steps}"
            why = f"noise was learnt in {self.num_train_timesteps} steps"
            yield Conflict("num_inference_steps", what, why, f"policy.num_inference_steps={self.num_train_timesteps}")
        if self.crop_ratio != 1.0 and not self.resize_shape:
            what, why = f"policy.crop_ratio is {self.crop_ratio}", "it is a share of policy.resize_shape, which is []"
            yield Conflict("crop_ratio", what, why, "policy.crop_ratio=1.0, or name policy.resize_shape")

    def without_effect(self) -> dict[str, str]:
        """Keys of a crop that is not made, of a schedule that is not chosen, of samples that are not clipped."""
        idle: dict[str, str] = {}
        if not self.crop_size:
            idle["crop_is_random"] = "policy.crop_shape=[84,84]"
        if self.beta_schedule == "squaredcos_cap_v2":
            idle |= dict.fromkeys(("beta_start", "beta_end"), "policy.beta_schedule=linear")
        if not self.clip_sample:
            idle["clip_sample_range"] = "policy.clip_sample=true"
        return idle

    def windows(self, features: Mapping[str, Feature]) -> Windows:
        """The last observations; actions from the first of them on, of which those from now on are carried out."""
        first = 1 - self.n_obs_steps
        unused = self.horizon - self.n_action_steps - self.n_obs_steps + 1
        return windows_of(
            self.reads(features),
            self.writes(features),
            range(first, 1),
            range(first, first + self.horizon),
            chunk=self.n_action_steps,
            execute=self.n_action_steps,
            drop_last=unused if self.drop_n_last_frames is None else self.drop_n_last_frames,
        )

    def camera_transforms(self, cameras: tuple[str, ...]) -> tuple[Transform, ...]:
        """Resized, then cropped: anywhere in training, the middle when acting. Bytes where nothing is resized."""
        if not cameras:
            return ()
        crops: tuple[Transform, ...] = ()
        if self.crop_size and self.crop_is_random:
            crops = (Crop(keys=cameras, size=self.crop_size, middle="round"),)
        elif self.crop_size:
            crops = (Crop(keys=cameras, size=self.crop_size, random=False, middle="round"),)
        if not self.resize_shape:
            return (*crops, ToFloat(keys=cameras))
        height, width = self.resize_shape
        return (ToFloat(keys=cameras), Resize(keys=cameras, size=(height, width)), *crops)
