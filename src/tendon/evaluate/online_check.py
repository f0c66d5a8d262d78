"""Can the online phase of a training be played: what a plan, and a training before its first update, find out. No torch.

A batch holds rows of the dataset beside rows that a simulator gave: both must have one shape. Whoever trains must have it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tendon.config.feature_map import FeatureMap
from tendon.config.schema import TrainConfig
from tendon.data.features import REWARD, Feature
from tendon.errors import Problem
from tendon.evaluate.adapters import find_adapter, is_file, is_known
from tendon.evaluate.sims import installed

TRAIN_IMAGE = (
    "tendon-train"  # what the image of train is called in every registry; it has no simulator with packages of its own
)


def online_problems(
    config: TrainConfig,
    recorded: Mapping[str, Feature] | None,
    *,
    plays_here: bool,
    train_image: str = "",
    sim_image: str = "",
) -> Iterator[Problem]:
    """What keeps the online phase from being played; nothing where there is none.

    Args:
        config: of a trial.
        recorded: what the demonstrations have; None: what the simulator has.
        plays_here: this very machine or image trains.
        train_image: the image that trains, where another one does.
        sim_image: the image that has the simulators.
    """
    if not config.training.online_steps:
        return
    yield from _missing_simulator(
        config.env.simulator, plays_here=plays_here, train_image=train_image, sim_image=sim_image
    )
    known = recorded or {}
    if recorded is not None and REWARD not in known:
        why = f"the policy learns from rewards, and the demonstrations have {', '.join(sorted(known))}"
        yield Problem(
            f"the demonstrations have no {REWARD}", "data.uri", why, "demonstrations that were recorded with rewards"
        )
    features = FeatureMap.of(config.env)
    for camera in features.read_cameras:
        key = features.stored_key(camera.observation, known)
        shape = known[key].shape[:2] if key in known and known[key].kind == "image" else camera.size
        if shape != camera.size:
            height, width = shape
            yield Problem(
                f"{key} is {height} x {width} in the demonstrations and {camera.height} x {camera.width} in the simulator",
                f"env.cameras.{camera.camera}",
                "a batch of the online phase holds pictures of both",
                f"env.cameras.{camera.camera}.height={height} env.cameras.{camera.camera}.width={width}",
            )


def _missing_simulator(name: str, *, plays_here: bool, train_image: str, sim_image: str) -> Iterator[Problem]:
    where = f"env.simulator={name}, training.online_steps"
    if is_file(name) or not is_known(name):
        return  # looked at where it is started
    if plays_here:
        if not installed(name):
            why = "episodes are played in it while the policy learns, and it is not installed where that trains"
            fix = f"tendon sims install {name}, or an image that has it and torch, such as the sim image"
            yield Problem(f"the simulator {name} is not installed", where, why, fix)
    elif find_adapter(name).pins and train_image != sim_image and TRAIN_IMAGE in train_image.rsplit("/", 1)[-1]:
        why = f"episodes are played while the policy learns, and the image {train_image} has no simulators"
        fix = f"cluster_image_train={sim_image or 'the sim image'}, or another one with torch for your GPUs and {name}"
        yield Problem(f"the image of train has no simulator {name}", where, why, fix)
