"""Every kind of finding, and none where nothing is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tendon.data.check import Facts, episode_problems, length_findings
from tendon.data.convert import ConversionOptions, convert
from tendon.data.episode import Episode, Schema
from tendon.data.features import column
from tendon.data.inspect import inspect_source
from tendon.data.sources.episodes import EpisodesSource
from tendon.errors import DataError

FPS = 20.0


def episode(i: int, length: int = 30) -> Episode:
    rng = np.random.default_rng(i)
    features = {
        "observation.state": rng.normal(size=(length, 3)).astype(np.float32),
        "action": np.tanh(rng.normal(size=(length, 2))).astype(np.float32),
        "timestamp": (np.arange(length) / FPS).astype(np.float32),
    }
    return Episode(f"e{i}", length, features, task="lift the cube")


def kinds(episodes: list[Episode]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    parts = [Facts.of(episodes[:4], FPS), Facts.of(episodes[4:], FPS)]
    splits = {"train": [each.episode_id for each in episodes]}
    for each in Facts.merged(parts).findings(Schema((), (), FPS), splits):
        found.setdefault(each.kind, []).append(each.where)
    return found


def good() -> list[Episode]:
    return [episode(i) for i in range(8)]


def changed(name: str, change: Callable[[np.ndarray], object], which: int = 3) -> list[Episode]:
    episodes = good()
    for i, each in enumerate(episodes):
        if which in (-1, i):
            change(each.features[name])
    return episodes


def test_nothing_is_found_in_good_data() -> None:
    assert kinds(good()) == {}
    assert [episode_problems(each, "x") for each in good()] == [[]] * 8


def times(values: np.ndarray, made: np.ndarray) -> None:
    values[:] = made


@pytest.mark.parametrize(
    ("episodes", "kind", "where"),
    [
        (changed("observation.state", lambda v: times(v[:, 1], 0.5), -1), "constant", "observation.state"),
        (changed("observation.state", lambda v: times(v[:, 1], np.linspace(0, 5e-5, 30)), -1), "tiny_span", "observation.state"),
        (changed("action", lambda v: times(v[4:5, 1], 1.01)), "action_range", "action"),
        (changed("timestamp", lambda v: times(v, np.arange(30) / 10)), "fps", "e3"),
        (changed("timestamp", lambda v: times(v[20:], v[20:] + 1 / FPS)), "timestamp_gap", "e3"),
        (changed("timestamp", lambda v: times(v[20:21], v[18:19])), "timestamp_gap", "e3"),
        ([*good(), episode(8, 200)], "length", "e8"),
        ([*good(), Episode("e9", 30, good()[2].features, task="t")], "duplicate", "e9"),
        ([*good(), Episode("e9", 30, episode(9).features, task=" ")], "task", "task"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_wrong_is_found(episodes: list[Episode], kind: str, where: str) -> None:
    found = kinds(episodes)
    assert where in found[kind]
    assert set(found) - {kind} <= {"timestamp_gap", "fps"} & set(found)


class Surprised(EpisodesSource):
    """A reader that meets what nobody foresaw."""

    def read(self, episode_id: str, images: bool = True) -> Episode:
        if episode_id == "e3":
            raise IndexError("list index out of range")
        return super().read(episode_id, images)


def test_an_error_that_a_reader_did_not_foresee_names_its_episode(tmp_path: Path) -> None:
    columns = (
        column("observation.state", "float32", (3,)),
        column("action", "float32", (2,)),
        column("timestamp", "float32"),
    )
    source = Surprised("any", Schema(columns, (), FPS), good(), "digest")
    (problem,) = inspect_source(source).problems
    assert (problem.what, problem.where) == ("e3 cannot be read", "any, e3")
    assert "IndexError" in problem.why
    with pytest.raises(DataError) as refused:
        convert(source, str(tmp_path), "any")
    assert list(refused.value.problems) == [problem]
    assert not list(tmp_path.rglob("*.tar"))
    assert convert(source, str(tmp_path), "any", ConversionOptions(skip_episodes=("e3",))).episodes == 7


def test_an_episode_is_short_beside_others_that_are_all_about_as_long() -> None:
    ids, lengths = [f"e{i}" for i in range(20)], np.full(20, 96)
    lengths[4], lengths[::3] = 64, 100
    assert [each.where for each in length_findings(ids, lengths)] == ["e4"]
    assert not length_findings(ids, np.linspace(60, 140, 20).astype(int)), "lengths that vary anyway"
    assert not length_findings(ids[:5], lengths[:5]), "of few nobody can say what is usual"
