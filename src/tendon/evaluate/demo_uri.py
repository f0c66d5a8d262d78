"""``demo://lift?episodes=200&seed=1``: a source of demonstrations that the environment's scripted expert makes.

Read by steps.plan (its digest decides whether anything changed) and steps.convert (which records it once, into the store).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from tendon.config.compose import compose
from tendon.config.digest import code_version, digest
from tendon.config.schema import EnvConfig
from tendon.errors import ConfigError, DataError
from tendon.storage import open_store

if TYPE_CHECKING:
    from tendon.data.sources import Source

SCHEME = "demo://"
DEFAULT_NOISE = 0.05  # of the executed actions, so that a policy sees how to come back


@dataclass(frozen=True)
class DemoSource:
    """Which expert, how many episodes, from which seed, how noisy, with pictures or without."""

    env: EnvConfig
    episodes: int
    seed: int
    noise: float
    images: bool

    @property
    def digest(self) -> str:
        """Changes when the demonstrations would."""
        asked = asdict(self) | {"env": self.env.identity}
        return digest("demonstrations", asked, code_version("sim"))

    @property
    def key(self) -> str:
        """Where the recorded file lies, relative to the store."""
        return f"demos/{self.env.name}-{self.digest}.hdf5"


def is_demo(uri: str) -> bool:
    """Whether the source is made by a scripted expert."""
    return uri.startswith(SCHEME)


def parse_demo(uri: str) -> DemoSource:
    """The parts of a ``demo://`` URI; unknown parts are an error."""
    parts = urlsplit(uri)
    query = dict(parse_qsl(parts.query))
    unknown = sorted(set(query) - {"episodes", "seed", "noise", "images"})
    try:
        if unknown:
            raise ValueError(f"it has no option {unknown[0]!r}")
        source = DemoSource(
            env=compose([f"env={parts.netloc or parts.path}", "data.uri=unused"]).env,
            episodes=int(query.get("episodes", "100")),
            seed=int(query.get("seed", "1")),
            noise=float(query.get("noise", DEFAULT_NOISE)),
            images=query.get("images", "0") in ("1", "true"),
        )
        if source.episodes < 1:
            raise ValueError("episodes must be at least 1")
    except ValueError as error:
        raise ConfigError(
            "the demonstration source cannot be read",
            where=uri,
            why=str(error),
            fix="write it like demo://lift?episodes=200&seed=1 (options: episodes, seed, noise, images)",
        ) from None
    return source


def fetch_demos(uri: str, store_uri: str, folder: str) -> str:
    """The recorded demonstrations as a local file; recorded into the store first if they are not there."""
    from tendon.evaluate.demos import record_demos
    from tendon.logs import Progress

    demo, store = parse_demo(uri), open_store(store_uri)
    local = Path(folder) / "demonstrations.hdf5"
    if store.head(demo.key) is not None:
        local.write_bytes(store.read(demo.key))
        return str(local)
    with Progress("convert", demo.episodes, "episodes recorded") as progress:
        record_demos(
            demo.env, demo.episodes, demo.seed, local, noise=demo.noise, images=demo.images, progress=progress.follow
        )
    store.create(demo.key, local.read_bytes())
    return str(local)


def identified(source_uri: str) -> tuple[str, Source | None]:
    """What demonstrations are known by, and their reader where they had to be read for it."""
    from tendon.data.sources import open_source

    if is_demo(source_uri):
        return parse_demo(source_uri).digest, None
    source = open_source(source_uri)
    return source.describe().digest, source


@contextmanager
def opened(source_uri: str, source_digest: str, store_uri: str) -> Iterator[Source]:
    """Any source, its demonstrations made first where a scripted expert is the source.

    Raises:
        DataError: a file is not what it was when the run was planned.
    """
    from tendon.data.sources import open_source

    if is_demo(source_uri):
        with tempfile.TemporaryDirectory() as folder:
            yield open_source(fetch_demos(source_uri, store_uri, folder))
        return
    source = open_source(source_uri)
    if source.describe().digest != source_digest:
        raise DataError(
            "the demonstrations changed since the run was planned",
            where=source_uri,
            why=f"their digest is {source.describe().digest[:16]}, planned was {source_digest[:16]}",
            fix="start the run again: it plans anew",
        )
    yield source
