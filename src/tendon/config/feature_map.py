"""How a simulator's names meet those of datasets and policies: the feature map of an environment, from conf/env/<task>.yaml.

In: the keys ``observation goal features cameras instruction action`` of the env section. Out: which feature each
observation becomes, each camera with its height and width, the instruction, the parts of the action. Everything wrong is
found before anything runs (``problems``, which the schema asks). Used by the rollout, the recorder, plan and training.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

OBSERVATION = "observation."
IMAGES = "observation.images."
IMAGE_SUFFIX = "_image"
IMAGE_SIZE = 84  # robomimic's; env.options.image_size changes it for all cameras
ACTION = "action"
GOAL = "goal."  # before the key of a feature: its value in the last step of the episode
TASK = "task"  # the feature that the instruction becomes
KINDS = ("state", "image", "depth", "mask", "text", "category", "reward", "flag")
CAMERA_KEYS = ("height", "width", "observation", "key")


class EnvKeys(Protocol):
    """What of an environment's configuration the map is made of."""

    @property
    def observation(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def goal(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def features(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def cameras(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def instruction(self) -> str | None: ...  # noqa: D102
    @property
    def action(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def options(self) -> Mapping[str, Any]: ...  # noqa: D102


@dataclass(frozen=True)
class MappedCamera:
    """A camera of the simulator, the observation that it shows, and the feature that this becomes."""

    camera: str
    height: int
    width: int
    observation: str
    key: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


@dataclass(frozen=True)
class FeatureMap:
    """The names of one environment, both ways."""

    keys: Mapping[str, str]  # observation to feature, where it is not the usual one
    kinds: Mapping[str, str]  # observation to kind, where the configuration says it
    cameras: tuple[MappedCamera, ...]  # all that are known, read or not
    read: tuple[str, ...]  # observations and goals that policies are trained on
    instruction: str | None  # this text; None: what the simulator says
    action: Mapping[str, int]  # part to width; empty: one vector
    action_names: Mapping[str, tuple[str, ...]]  # part to the names of its values, where they are said
    image_size: int

    @classmethod
    def of(cls, env: EnvKeys) -> FeatureMap:
        """The map of an environment; its configuration has been checked."""
        size = int(env.options.get("image_size", 0))
        read = tuple(dict.fromkeys((*env.observation, *env.goal)))
        cameras = [_camera(name, entry, size) for name, entry in env.cameras.items()]
        shown = {camera.observation for camera in cameras}
        # The short form: a name that ends in _image is the camera before it, in the usual size.
        short = [name for name in read if name.endswith(IMAGE_SUFFIX) and name not in (*shown, *env.features)]
        cameras += [_camera(name.removesuffix(IMAGE_SUFFIX), {}, size) for name in short]
        entries = {
            name: entry if isinstance(entry, Mapping) else {"key": entry} for name, entry in env.features.items()
        }
        return cls(
            keys={name: str(entry["key"]) for name, entry in entries.items() if "key" in entry},
            kinds={name: str(entry["kind"]) for name, entry in entries.items() if "kind" in entry},
            cameras=tuple(cameras),
            read=read,
            instruction=env.instruction,
            action={
                part: len(said) if isinstance(said, (list, tuple)) else int(said) for part, said in env.action.items()
            },
            action_names={part: tuple(said) for part, said in env.action.items() if isinstance(said, (list, tuple))},
            image_size=size or IMAGE_SIZE,
        )

    def key_of(self, observation: str) -> str:
        """The feature that an observation becomes."""
        camera = self.camera_of(observation)
        if camera is not None:
            return camera.key
        return self.keys.get(observation, f"{OBSERVATION}{observation}")

    def stored_key(self, observation: str, known: Container[str]) -> str:
        """The feature of an observation among those of a dataset, where a camera may have lost its ending."""
        key = self.key_of(observation)
        image = f"{IMAGES}{observation}"
        return image if key not in known and image in known else key

    def observation_of(self, key: str) -> str:
        """The observation that a feature comes from: what the map says, else the name behind ``observation.``."""
        for camera in self.cameras:
            if camera.key == key:
                return camera.observation
        for observation, mapped in self.keys.items():
            if mapped == key:
                return observation
        return key[len(IMAGES) :] if key.startswith(IMAGES) else key.removeprefix(OBSERVATION)

    def camera_of(self, observation: str) -> MappedCamera | None:
        """The camera that an observation is the image of; None for anything else."""
        return next((camera for camera in self.cameras if camera.observation == observation), None)

    @property
    def action_keys(self) -> tuple[str, ...]:
        """The features that an action consists of, in the order of their values."""
        return tuple(f"{ACTION}.{part}" for part in self.action) or (ACTION,)

    def parts_of(self, actions: Any) -> dict[str, Any]:
        """An array of actions ``[..., D]`` by part; nothing where an action is one vector."""
        ends = list(accumulate(self.action.values()))
        starts = [0, *ends[:-1]]
        return {part: actions[..., a:b] for part, a, b in zip(self.action, starts, ends, strict=True)} if ends else {}

    @property
    def read_cameras(self) -> tuple[MappedCamera, ...]:
        """Cameras whose images are part of the observation or of the goal."""
        return tuple(camera for camera in self.cameras if camera.observation in self.read)

    def named_cameras(self, names: tuple[str, ...]) -> tuple[MappedCamera, ...]:
        """Cameras by the simulator's names; one that the configuration does not know has the usual size."""
        known = {camera.camera: camera for camera in self.cameras}
        return tuple(known.get(name) or _camera(name, {}, self.image_size) for name in names)

    @property
    def renamed(self) -> dict[str, str]:
        """The read observations whose feature is not the usual one; what a training depends on besides their names."""
        usual = {name: f"{IMAGES if self.camera_of(name) else OBSERVATION}{name}" for name in self.read}
        return {name: self.key_of(name) for name in self.read if self.key_of(name) != usual[name]}


USUAL = FeatureMap({}, {}, (), (), None, {}, {}, IMAGE_SIZE)  # every name is the usual one


def problems(env: EnvKeys) -> Iterator[tuple[str, str, str, str]]:
    """What is wrong with the map's keys: the key below env, what, why, and how it is written."""
    yield from _feature_problems(env.features)
    yield from _camera_problems(env.cameras)
    for part, width in env.action.items():
        named = isinstance(width, (list, tuple)) and width and all(isinstance(name, str) for name in width)
        if not (named or _is_count(width)) or not part.isidentifier():
            why = "each part of the action is a name with the number of its values, or with their names"
            yield f"action.{part}", f"env.action.{part} is {width!r}", why, f"env.action.{part}=2"
    if not any(problem for problem in (*_feature_problems(env.features), *_camera_problems(env.cameras))):
        yield from _clashes(env)


def _feature_problems(features: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for name, entry in features.items():
        at, shown = f"features.{name}", f"env.features.{name} is {entry!r}"
        example = f"env.features.{name}={OBSERVATION}state"
        whole = entry if isinstance(entry, Mapping) else {"key": entry}
        if unknown := sorted(set(whole) - {"key", "kind"}):
            yield at, f"{shown}: unknown {', '.join(unknown)}", "it has a key and a kind", example
        key, kind = whole.get("key", f"{OBSERVATION}{name}"), whole.get("kind", "state")
        if not isinstance(key, str) or not (key.startswith(OBSERVATION) or key == TASK) or key.endswith("."):
            yield at, shown, f"a feature of an observation is called {OBSERVATION}<name>, or {TASK}", example
        if kind not in KINDS:
            why = f"the kinds are {', '.join(KINDS)}"
            yield at, f"{shown}: unknown kind {kind!r}", why, f"env.features.{name}={{key: {key}, kind: mask}}"


def _camera_problems(cameras: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for name, entry in cameras.items():
        at, shown = f"cameras.{name}", f"env.cameras.{name} is {entry!r}"
        example = f"env.cameras.{name}={{height: 480, width: 640}}"
        if not isinstance(entry, Mapping):
            yield at, shown, "a camera has a height and a width", example
            continue
        if unknown := sorted(set(entry) - set(CAMERA_KEYS)):
            yield at, f"{shown}: unknown {', '.join(unknown)}", f"it has {', '.join(CAMERA_KEYS)}", example
        for side in ("height", "width"):
            if not _is_count(entry.get(side, 1)):
                yield f"{at}.{side}", f"env.{at}.{side} is {entry[side]!r}", "it is a number of pixels", example
        key = entry.get("key", IMAGES + "x")
        if not isinstance(key, str) or not key.startswith(OBSERVATION) or key.endswith("."):
            why = f"an image is a feature called {IMAGES}<camera>"
            yield f"{at}.key", f"env.{at}.key is {key!r}", why, f"env.{at}.key={IMAGES}{name}"


def _clashes(env: EnvKeys) -> Iterator[tuple[str, str, str, str]]:
    """Two observations that become one feature."""
    features = FeatureMap.of(env)
    names = dict.fromkeys((*features.read, *features.keys, *(camera.observation for camera in features.cameras)))
    by_key: dict[str, list[str]] = {}
    for name in names:
        by_key.setdefault(features.key_of(name), []).append(name)
    for key, clashing in by_key.items():
        if len(clashing) > 1:
            what = f"{' and '.join(clashing)} both become {key}"
            yield "features", what, "a feature comes from one observation", f"env.features.{clashing[1]}={key}_2"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _camera(name: str, entry: Mapping[str, Any], size: int) -> MappedCamera:
    observation = str(entry.get("observation", f"{name}{IMAGE_SUFFIX}"))
    height = size or int(entry.get("height", IMAGE_SIZE))
    width = size or int(entry.get("width", IMAGE_SIZE))
    return MappedCamera(name, height, width, observation, str(entry.get("key", f"{IMAGES}{observation}")))
