"""Mutated files through every reader: whatever happens has a name, and memory stays bounded.

``fuzz(reader, seconds, seed)`` counts. It begins with the files of ``corpus/`` and mutates them and a file made anew;
``python -m tests.security.fuzz`` makes the corpus of readers that have none, and adds a file that is named behind the
reader: one that brought it down, or went where none went before.
"""

from __future__ import annotations

import io
import random
import resource
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tendon.data.sources import open_source
from tendon.data.sources.first_look import described, run_in_child
from tendon.data.sources.source import Source
from tendon.errors import TendonError

GROWTH_BYTES = 512 << 20
CORPUS = Path(__file__).parent / "corpus"
FIRST_FILES = 7  # of a corpus: the file itself, and as many that are damaged


@dataclass
class Result:
    """What happened to mutated files; ``unnamed`` should stay empty."""

    tries: int = 0
    read: int = 0
    named: int = 0
    unnamed: list[str] = field(default_factory=list)
    growth_bytes: int = 0


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One to four changes: bits, cuts, zeros, numbers at their limits, a part twice."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(len(data), 1))
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at : at + rng.choice([1, 4, 64, 512])] = bytes(rng.choice([1, 4, 64, 512]))
        elif kind == 3:
            data[at : at + 8] = rng.choice([0xFFFFFFFFFFFFFFFF, 0x7FFFFFFF, 1 << 40, 0]).to_bytes(
                8, rng.choice(["little", "big"])
            )
        elif kind == 4:
            data[at:at] = data[at : at + rng.randrange(1, 256)]
        else:
            data[at : at + 16] = rng.randbytes(16)
    return bytes(data)


def _all(source: Source):  # type: ignore[no-untyped-def]
    for info in source.describe().episodes:
        if not info.problems:
            episode = source.read(info.episode_id)
            for camera in episode.images:
                yield len(episode.images[camera])


def _read_source(path: Path, name: str) -> None:
    source = open_source(str(path), name)
    described(source, seconds=20, memory_bytes=1 << 30)
    for _ in run_in_child(_all, (source,), source, seconds=20, memory_bytes=1 << 30):
        pass


def _hdf5(folder: Path) -> tuple[Path, Path]:
    from tests.conftest import make_lift_like_hdf5

    path = make_lift_like_hdf5(folder / "lift.hdf5", episodes=2, length=4, images=True, size=8)
    return path, path


def _lerobot(folder: Path, key: str, version: str = "v2.1") -> tuple[Path, Path]:
    from tests.data import lerobot_sets

    root = lerobot_sets.make(folder / "set", version, lengths=(6, 7, 5))
    return root, next(iter(sorted(root.glob(key))))


def _lmdb(folder: Path) -> tuple[Path, Path]:
    from tests.data.test_minestudio import close_all, make_folder

    root = make_folder(folder / "mine")
    close_all()
    return root, root / "action/part-3/data.mdb"


def _dataset(folder: Path, key: str) -> tuple[Path, Path]:
    from tendon.data.convert import convert
    from tests.conftest import make_lift_like_hdf5

    source = make_lift_like_hdf5(folder / "lift.hdf5", episodes=2, length=4, images=True, size=8)
    convert(open_source(str(source)), str(folder / "store"), "lift")
    (root,) = (folder / "store/datasets/lift").iterdir()
    return root, next(iter(sorted(root.glob(key))))


def _read_dataset(path: Path) -> None:
    from tendon.data.dataset import open_dataset
    from tendon.data.verify import find_damage

    dataset = open_dataset(str(path))
    list(find_damage(dataset))
    for row in dataset.rows:
        dataset.lowdim(row)
        dataset.extras(row)
        for camera in dataset.schema.cameras:
            dataset.jpegs(row, camera.name)


def _read_tar(path: Path) -> None:
    from tendon.data.tario import read_samples

    (shard,) = path.glob("shards/*.tar")
    list(read_samples(shard.read_bytes(), str(shard)))


READERS: dict[str, tuple[Callable[[Path], tuple[Path, Path]], Callable[[Path], None]]] = {
    "hdf5": (_hdf5, lambda path: _read_source(path, "robomimic")),
    "parquet": (lambda folder: _lerobot(folder, "data/*/*.parquet"), lambda path: _read_source(path, "lerobot")),
    "mp4": (lambda folder: _lerobot(folder, "videos/*/*/*.mp4"), lambda path: _read_source(path, "lerobot")),
    "json": (lambda folder: _lerobot(folder, "meta/info.json"), lambda path: _read_source(path, "lerobot")),
    "episodes": (lambda folder: _lerobot(folder, "meta/episodes/*/*", "v3.0"), lambda path: _read_source(path, "lerobot")),
    "lmdb": (_lmdb, lambda path: _read_source(path, "minestudio")),
    "tar": (lambda folder: _dataset(folder, "shards/*.tar"), _read_tar),
    "shard": (lambda folder: _dataset(folder, "shards/*.tar"), _read_dataset),
    "index": (lambda folder: _dataset(folder, "index/*"), _read_dataset),
    "manifest": (lambda folder: _dataset(folder, "manifest.json"), _read_dataset),
}  # fmt: skip


def fuzz(reader: str, seconds: float, seed: int) -> Result:
    """Mutate and read for some seconds."""
    make, read = READERS[reader]
    rng, result = random.Random(f"{reader} {seed}"), Result()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        root, victim = make(Path(folder))
        kept = list(corpus(reader).values())
        rng.shuffle(kept)
        contents = [victim.read_bytes(), *kept]
        ends = time.monotonic() + seconds
        while time.monotonic() < ends or not result.tries:
            result.tries += 1
            changed = kept.pop() if kept else mutated(rng.choice(contents), rng)
            victim.unlink()
            victim.write_bytes(changed)
            try:
                read(root)
                result.read += 1
            except TendonError:
                result.named += 1
            except Exception as error:
                bad = Path(tempfile.gettempdir()) / f"fuzz-{reader}-{seed}-{result.tries}"
                shutil.copy(victim, bad)
                result.unnamed.append(f"{type(error).__name__}: {error} ({bad})"[:300])
    result.growth_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    return result


def corpus(reader: str) -> dict[str, bytes]:
    """The files that the repository keeps for a reader."""
    path = CORPUS / f"{reader}.tar.xz"
    if not path.exists():
        return {}
    with tarfile.open(path) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive.getmembers()}  # type: ignore[union-attr]


def keep(reader: str, files: dict[str, bytes]) -> None:
    """Write a corpus: of files that are alike, xz stores one."""
    CORPUS.mkdir(exist_ok=True)
    with tarfile.open(CORPUS / f"{reader}.tar.xz", "w:xz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def first_files(reader: str) -> dict[str, bytes]:
    """A corpus that is new."""
    with tempfile.TemporaryDirectory() as folder:
        _, victim = READERS[reader][0](Path(folder))
        content = victim.read_bytes()
    rng = random.Random(f"{reader} corpus")
    return {"whole": content} | {f"damaged-{k}": mutated(content, rng) for k in range(FIRST_FILES)}


def main(words: list[str]) -> None:
    """Make or add to the corpus."""
    for reader in words[:1] or [each for each in READERS if not corpus(each)]:
        added = {f"added-{len(corpus(reader))}": Path(words[1]).read_bytes()} if len(words) > 1 else {}
        keep(reader, (corpus(reader) or first_files(reader)) | added)


if __name__ == "__main__":
    main(sys.argv[1:])
