"""``make faults``, the rows of the data package: conversions that are killed or doubled, storage that lies, bits that flip."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks import line
from tests.benchmarks.rows import Skip, row

KILLS = 10
FLIPS = 30
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "*",
    "no_proxy": "*",
}


@contextmanager
def s3_server(**faults: object) -> Iterator[str]:
    """The S3 server of the tests as a process of its own; commands started meanwhile find it. Gives a prefix."""
    command = [sys.executable, "-m", "tests.s3_server", json.dumps(faults)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        before = dict(os.environ)
        os.environ.update(ENVIRONMENT | {"AWS_ENDPOINT_URL_S3": address})
        try:
            urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT")).read()
            yield "s3://bucket/store"
        finally:
            os.environ.clear()
            os.environ.update(before)
            process.kill()


def set_faults(**faults: object) -> None:
    """Change what the running server does wrong."""
    body = json.dumps(faults).encode()
    urllib.request.urlopen(f"{os.environ['AWS_ENDPOINT_URL_S3']}/_faults", body).read()


def source(cwd: Path, episodes: int = 40, length: int = 30) -> Path:
    """A file of demonstrations with two small cameras: several shards, a second or two of work."""
    from tests.conftest import make_lift_like_hdf5

    return make_lift_like_hdf5(cwd / "source.hdf5", episodes, length, images=True, size=84)


CONVERT = """
import sys
from tendon.data.convert import ConversionOptions, convert
from tendon.data.sources import open_source
if __name__ == "__main__":
    source, store, workers = sys.argv[1:4]
    convert(open_source(source), store, "demos", ConversionOptions(shard_bytes=400_000), int(workers))
