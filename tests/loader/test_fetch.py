"""Reading over a network that fails, and the cache on a disk."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tendon.data.dataset import Dataset, open_dataset
from tendon.errors import DataError, StorageError
from tendon.loader import Loader, LoaderResources, SamplingOrder
from tendon.loader import fetch as fetch_module
from tendon.loader.cache import BLOCK, CachedBytes
from tendon.loader.fetch import HttpBytes, LocalBytes, StoreBytes, open_bytes
from tendon.storage import open_store
from tests.loader.coded import JPEG, STATE, Coded, coded_dataset
from tests.loader.slow_store import Trouble, counts, slow_store
from tests.loader.test_path import digest

DELTAS = {STATE: (-1, 0), JPEG: (-1, 0)}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return coded_dataset(tmp_path_factory.mktemp("store"), Coded(episodes=12, codecs=("jpeg",)))


def remote(local: Dataset, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    return open_dataset("s3://bucket/dataset")


def root_of(local: Dataset, tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir(exist_ok=True)
    (tmp_path / "root" / "dataset").symlink_to(local.uri)
    return tmp_path / "root"


def test_every_way_of_reading_gives_the_same_bytes(
    local: Dataset, tmp_path: Path, s3_environment: pytest.MonkeyPatch
) -> None:
    key = local.manifest.shards[0].key
    whole = local.store.read(key)
    with slow_store(root_of(local, tmp_path)) as (endpoint, _):
        far = remote(local, endpoint, s3_environment)
        ways = [LocalBytes(local.store), HttpBytes(far.store), StoreBytes(far.store)]  # type: ignore[arg-type]
        assert [type(open_bytes(each.store)) for each in (local, far)] == [LocalBytes, HttpBytes]
        for way in ways:
            for start, size in ((0, 1), (513, 5000), (len(whole) - 10, 10)):
                buffer = bytearray(size)
                way.read_into(key, start, memoryview(buffer))
                assert buffer == whole[start : start + size]
            with pytest.raises(DataError):
                way.read_into("shards/absent.tar", 0, memoryview(bytearray(4)))
            with pytest.raises(DataError, match="shorter"):
                way.read_into(key, len(whole) + 5, memoryview(bytearray(4)))


def test_a_faulty_network_gives_the_same_stream(
    local: Dataset, tmp_path: Path, s3_environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "BACKOFF_S", (0.001, 0.01))
    asked = {
        "split": "all",
        "windows": DELTAS,
        "batch_size": 6,
        "seed": 5,
        "ordering": SamplingOrder(lanes=2, block=2, unit_bytes=1),
    }
    plain = Loader(local, **asked)  # type: ignore[arg-type]
    trouble = Trouble(refused=0.1, cut=0.1, flipped=0.1, slow=0.1, slow_s=0.3, twice=False)
    with slow_store(root_of(local, tmp_path), trouble) as (endpoint, pipe):
        far = remote(local, endpoint, s3_environment)
        resources = LoaderResources(tier="window", memory_budget=160_000, fetches=4)
        loader = Loader(far, **asked, resources=resources)  # type: ignore[arg-type]
        source = loader.maker._opened_cache()._source
        assert isinstance(source, HttpBytes)
        stream = [next(loader) for _ in range(200)]
        done = counts(pipe)
        loader.close()
    assert all(done[name] > 0 for name in ("refused", "cut", "flipped", "slow"))
    assert source.counters.retries > 0
    assert [digest(batch) for batch in stream] == [digest(plain.batch(k)) for k in range(200)]


def test_a_break_resumes_at_the_received_byte(tmp_path: Path, s3_environment: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").mkdir()
    content = os.urandom(3 << 20)
    (tmp_path / "x" / "a.tar").write_bytes(content)
    with slow_store(tmp_path, Trouble(cut=0.5, seed=1)) as (endpoint, _):
        s3_environment.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        source = HttpBytes(open_store("s3://bucket/x"))  # type: ignore[arg-type]
        buffer = bytearray(len(content))
        for _ in range(4):
            source.read_into("a.tar", 0, memoryview(buffer))
            assert buffer == content
        assert source.counters.retries
        (tmp_path / "x" / "a.tar").write_bytes(content[:-1] + b"?")
        with pytest.raises(DataError, match="was replaced"):  # noqa: PT012
            for _ in range(9):
                source.read_into("a.tar", 0, memoryview(buffer))


def test_a_slow_answer_is_asked_for_again(tmp_path: Path, s3_environment: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.tar").write_bytes(os.urandom(1 << 16))
    with slow_store(tmp_path, Trouble(slow=0.03, slow_s=2.0, seed=3)) as (endpoint, pipe):
        s3_environment.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        source = HttpBytes(open_store("s3://bucket/x"))  # type: ignore[arg-type]
        buffer = memoryview(bytearray(100))
        for _ in range(fetch_module.HEDGE_AFTER):
            source.read_into("a.tar", 0, buffer)
        source.counters.first_byte_s.extend([0.005] * 200)
        before = counts(pipe)["slow"]
        longest = 0.0
        for n in range(120):
            began = time.monotonic()
            source.read_into("a.tar", n, buffer)
            longest = max(longest, time.monotonic() - began)
        assert counts(pipe)["slow"] > before
        assert source.counters.hedges
        assert longest < 1.5


def test_a_store_that_stays_away(
    local: Dataset, s3_environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "BACKOFF_S", (0.001, 0.002))
    s3_environment.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    source = HttpBytes(open_store("s3://bucket/x"))  # type: ignore[arg-type]
    with pytest.raises(StorageError, match="tried 5 times"):
        source.read_into("a.tar", 0, memoryview(bytearray(4)))


def test_the_index_is_waited_for_while_connections_are_opened(
    local: Dataset, tmp_path: Path, s3_environment: pytest.MonkeyPatch
) -> None:
    """No more of them than a first batch can use; one that fails is opened again by the first read."""
    threads: list[str] = []

    def connect(source: HttpBytes, key: str) -> None:
        threads.append(threading.current_thread().name)
        raise OSError("no route")

    s3_environment.setattr(HttpBytes, "connect", connect)
    resources = LoaderResources(fetches=4)
    with slow_store(root_of(local, tmp_path), Trouble(latency_s=0.05)) as (endpoint, _):
        dataset = remote(local, endpoint, s3_environment)
        loader = Loader(dataset, "all", DELTAS, 3, 1, resources=resources)
        while len(threads) < 3:
            time.sleep(0.01)
        assert digest(next(loader)) == digest(Loader(local, "all", DELTAS, 3, 1).batch(0))
        Loader(dataset, "all", DELTAS, 3, 1, resources=resources)  # the index is known
        loader.close()
    assert len(threads) == len(set(threads)) == 3


class Counted:
    """A source that counts."""

    waits = True

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents, self.read = contents, 0
        self._lock = threading.Lock()

    def read_into(self, key: str, start: int, view: memoryview, *, fresh: bool = False) -> None:
        with self._lock:
            self.read += len(view)
        view[:] = self.contents[key][start : start + len(view)]


def test_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    contents = {"shards/a.tar": os.urandom(2 * BLOCK + 1000), "shards/b.tar": os.urandom(500)}
    source, sizes = Counted(contents), {key: len(value) for key, value in contents.items()}

    def same(cache: CachedBytes, key: str, start: int, size: int, fresh: bool = False) -> bool:
        buffer = bytearray(size)
        cache.read_into(key, start, memoryview(buffer), fresh=fresh)
        return buffer == contents[key][start : start + size]

    cache = CachedBytes(source, tmp_path / "c", 10 * BLOCK, sizes)
    for _ in range(2):
        assert same(cache, "shards/a.tar", BLOCK - 10, BLOCK + 20)
        assert same(cache, "shards/b.tar", 3, 400)
    read = source.read
    assert read == sum(sizes.values())
    again = CachedBytes(source, tmp_path / "c", 10 * BLOCK, sizes)  # another process, or the next run
    assert same(again, "shards/a.tar", 0, 2 * BLOCK + 1000)
    assert source.read == read
    block = next((tmp_path / "c").glob("a.tar/000000"))
    block.write_bytes(b"?" * BLOCK)  # a damaged block is passed over when asked to
    assert not same(again, "shards/a.tar", 0, 10)
    assert same(again, "shards/a.tar", 0, 10, fresh=True)
    assert same(again, "shards/a.tar", 0, 10)

    small = CachedBytes(source, tmp_path / "d", 2 * BLOCK, sizes)
    uses = {("shards/a.tar", 0): 5.0, ("shards/a.tar", 1): 9.0, ("shards/a.tar", 2): 7.0}
    small.next_use = lambda names: [uses[name] for name in names]
    assert all(same(small, "shards/a.tar", n * BLOCK, 10) for n in (0, 1, 2))
    assert sorted(path.name for path in (tmp_path / "d").glob("*/*")) == ["000000", "000002"]  # 1 is needed last
    assert same(small, "shards/a.tar", BLOCK, 10)
    assert sorted(path.name for path in (tmp_path / "d").glob("*/*")) == ["000000", "000002"]

    (tmp_path / "e").write_text("a file where the folder should be")
    broken = CachedBytes(source, tmp_path / "e", 10 * BLOCK, sizes)
    assert same(broken, "shards/a.tar", 0, 10)
    assert same(broken, "shards/b.tar", 0, 10)
    assert caplog.text.count("is not used any more") == 1


SHARING = """
import sys, threading, time
from pathlib import Path
from tendon.loader.cache import BLOCK, CachedBytes
from tests.loader.test_fetch import Counted

