"""``make bench`` of the loader: images and video, beside the decoders alone and the peers that install."""

from __future__ import annotations

import functools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import open_dataset
from tendon.data.plan import ConversionOptions
from tendon.data.sources import open_source
from tendon.data.video import encode_chunks
from tendon.loader import Loader, LoaderResources, SamplingOrder, Windows
from tests.benchmarks import peers
from tests.benchmarks.loader_sets import MIB, ROUNDS, coded, folder, lift, per_cpu_s, ratio, robomimic_rate, taking
from tests.benchmarks.rows import Skip, row
from tests.loader.coded import JPEG, VIDEO, coded_frames

# ----------------------------------------------------------------------------------------------------- 4, 5, 6: images


def _jpegs(size: int, batch_size: int = 64) -> tuple[Loader, list[bytes]]:
    dataset = coded(episodes=24, length=40, size=size, codecs=("jpeg",), noise=12)
    loader = Loader(
        dataset, "all", {JPEG: (0,)}, batch_size, 1, resources=LoaderResources(tier="window", threads=1, ahead=0)
    )
    for _ in range(20):
        next(loader)
    return loader, [frame for each in dataset.rows for frame in dataset.jpegs(each, JPEG)]


def _jpeg_bound(size: int, batch_size: int) -> float:
    """Beside nothing but decoding the same frames, in any order, into an array of a batch."""
    import simplejpeg

    loader, frames = _jpegs(size, batch_size)
    out, chance = np.empty((batch_size, size, size, 3), np.uint8), np.random.default_rng(0)

    def bound() -> int:
        for i, k in enumerate(chance.permutation(len(frames))[:256].tolist()):
            simplejpeg.decode_jpeg(frames[k], "RGB", fastdct=False, fastupsample=False, buffer=out[i % batch_size])
        return 256

    return ratio(taking(loader, 1024 // batch_size), bound)


@row("bench", "loader-4-jpeg-84", "JPEG batches of 256 of 84 px beside nothing but decoding", ">= 0.92 x")
def jpeg_84() -> float:
    """One frame per window."""
    return _jpeg_bound(84, 256)


@row("bench", "loader-4-jpeg-84-small", "the same in batches of 64", ">= 0.8 x")
def jpeg_84_small() -> float:
    """What a batch costs is shared by fewer frames."""
    return _jpeg_bound(84, 64)


@row("bench", "loader-4-jpeg-224", "JPEG batches of 64 of 224 px beside nothing but decoding", ">= 0.92 x")
def jpeg_224() -> float:
    """One frame per window."""
    return _jpeg_bound(224, 64)


@functools.cache
def _torch_loaders() -> dict[str, float]:
    loader, frames = _jpegs(84)
    root = Path(folder().name)
    flat = np.frombuffer(b"".join(frames), np.uint8)
    np.savez(root / "jpegs.npz", flat=flat, sizes=np.array([len(each) for each in frames]))
    ratios: dict[str, list[float]] = {"dataloader": [], "webloader": []}
    for _ in range(ROUNDS):  # in turns: on a busy machine a second of CPU time is worth more or less
        answer = peers.ask(peers.readers(), "jpegs.py", str(root / "jpegs.npz"), str(root))
        ours = per_cpu_s(taking(loader, 4), 1.0)
        print(f"  ours {ours:.4g}, {answer}", file=sys.stderr)
        for name, rates in ratios.items():
            rates.append(ours / float(answer[name]))
    return {name: statistics.median(rates) for name, rates in ratios.items()}


@row(
    "bench",
    "loader-4-dataloader",
    "JPEG batches of 64 of 84 px beside torch's DataLoader, same decoder, two workers",
    ">= 1.9 x",
)
def beside_dataloader() -> float:
    """Two workers; CPU time of all processes."""
    return _torch_loaders()["dataloader"]


@row("bench", "loader-4-webloader", "JPEG batches of 64 of 84 px beside WebLoader with PIL, two workers", ">= 3 x")
def beside_webloader() -> float:
    """Two workers, tar samples."""
    return _torch_loaders()["webloader"]


def _images(tier: str, frame_stack: int, seq_length: int, lanes: int) -> float:
    """Windows as robomimic's: frame_stack - 1 + seq_length frames of two cameras; here the frames the policy needs."""
    path, dataset = lift(images=True, episodes=40, length=100)
    cameras = ["agentview_image", "robot0_eye_in_hand_image"]
    observed = (
        tuple(range(1 - frame_stack, 1)) if seq_length > frame_stack else tuple(range(1 - frame_stack, seq_length))
    )
    acted = tuple(range(1 - frame_stack, seq_length))
    deltas = {f"observation.images.{camera}": observed for camera in cameras}
    deltas |= {"observation.robot0_eef_pos": observed, "action": acted}
    resources = LoaderResources(
        tier=tier, threads=1, ahead=0, memory_budget=(1024 if tier == "resident" else 300) * MIB
    )  # type: ignore[arg-type]

    def opened() -> Loader:
        ordering = SamplingOrder(lanes=lanes, block=4, unit_bytes=1)
        return Loader(dataset, "all", deltas, 64, 1, ordering=ordering, resources=resources)

    loader = opened()
    per_epoch = loader.num_windows // 64
    while tier == "resident" and not loader.maker._opened_cache().ready:  # later epochs
        next(loader)
    keys = [*cameras, "robot0_eef_pos"]
    rates = []
    for _ in range(3):
        theirs = robomimic_rate("low_dim", frame_stack, seq_length, keys, path)
        loader = loader if tier == "resident" else opened()  # a first epoch is one that begins with nothing
        began, count = time.process_time(), 0
        for _ in range(per_epoch):
            next(loader)
            count += 64
        rates.append((count / (time.process_time() - began), theirs))
    ours, theirs = (statistics.median(each) for each in zip(*rates, strict=True))
    print(f"  {ours:.4g} / {theirs:.4g} per CPU second", file=sys.stderr)
    return ours / theirs


@row(
    "bench",
    "loader-5-first-16-2",
    "image windows, first epoch: 2 frames and 16 actions, beside robomimic's HDF5",
    ">= 8 x",
)
def images_first_16_2() -> float:
    """Every frame decoded once per epoch; robomimic loads all 17 frames of an item."""
    return _images("block", 2, 16, 4)


@row("bench", "loader-5-first-10-10", "image windows, first epoch: 10 frames, beside robomimic's HDF5", ">= 3 x")
def images_first_10_10() -> float:
    """Every frame decoded once per epoch."""
    return _images("block", 1, 10, 4)


@row(
    "bench",
    "loader-5-later-16-2",
    "image windows, later epochs: 2 frames and 16 actions, beside robomimic's HDF5",
    ">= 60 x",
)
def images_later_16_2() -> float:
    """Frames stay decoded."""
    return _images("resident", 2, 16, 1)


@row("bench", "loader-5-later-10-10", "image windows, later epochs: 10 frames, beside robomimic's HDF5", ">= 12 x")
def images_later_10_10() -> float:
    """Frames stay decoded."""
    return _images("resident", 1, 10, 1)


@functools.cache
def _video() -> dict[str, float]:
    """Frames per CPU second: ours, MineStudio's on the same frames in its chunks, torchcodec on ours end to end."""
    dataset = coded(episodes=32, length=254, size=224, codecs=("video",), noise=1, chunk=128)
    loader = Loader(
        dataset, "all", Windows.of({VIDEO: tuple(range(128))}, stride=128), 4, 1, ordering=SamplingOrder("slots"),
        resources=LoaderResources(threads=1, ahead=0, memory_budget=400 * MIB),  # of 1230 MB of frames
    )  # fmt: skip
    root = Path(folder().name)
    for name, chunk in (("short", 32), ("long", 256)):
        (root / name).mkdir()
        for i in range(4):
            for each in encode_chunks(coded_frames(i, 256, 224, 1), 10, chunk):
                (root / name / f"{i:02d}-{each.first_frame:04d}.mp4").write_bytes(each.content)

    def ours() -> int:
        next(loader)
        return 4 * 128

    per_cpu_s(ours, 1.0)
    taken: dict[str, list[float]] = {"ours": []}
    for _ in range(ROUNDS):  # in turns: on a busy machine a second of CPU time is worth more or less
        taken["ours"].append(per_cpu_s(ours, 8.0))  # two epochs or more
        for name, python, script, part in (
            ("minestudio", peers.minestudio, "minestudio_merge.py", "short"),
            ("torchcodec", peers.lerobot, "torchcodec_rate.py", "long"),
        ):
            try:
                answer = peers.ask(python(), script, str(root / part))
                taken.setdefault(name, []).append(float(answer["per_cpu_s"]))
            except Skip as reason:
                print(f"  {reason}", file=sys.stderr)
    rates = {name: statistics.median(each) for name, each in taken.items()}
    print(f"  {taken}", file=sys.stderr)
    return rates


def _beside_video(name: str) -> float:
    rates = _video()
    if name not in rates:
        raise Skip(f"{name} is not installed")
    return rates["ours"] / rates[name]


@row("bench", "loader-6-minestudio", "frames of mp4 windows of 128 beside MineStudio's do_merge", ">= 2.7 x")
def video_beside_minestudio() -> float:
    """Windows side by side; our chunks are as long as a window, theirs 32 frames."""
    return _beside_video("minestudio")


@row("bench", "loader-6-torchcodec", "frames of mp4 windows of 128 beside torchcodec on whole chunks", ">= 0.85 x")
def video_beside_torchcodec() -> float:
    """Sequential decoding with nothing around it."""
    return _beside_video("torchcodec")


@row(
    "bench",
    "loader-7-lerobot",
    "observations of 2 frames of 2 cameras of 640x480, kept at 224, beside LeRobot's reader of AV1 by torchcodec",
    ">= 10 x",
)
def beside_lerobot() -> float:
    """Both in random order; its items hold full frames, ours what a policy at 224 px reads."""
    root = Path(folder().name) / "lerobot"
    peers.ask(peers.lerobot(), "lerobot_data.py", "make", str(root), "large", "60", "50", "40")
    times = {f"observation.images.{camera}": [-0.1, 0.0] for camera in ("Top", "wrist")}
    theirs = float(peers.ask(peers.lerobot(), "lerobot_windows.py", "rate", str(root), json.dumps(times))["per_cpu_s"])
    options = ConversionOptions(resize=(224, 224), codec="mjpeg")
    manifest = convert(open_source(str(root)), folder().name, "small", options)
    dataset = open_dataset(dataset_uri(folder().name, "small", manifest.plan))
    cameras = [camera.name for camera in dataset.manifest.schema.cameras]
    resources = LoaderResources(tier="window", threads=1, ahead=0)
    loader = Loader(dataset, "all", dict.fromkeys(cameras, (-1, 0)), 16, 1, resources=resources)
    next(loader)
    ours = statistics.median(per_cpu_s(taking(loader, 2)) for _ in range(ROUNDS))
    print(f"  {ours:.4g} / {theirs:.4g} per CPU second", file=sys.stderr)
    return ours / theirs


@row("bench", "loader-24-gpu", "share of its time that a training loop at 224 px on a GPU waits for data", "<= 0.02")
def gpu_feed() -> float:
    """Batches of 8 with two cameras, a step as long as a ResNet-18 with its gradient."""
    import torch

    if not torch.cuda.is_available():
        raise Skip("there is no GPU")
    return _wait_share(torch.device("cuda"))


def _wait_share(device: Any, steps: int = 300) -> float:
    import torch

    dataset = coded(episodes=24, length=40, size=224, codecs=("jpeg",), noise=12)
    loader = Loader(dataset, "all", {JPEG: (-1, 0)}, 32, 1, resources=LoaderResources(threads=8))
    width, layers = 256, [torch.nn.Conv2d(3, 256, 7, 4), torch.nn.ReLU()]
    for _ in range(8):
        layers += [torch.nn.Conv2d(width, width, 3, 1, 1), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers).to(device)
    for i in range(steps):
        if i == steps // 10:  # what is warm counts
            loader.meter.restart()
        frames = torch.from_numpy(next(loader)[JPEG]).to(device, non_blocking=True).flatten(0, 1)
        network(frames.permute(0, 3, 1, 2).float() / 255).square().mean().backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize()
    loader.close()
    return loader.meter.share