"""


def start(cwd: Path, store: str, workers: int) -> subprocess.Popen[bytes]:
    """One converter, in a process group of its own."""
    script = cwd / "convert.py"
    script.write_text(CONVERT)
    command = [sys.executable, script, cwd / "source.hdf5", store, str(workers)]
    return subprocess.Popen(list(map(str, command)), start_new_session=True, stderr=subprocess.DEVNULL)


def everything(store: str) -> dict[str, bytes]:
    """Every object that a store shows."""
    from tendon.storage import open_store

    opened = open_store(store)
    return {info.key: opened.read(info.key) for info in opened.list()}


def whole(objects: dict[str, bytes]) -> dict[str, Any]:
    """The dataset in the objects: manifest, and every shard it names; nothing else counts."""
    (key,) = (key for key in objects if key.endswith("manifest.json"))
    manifest = json.loads(objects[key])
    folder = key.removesuffix("manifest.json")
    named = [shard["key"] for shard in manifest["shards"]] + [manifest["index"]["key"]]
    return {"manifest": objects[key], "shards": [objects[folder + name] for name in named]}


def kill_and_repeat(workers: int, remote: bool) -> float:
    """Share of kills after which a rerun ends with the same bytes, and before which nothing looks finished."""
    moments = random.Random(workers * 2 + remote)
    with tempfile.TemporaryDirectory() as folder, _places(remote, Path(folder)) as place:
        cwd = Path(folder)
        source(cwd)
        began = time.monotonic()
        assert start(cwd, place("whole"), 1).wait() == 0
        seconds = time.monotonic() - began
        expected = whole(everything(place("whole")))
        assert len(expected["shards"]) > 4, "several shards, so that a kill can fall between them"
        right = killed = 0
        while killed < KILLS:
            store = place(f"killed-{killed}-{random.random()}")
            process = start(cwd, store, workers)
            try:
                process.wait(moments.uniform(0.35, 0.95) * seconds)
                continue  # it was faster
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
            killed += 1
            before = everything(store)  # a manifest may be there: killed between the commit and the end of the process
            honest = not any(key.endswith("manifest.json") for key in before) or whole(before) == expected
            assert start(cwd, store, workers).wait() == 0
            after = everything(store)
            equal, clean = whole(after) == expected, _no_stranger(after)
            if not (honest and equal and clean):
                print(f"kill {killed}: before honest {honest}, after equal {equal}, no stranger {clean}")
            right += honest and equal and clean
        return right / KILLS


def _no_stranger(objects: dict[str, bytes]) -> bool:
    """Whether every shard that lies there is one that the manifest names."""
    (key,) = (key for key in objects if key.endswith("manifest.json"))
    named = {shard["key"] for shard in json.loads(objects[key])["shards"]}
    return {name.partition("shards/")[2] for name in objects if "/shards/" in name} == {
        name.partition("shards/")[2] for name in named
    }


@contextmanager
def _places(remote: bool, folder: Path) -> Iterator[Callable[[str], str]]:
    if not remote:
        yield lambda name: str(folder / "stores" / name)
        return
    with s3_server() as prefix:
        yield lambda name: f"{prefix}/{name}"


def _register_kills(workers: int, remote: bool) -> None:
    where = "s3" if remote else "local"
    what = f"share of {KILLS} SIGKILLs of {workers} worker(s) on {where}, then rerun: identical bytes, no orphan taken for data"
    row("faults", f"data-sigkill-{where}-{workers}", what, "== 1")(lambda: kill_and_repeat(workers, remote))


for _workers in (1, 3):
    for _remote in (False, True):
        _register_kills(_workers, _remote)


def _two_at_once(**faults: object) -> float:
    with tempfile.TemporaryDirectory() as folder, s3_server(**faults) as prefix:
        cwd = Path(folder)
        source(cwd, episodes=20)
        assert start(cwd, str(cwd / "alone"), 1).wait() == 0
        expected = whole(everything(str(cwd / "alone")))
        equal = 0
        for n in range(3):
            for store in (f"{prefix}/{n}", str(cwd / f"both-{n}")):
                both = [start(cwd, store, workers) for workers in (1, 2)]
                assert [each.wait() for each in both] == [0, 0]
                equal += whole(everything(store)) == expected
        return equal / 6


@row(
    "faults",
    "data-two-converters",
    "share of 6 plans (3 local, 3 S3) made by two converters at once with one result",
    "== 1",
)
def two_converters() -> float:
    """Both end well, and the bytes are those of one alone."""
    return _two_at_once()


@row("faults", "data-two-converters-deaf", "the same on a store that ignores If-None-Match", "== 1")
def two_converters_deaf() -> float:
    """The claims decide."""
    return _two_at_once(ignore_conditions=True)


@row(
    "faults",
    "data-bad-network",
    "a conversion to S3 with 5xx, cut answers, flipped bits, lost answers: share with right bytes",
    "== 1",
)
def bad_network() -> float:
    """Retries and checksums, end to end; the bytes are compared after the faults are switched off."""
    with tempfile.TemporaryDirectory() as folder, s3_server() as prefix:
        cwd = Path(folder)
        source(cwd, episodes=20)
        assert start(cwd, str(cwd / "alone"), 1).wait() == 0
        expected = whole(everything(str(cwd / "alone")))
        right = 0
        for n in range(5):
            set_faults(errors=0.05, cuts=0.05, flips=0.05, lost_answers=0.05, slow_first_byte=0.02, slow_s=0.3, seed=n)
            ended = start(cwd, f"{prefix}/{n}", 2).wait()
            set_faults()
            right += ended == 0 and whole(everything(f"{prefix}/{n}")) == expected
        return right / 5


@row(
    "faults",
    "data-bit-flips",
    f"share of {FLIPS} flipped bits, cuts and lost shards that --verify and the reader both name",
    "== 1",
)
def bit_flips() -> float:
    """Shard, member, offset and episode of a damage at a random place; a reader of everything meets it too."""
    from tendon.data.dataset import open_dataset
    from tendon.data.verify import find_damage
    from tendon.errors import DataError

    chosen = random.Random(5)
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        source(cwd, episodes=20)
        assert start(cwd, str(cwd / "store"), 1).wait() == 0
        (uri,) = (cwd / "store" / "datasets" / "demos").iterdir()
        named = 0
        for n in range(FLIPS):
            shutil.rmtree(cwd / "copy", ignore_errors=True)
            shutil.copytree(uri, cwd / "copy")
            dataset = open_dataset(str(cwd / "copy"))
            shard = chosen.choice(dataset.manifest.shards)
            path = cwd / "copy" / shard.key
            content = bytearray(path.read_bytes())
            row_of = chosen.choice(
                [each for each in dataset.rows if shard.key == dataset.manifest.shards[each.shard].key]
            )
            member = chosen.choice(["lowdim.npy", "agentview_image.mjpeg"])
            offset, size = (dataset.table.column(f"{member}/{key}")[row_of.index].as_py() for key in ("offset", "size"))
            at = offset + chosen.randrange(size)
            kind = ("flip", "cut", "gone")[n % 3]
            if kind == "flip":
                content[at] ^= 1 << chosen.randrange(8)
                path.write_bytes(content)
            elif kind == "cut":
                path.write_bytes(content[:at])
            else:
                path.unlink()
            found = "\n".join(problem.where for problem in find_damage(dataset))
            says = [shard.key] if kind == "gone" else [shard.key, member, f"offset {offset},", row_of.episode_id]
            try:
                fresh = open_dataset(str(cwd / "copy"))
                fresh.lowdim(row_of) if member == "lowdim.npy" else fresh.jpegs(
                    row_of, "observation.images.agentview_image"
                )
                said = ""
            except DataError as error:
                said = error.problems[0].where
            named += all(part in found and part in said for part in says)
        return named / FLIPS


@row(
    "faults", "s3-accept-and-hang", "seconds until a store that takes requests and never answers is reported", "<= 70 s"
)
def accept_and_hang() -> float:
    """A hang is an error with four lines, in bounded time."""
    with tempfile.TemporaryDirectory() as folder, s3_server() as prefix:
        cwd = Path(folder)
        source(cwd, episodes=2)
        set_faults(silent=True)
        began = time.monotonic()
        done = subprocess.run(
            [*line.TENDON, "convert", "--source-uri", "source.hdf5", "--store-uri", prefix],
            cwd=cwd, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 4, done.stderr
        assert "does not answer" in done.stderr, done.stderr
        return time.monotonic() - began


@row(
    "faults",
    "data-malicious-pickle",
    "share of 9 MineStudio folders with a pickle that calls something: refused by name, nothing executed, nothing written",
    "== 1",
)
def malicious_pickle() -> float:
    """Three programs, each in three modalities, through the command line."""
    import pickle

    try:
        import lmdb  # noqa: F401
    except ImportError:
        raise Skip("lmdb is not installed: pip install 'tendon[minestudio]'") from None
    import numpy as np

    from tests.data import test_minestudio as mine

    wraps: dict[str, Callable[[Any], Any]] = {
        "action": lambda bad: {"attack": np.zeros(mine.SIZE), "camera": bad},
        "segmentation": lambda bad: [{(1, 2): bad}] * mine.SIZE,
        "meta_info": lambda bad: [{"yaw": 0.0, "inventory": bad}] * mine.SIZE,
    }
    harmless = total = 0
    for kind in (mine.Malicious, mine.MaliciousEval, mine.MaliciousScalar):
        for modality, wrap in wraps.items():
            with tempfile.TemporaryDirectory() as folder:
                cwd, mark = Path(folder), Path(folder) / "executed"
                mine.put(mine.make_folder(cwd / "data") / modality / "part-3", "(2, 0)", pickle.dumps(wrap(kind(mark))))
                mine.close_all()
                done = subprocess.run(
                    [*line.TENDON, "convert", "--source-uri", "data", "--store-uri", "store"],
                    cwd=cwd, capture_output=True, text=True, check=False,
                )  # fmt: skip
                made = list(cwd.glob("store/**/manifest.json"))
                right = done.returncode == 3 and "refused" in done.stderr and not mark.exists() and not made
                if not right:
                    print(f"{kind.__name__} in {modality}: exit {done.returncode}\n{done.stderr[-800:]}")
                total, harmless = total + 1, harmless + right
    return harmless / total
