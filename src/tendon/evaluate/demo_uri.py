"""``demo://lift?episodes=200&seed=1``: a source of demonstrations that the environment's scripted expert makes.

Read by steps.plan (its digest decides whether anything changed) and steps.convert (which takes the expert's Episodes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from tendon.config.digest import digest
from tendon.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tendon.config.schema import EnvConfig
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
        return recording_digest(self.env, self.episodes, self.seed, self.noise, self.images)


def recording_digest(env: EnvConfig, episodes: int, seed: int, noise: float, images: bool) -> str:
    """What an expert's demonstrations are known by."""
    from tendon.config.numerics import rollout_numerics
    from tendon.evaluate.adapters import sim_numerics

    asked = {"env": env.identity, "episodes": episodes, "seed": seed, "noise": noise, "images": images}
    return digest("demonstrations", asked, rollout_numerics(), sim_numerics(env, expert=True))


def is_demo(uri: str) -> bool:
    """Whether the source is made by a scripted expert."""
    return uri.startswith(SCHEME)


def parse_demo(uri: str) -> DemoSource:
    """The parts of a ``demo://`` URI; unknown parts are an error. Pictures are recorded where the env reads some, unless images=0."""
    from tendon.config.compose import compose
    from tendon.config.feature_map import FeatureMap

    parts = urlsplit(uri)
    query = dict(parse_qsl(parts.query))
    unknown = sorted(set(query) - {"episodes", "seed", "noise", "images"})
    try:
        if unknown:
            raise ValueError(f"it has no option {unknown[0]!r}")
        env = compose([f"env={parts.netloc or parts.path}", "data.uri=unused"]).env
        source = DemoSource(
            env=env,
            episodes=int(query.get("episodes", "100")),
            seed=int(query.get("seed", "1")),
            noise=float(query.get("noise", DEFAULT_NOISE)),
            images=query["images"] in ("1", "true") if "images" in query else bool(FeatureMap.of(env).read_cameras),
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


@contextmanager
def recorded(uri: str, num_guests: int = 2) -> Iterator[Source]:
    """The demonstrations of a ``demo://`` URI, made by its expert now; the same ones every time."""
    from tendon.evaluate.demo_episodes import expert_episodes
    from tendon.evaluate.experts import ExpertSettings
    from tendon.logs import Progress

    demo = parse_demo(uri)
    settings = ExpertSettings(demo.env, demo.episodes, demo.seed, demo.noise, demo.images, num_guests)
    with ExitStack() as stack:
        with Progress("convert", demo.episodes, "episodes recorded") as progress:
            source = stack.enter_context(expert_episodes(settings, uri, demo.digest, progress.follow))
        yield source


def identified(source_uri: str) -> tuple[str, Source | None]:
    """What demonstrations are known by, and their reader where they had to be read for it."""
    from tendon.data.sources import open_source
    from tendon.data.sources.first_look import described

    if is_demo(source_uri):
        return parse_demo(source_uri).digest, None
    source = open_source(source_uri)
    return described(source).digest, source


@contextmanager
def opened(source_uri: str, source_digest: str) -> Iterator[Source]:
    """Any source, its demonstrations made first where a scripted expert is the source.

    Raises:
        DataError: a file is not what it was when the run was planned.
    """
    from tendon.data.sources import open_source
    from tendon.data.sources.first_look import described

    if is_demo(source_uri):
        with recorded(source_uri) as source:
            yield source
        return
    source = open_source(source_uri)
    if described(source).digest != source_digest:
        raise DataError(
            "the demonstrations changed since the run was planned",
            where=source_uri,
            why=f"their digest is {source.describe().digest[:16]}, planned was {source_digest[:16]}",
            fix="start the run again: it plans anew",
        )
    yield source