folder, blocks = Path(sys.argv[1]), int(sys.argv[2])
key = "shards/a.tar"
content = b"".join(bytes([n]) * BLOCK for n in range(6))

class Slow(Counted):
    def read_into(self, *arguments, **options):
        time.sleep(0.05)
        super().read_into(*arguments, **options)

source = Slow({key: content})
while not (folder / "go").exists():
    time.sleep(0.002)
cache = CachedBytes(source, folder / "cache", blocks * BLOCK, {key: len(content)})
cache.next_use = lambda names: [float(name[1]) for name in names]
for n in [0, 1, 2, 3, 4, 5] * 3:
    buffer = bytearray(100)
    cache.read_into(key, n * BLOCK + 7, memoryview(buffer))
    assert buffer == bytes([n]) * 100
    held = sum(path.stat().st_size for path in (folder / "cache").glob("*/[0-9]*"))
    assert held <= blocks * BLOCK, held
print(source.read // BLOCK)
"""


@pytest.mark.parametrize(("blocks", "fetched"), [(6, 6), (3, None)])
def test_processes_share_a_cache(tmp_path: Path, blocks: int, fetched: int | None) -> None:
    command = [sys.executable, "-c", SHARING, str(tmp_path), str(blocks)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    (tmp_path / "go").touch()
    read = [int(process.communicate(timeout=60)[0]) for process in processes]
    if fetched is not None:  # each block by one of them
        assert sum(read) == fetched
    left = [path.name for path in (tmp_path / "cache" / "a.tar").iterdir()]
    assert len(left) == blocks
    assert not any(name.startswith(".") for name in left)
    assert (tmp_path / "cache" / ".bytes").read_text() == str(blocks * BLOCK)


def test_the_second_epoch_does_not_touch_the_store(
    local: Dataset, tmp_path: Path, s3_environment: pytest.MonkeyPatch
) -> None:
    asked = {
        "split": "all",
        "windows": DELTAS,
        "batch_size": 8,
        "seed": 5,
        "ordering": SamplingOrder(lanes=2, block=1, unit_bytes=1),
    }
    with slow_store(root_of(local, tmp_path)) as (endpoint, pipe):
        far = remote(local, endpoint, s3_environment)
        resources = LoaderResources(tier="window", memory_budget=160_000, cache=tmp_path / "cache", ahead=0)
        loader = Loader(far, **asked, resources=resources)  # type: ignore[arg-type]
        epoch = loader.num_windows // 8 + 1
        first = [digest(next(loader)) for _ in range(epoch)]
        seen = counts(pipe)["requests"]
        for _ in range(2 * epoch):
            next(loader)
        assert counts(pipe)["requests"] == seen
        loader.close()
    plain = Loader(local, **asked)  # type: ignore[arg-type]
    assert first == [digest(plain.batch(k)) for k in range(epoch)]
