"""Peers, each in a scratch environment of its own under build/peers: installed once, never imported by us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import Skip

HERE = Path(__file__).parent

# torchvision's wheel is built for CUDA; beside a CPU torch its import stops at two operators that nobody declared.
# This declares them (schema only).
TORCHVISION_SCHEMA = """
import sys


class _Once:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            for op in ("nms", "qnms"):
                torch.library.define(f"torchvision::{op}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return None


sys.meta_path.insert(0, _Once())
"""


def environment(name: str, *installs: list[str]) -> Path:
    """The interpreter of a peer's environment; made on first use."""
    folder = Path("build/peers") / name
    python = (folder / "bin" / "python").absolute()
    if not (folder / ".installed").exists():
        if folder.is_symlink():  # venv --clear would empty the folder that it points to, which is somebody else's
            raise Skip(f"{folder} is a link: an environment is made in a folder of its own")
        print(f"installing {name} into {folder} ...", file=sys.stderr, flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            for packages in installs:
                subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        except subprocess.CalledProcessError as error:
            raise Skip(f"{name} could not be installed: {error}") from None
        site = next((folder / "lib").glob("python*/site-packages"))
        (site / "_torchvision_schema.py").write_text(textwrap.dedent(TORCHVISION_SCHEMA))
        (site / "_torchvision_schema.pth").write_text("import _torchvision_schema\n")
        (folder / ".installed").touch()
    return python


def robomimic() -> Path:
    """robomimic 0.3.0, the newest release on the package index, without its simulators."""
    return environment(
        "robomimic-0.3.0",
        ["torch==2.13.0", "numpy<2.4"],
        ["--no-deps", "torchvision==0.28.0", "robomimic==0.3.0"],
        [
            "h5py",
            "psutil",
            "tqdm",
            "termcolor",
            "tensorboard",
            "tensorboardX",
            "imageio",
            "imageio-ffmpeg",
            "matplotlib",
            "six",
            "pillow",
        ],
    )


def lerobot() -> Path:
    """lerobot 0.4.4, the last release for Python 3.11, beside a CPU torch newer than its pins; ffmpeg's libraries are needed."""
    if sys.version_info[:2] not in ((3, 10), (3, 11)):
        raise Skip("lerobot 0.4.4 and its torchcodec are installed for Python 3.10 and 3.11 only")
    return environment(
        "lerobot-0.4.4",
        ["torch==2.13.0"],
        ["--no-deps", "torchvision==0.28.0", "torchcodec==0.13.0", "lerobot==0.4.4"],
        [
            "datasets<5,>=4",
            "diffusers<0.36",
            "huggingface-hub[cli,hf-transfer]<0.36,>=0.34.2",
            "accelerate<2,>=1.10",
            "setuptools<81,>=71",
            "einops<0.9",
            "opencv-python-headless<4.13",
            "av<16,>=15",
            "jsonlines",
            "packaging<26,>=24.2",
            "pynput<1.9",
            "pyserial<4",
            "wandb<0.25,>=0.24",
            "draccus==0.10.0",
            "gymnasium<2,>=1.1.1",
            "deepdiff<9",
            "imageio[ffmpeg]<3",
            "termcolor",
            "numpy<2.4",
            "pillow",
        ],
    )


def lerobot_pusht() -> Path:
    """The same interpreter with gym-pusht, in the versions of our guest."""
    python = lerobot()
    known = subprocess.run([python, "-W", "ignore", "-c", "import gym_pusht"], capture_output=True, check=False)
    if known.returncode:
        packages = [
            "--no-deps",
            "gym-pusht==0.1.8",
            "pymunk==6.11.1",
            "pygame==2.6.1",
            "shapely==2.1.2",
            "cffi",
            "pycparser",
        ]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def minestudio() -> Path:
    """MineStudio 1.1.6: the packages that its data modules and ROCKET-1 import, without Minecraft and its simulator."""
    return environment(
        "minestudio-1.1.6",
        ["torch==2.13.0", "numpy<2.4"],
        ["--no-deps", "torchvision==0.28.0", "gym3==0.3.3", "av==13.1.0", "timm==1.0.20"],
        [
            "safetensors",
            "lmdb",
            "rich",
            "opencv-python-headless",
            "albumentations",
            "tqdm",
            "ray",
            "lightning",
            "absl-py",
            "einops",
            "gymnasium",
            "attrs",
            "huggingface_hub",
            "cffi",
            "glfw",
            "imageio",
            "hydra-core",
            "numpy<2.4",
        ],
        ["--no-deps", "gym-notices", "cloudpickle", "setuptools<66", "wheel<0.40"],
        ["--no-deps", "--no-build-isolation", "gym==0.25.2"],
        ["--no-deps", "minestudio==1.1.6"],
    )


def groot() -> tuple[Path, Path]:
    """What GR00T's data module imports, beside a CPU torch, and the checkout of GR00T (N1.6 or N1.7) that TENDON_GROOT names."""
    checkout = Path(os.environ.get("TENDON_GROOT") or "nowhere").absolute()
    if not (checkout / "gr00t/data/dataset/lerobot_episode_loader.py").is_file():
        raise Skip(
            "GR00T is in no package index: git clone https://github.com/NVIDIA/Isaac-GR00T, then TENDON_GROOT=that folder"
        )
    python = environment(
        "groot-n1.7",
        ["torch==2.13.0", "numpy<2.4"],
        ["--no-deps", "torchvision==0.28.0", "torchcodec==0.13.0"],
        ["av<17,>=15", "opencv-python-headless<4.13", "pandas<3", "pyarrow", "scipy", "tqdm", "transformers<5"],
        ["numpy<2.4", "pillow"],
    )
    return python, checkout


def readers() -> Path:
    """LitData, ArrayRecord, Lance, MosaicML Streaming and webdataset beside a CPU torch; Streaming without its clouds."""
    return environment(
        "readers",
        ["torch==2.13.0", "numpy<2.2", "webdataset==1.0.2", "litdata==0.2.76", "array_record==0.8.6"],
        ["pylance==14.0.2", "simplejpeg==1.9.0", "pillow", "boto3", "transformers<5", "xxhash<4", "brotli", "zstd"],
        ["python-snappy", "catalogue"],
        ["--no-deps", "torchvision==0.28.0", "mosaicml-streaming==0.13.0"],
    )


def ask(python: Path, script: str, *arguments: str, timeout_s: float = 900) -> dict[str, Any]:
    """Run one of the scripts beside this file in a peer's interpreter; its last line is a JSON answer."""
    done = subprocess.run(
        [python, "-W", "ignore", HERE / script, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise RuntimeError(f"{script} failed in the peer:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
