"""Fixtures that several packages share: an S3 server in this process, and small robomimic files."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import settings

from tendon import trust

settings.register_profile("any machine", deadline=None)  # a busy one is no failure
settings.load_profile("any machine")
# Workers share the cores: a pool of threads in each, and in each process that a test starts, would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What a test starts must not compile our modules every time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

LIFT_KEYS = {"object": 10, "robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}
LIFT_CAMERAS = ("agentview_image", "robot0_eye_in_hand_image")


def make_lift_like_hdf5(
    path: Path,
    episodes: int = 6,
    length: int = 9,
    images: bool = False,
    size: int = 24,
    valid: int = 1,
    seed: int = 0,
) -> Path:
    """A robomimic v1.5 file with Lift's keys and random smooth values; episode i has ``length + i % 3`` steps.

    The first value of ``object`` is the episode number, the second the step, so that a test can tell rows apart.
    """
    import h5py

    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        total = 0
        for i in range(episodes):
            T = length + i % 3
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = T
            demo.attrs["model_file"] = "<mujoco/>"
            obs = {key: np.cumsum(rng.normal(0, 0.1, (T + 1, dim)), 0) for key, dim in LIFT_KEYS.items()}
            obs["object"][:, 0], obs["object"][:, 1] = i, np.arange(T + 1)
            for camera in LIFT_CAMERAS if images else ():
                obs[camera] = _smooth_images(rng, T + 1, size)
            for key, values in obs.items():
                demo[f"obs/{key}"], demo[f"next_obs/{key}"] = values[:T], values[1:]
            demo["actions"] = np.tanh(rng.normal(0, 1, (T, 7)))
            demo["states"] = rng.normal(size=(T, 32))
            demo["rewards"] = (np.arange(T) == T - 1).astype(np.float64)
            demo["dones"] = (np.arange(T) == T - 1).astype(np.int64)
            total += T
        data.attrs["total"] = total
        env_args = {"env_name": "Lift", "type": 1, "env_version": "1.5.1", "env_kwargs": {"control_freq": 20}}
        data.attrs["env_args"] = json.dumps(env_args)
        names = [f"demo_{i}" for i in range(episodes)]
        if valid:
            file["mask/train"] = np.array(names[:-valid], dtype="S")
            file["mask/valid"] = np.array(names[-valid:], dtype="S")
            file["mask/better"] = np.array(names[::2], dtype="S")
    return path


def _smooth_images(rng: np.random.Generator, num: int, size: int) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size] / size
    base = np.stack([x, y, (x + y) / 2], -1)[None] * 200
    shift = np.linspace(0, 40, num)[:, None, None, None]
    return np.clip(base + shift + rng.normal(0, 2, (num, size, size, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def lift_like_hdf5(tmp_path: Path) -> Callable[..., Path]:
    """A maker of robomimic files: ``lift_like_hdf5(episodes=6, length=9, images=False, ...)`` gives a path."""

    def make(name: str = "lift.hdf5", **options: object) -> Path:
        return make_lift_like_hdf5(tmp_path / name, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(autouse=True)
def nothing_of_earlier_commands() -> None:
    """A command with --quiet or --trust that ran in this process must not silence or loosen the tests behind it."""
    logging.getLogger("tendon").setLevel(logging.NOTSET)
    os.environ.pop(trust.VARIABLE, None)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server (moto) in this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    server.stop()


@pytest.fixture
def s3_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Only the S3 settings of the test count, none of this machine's."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-nobody-may-see")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("NO_PROXY", "*")
    return monkeypatch


@pytest.fixture
def s3_uri(s3_server: str, s3_environment: pytest.MonkeyPatch) -> str:
    """An empty S3 prefix on the test server; the environment names its endpoint."""
    import boto3

    s3_environment.setenv("AWS_ENDPOINT_URL_S3", s3_server)
    bucket = f"bucket-{uuid4().hex[:12]}"
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/prefix"
