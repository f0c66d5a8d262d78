"""What the policies of LeRobot share: which observations are states, environment and cameras, and how they are scaled. No torch.

A key that LeRobot has is named as there. ``observation.environment_state`` is the environment, all other numbers are the
robot's state, joined in the order of ``env.observation``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tendon.config.schema import PolicyConfig
from tendon.data.features import Feature
from tendon.errors import Problem
from tendon.policies.processing.images import ToFloat
from tendon.policies.processing.normalize import Mode, Normalize
from tendon.policies.processing.transform import Transform
from tendon.policies.windows import ACTION, GOAL, bare

ENVIRONMENT = "observation.environment_state"
Scaling = Literal["mean_std", "min_max", "q99", "identity"]
ImageScaling = Literal["imagenet", "signed", "mean_std", "min_max", "identity"]  # signed: from -1 to 1
Backbone = Literal["resnet18", "resnet34"]
DeepBackbone = Literal["resnet18", "resnet34", "resnet50", "resnet101"]


@dataclass(frozen=True)
class LeRobotScaling(PolicyConfig):
    """How what is read is scaled; LeRobot's normalisation formulas."""

    state_normalization: Scaling = "mean_std"
    environment_normalization: Scaling = "mean_std"
    image_normalization: ImageScaling = "imagenet"
    statistics: dict[str, Any] = field(default_factory=dict)

    @property
    def action_scaling(self) -> Scaling:
        """How actions are scaled."""
        return "min_max"

    def reads(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """States, environment, cameras; each in the order in which they are named."""
        return (*self.states(features), *self.environment(features), *self.cameras(features))

    def states(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """What the robot knows of itself."""
        return tuple(key for key, feature in features.items() if feature.kind == "state" and key != ENVIRONMENT)

    def environment(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """What is known of the world in numbers: one key or none."""
        return (ENVIRONMENT,) if ENVIRONMENT in features else ()

    def cameras(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """Images."""
        return tuple(key for key, feature in features.items() if feature.kind == "image")

    def processing(self, features: Mapping[str, Feature]) -> tuple[Transform, ...]:
        """Cameras as floats of the size that the network takes, everything scaled."""
        modes: dict[str, Mode] = {}
        modes |= dict.fromkeys(self.states(features), self.state_normalization)
        modes |= dict.fromkeys(self.environment(features), self.environment_normalization)
        signed, cameras = self.image_normalization == "signed", self.cameras(features)
        image_mode: Mode = "mean_std" if self.image_normalization == "signed" else self.image_normalization
        modes |= dict.fromkeys(cameras, image_mode)
        modes |= dict.fromkeys(self.writes(features), self.action_scaling)
        halves = {key: dict.fromkeys(("mean", "std"), (0.5,) * features[key].shape[-1]) for key in cameras if signed}
        normalize = Normalize(modes=modes, rules="lerobot", statistics={**halves, **self.statistics})
        return (*self.camera_transforms(cameras), normalize)

    def camera_transforms(self, cameras: tuple[str, ...]) -> tuple[Transform, ...]:
        """What happens to images before they are scaled."""
        return (ToFloat(keys=cameras),) if cameras else ()


@dataclass(frozen=True)
class LeRobotConfig(LeRobotScaling):
    """As that, with a choice for actions."""

    action_normalization: Scaling = "mean_std"

    @property
    def action_scaling(self) -> Scaling:
        """As the configuration says."""
        return self.action_normalization


def one_camera_problems(config: PolicyConfig, features: Mapping[str, Feature], holds: str) -> Iterator[Problem]:
    """What keeps a policy of one action, numbers and at most one picture from these features; ``holds``: why one picture."""
    name, reads, writes = config.name, config.reads(features), config.writes(features)
    pictures = [key for key in reads if features[key].kind == "image"]
    if writes != (ACTION,):
        why = f"the key of its action is {ACTION}, the dataset's are {', '.join(writes) or 'none'}"
        yield Problem(f"{name} predicts one action, the dataset has {len(writes)}", f"policy={name}", why, "policy=bc")
    for key in reads:
        if key.startswith(GOAL) or features[key].kind not in ("state", "image"):
            what = "goal" if key.startswith(GOAL) else features[key].kind
            why, fix = f"it reads numbers and one camera, {key} is a {what}", "leave it out of env.observation"
            yield Problem(f"{name} cannot read {bare(key)}", "env.observation", why, fix)
    if len(pictures) > 1:
        why = f"{holds}, env.observation names {', '.join(map(bare, pictures))}"
        yield Problem(f"{name} reads one camera, not {len(pictures)}", "env.observation", why, "name one of them")
    if not reads:
        why = "no observation feature was selected"
        yield Problem(f"{name} has nothing to look at", "env.observation", why, "name at least one observation")
