"""Edits of demonstrations as a recipe: a list in YAML or JSON, applied in its order, whose digest is part of the dataset's.

    - skip: [demo_7]
    - cut: {demo_3: [12, 80]}              # keep steps 12 to 79
    - split: {demo_4: [40]}                # becomes demo_4.0 and demo_4.1
    - merge: {demo_5: [demo_5, demo_6]}    # one after the other, under the name on the left
    - relabel: {demo_1: lift the red cube}
    - weights: {demo_2: 0.5}               # how often training draws it, unless data.episode_weights says so

``?recipe=FILE`` behind the address of any source applies it (sources/edited.py). Pure, but for ``read_recipe``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tendon.data.manifest import digest_of
from tendon.data.sources.source import EpisodeInfo
from tendon.errors import ConfigError, Problem, nearest
from tendon.storage import open_store

VERSION = 1
MOST_BYTES = 16 << 20
OPERATIONS = ("skip", "cut", "split", "merge", "relabel", "weights")


@dataclass(frozen=True)
class Span:
    """Steps ``[begin, end)`` of an episode of the source."""

    episode_id: str
    begin: int
    end: int


@dataclass(frozen=True)
class EditedEpisode:
    """What an edited episode is made of; ``task`` None: as it was."""

    episode_id: str
    spans: tuple[Span, ...]
    splits: tuple[str, ...]
    task: str | None = None
    weight: float = 1.0
    problems: tuple[Problem, ...] = ()
    is_cut: bool = False  # its steps are not those of one episode of the source

    @property
    def length(self) -> int:
        """Its steps."""
        return sum(span.end - span.begin for span in self.spans)


@dataclass(frozen=True)
class Recipe:
    """The edits, each a name and its values, and where they were read."""

    edits: tuple[tuple[str, Any], ...]
    where: str = field(compare=False, default="recipe")

    @property
    def digest(self) -> str:
        """Of what it says, however it is written."""
        return digest_of({"recipe": self.to_json(), "version": VERSION})

    def to_json(self) -> list[dict[str, Any]]:
        """As a manifest keeps it."""
        return [{name: values} for name, values in self.edits]

    @classmethod
    def of(cls, entries: Any, where: str = "recipe") -> Recipe:
        """From what a file holds.

        Raises:
            ConfigError: an entry is no known edit.
        """
        if not isinstance(entries, list):
            raise _wrong("a recipe is a list of edits", where, f"it is a {type(entries).__name__}")
        edits = []
        for number, entry in enumerate(entries, 1):
            if not isinstance(entry, dict) or len(entry) != 1:
                raise _wrong(
                    "an edit is not understood", f"{where}, entry {number}", "it is not one name with its values"
                )
            ((name, values),) = entry.items()
            if name not in OPERATIONS:
                near = nearest(str(name), OPERATIONS, 0.5)
                why = f"{name} is none of {', '.join(OPERATIONS)}" + (f"; did you mean {near}?" if near else "")
                raise _wrong("an edit is not known", f"{where}, entry {number}", why)
            _check_values(name, values, f"{where}, entry {number}, {name}")
            edits.append((name, values))
        return cls(tuple(edits), where)

    def applied(self, infos: Sequence[EpisodeInfo]) -> list[EditedEpisode]:
        """The edited episodes.

        Raises:
            ConfigError: an edit names an episode that is not there at its turn, or steps that it has not.
        """
        episodes = {
            each.episode_id: EditedEpisode(
                each.episode_id, (Span(each.episode_id, 0, each.length),), each.splits, problems=each.problems
            )
            for each in infos
        }
        for number, (name, values) in enumerate(self.edits, 1):
            named = (
                values
                if name == "skip"
                else [one for ids in values.values() for one in ids]
                if name == "merge"
                else values
            )
            for episode_id in named:
                if episode_id not in episodes:
                    near = nearest(episode_id, list(episodes), 0.5)
                    why = f"{len(episodes)} episodes are there at its turn" + (
                        f"; did you mean {near}?" if near else ""
                    )
                    raise _wrong(
                        f"an edit names {episode_id}, which is not there", f"{self.where}, entry {number}, {name}", why
                    )
            episodes = _EDITS[name](episodes, values, f"{self.where}, entry {number}, {name}")
        if not episodes:
            raise _wrong("a recipe leaves no episode", self.where, "all of them are skipped")
        return list(episodes.values())


Episodes = dict[str, EditedEpisode]


def read_recipe(uri: str) -> Recipe:
    """The recipe in a YAML or JSON file, on a disk or in a store.

    Raises:
        ConfigError: it is no recipe. DataError: nothing is there.
    """
    import yaml

    folder, _, name = uri.rpartition("/")
    content = open_store(folder or ".").read(name)
    if len(content) > MOST_BYTES:
        raise _wrong("a recipe is too large", uri, f"it has {len(content):,} bytes, at most {MOST_BYTES:,} are read")
    try:
        text = content.decode()
        if any(isinstance(each, yaml.AliasEvent) for each in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise _wrong("a recipe has references", uri, "YAML aliases may repeat themselves without end")
        entries = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise _wrong(
            "a recipe cannot be read", uri, str(error).splitlines()[0] if str(error) else type(error).__name__
        ) from error
    return Recipe.of(entries, uri)


def _check_values(name: str, values: Any, where: str) -> None:
    """Whether an edit has values of the right kind."""
    kinds: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "cut": ("{episode: [begin, end]}", lambda value: _steps(value) and len(value) == 2),
        "split": ("{episode: [steps at which a new one begins]}", lambda value: _steps(value) and len(value) > 0),
        "merge": ("{new name: [episodes]}", lambda value: _texts(value) and len(value) > 1),
        "relabel": ("{episode: text}", lambda value: isinstance(value, str) and value.strip() != ""),
        "weights": ("{episode: number from 0}", lambda value: _is_weight(value)),
    }
    if name == "skip":
        fits, form = _texts(values), "[episodes]"
    else:
        form, check = kinds[name]
        fits = isinstance(values, dict) and bool(values)
        fits = fits and all(isinstance(key, str) and key != "" and check(value) for key, value in values.items())
    if not fits:
        raise _wrong("the values of an edit are not understood", where, f"they are {form}")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def _steps(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, int) and not isinstance(each, bool) for each in value)


def _is_weight(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e6


def _skip(episodes: Episodes, values: Sequence[str], where: str) -> Episodes:
    return {name: each for name, each in episodes.items() if name not in values}


def _cut(episodes: Episodes, values: Mapping[str, Sequence[int]], where: str) -> Episodes:
    made = dict(episodes)
    for name, (begin, end) in values.items():
        length = episodes[name].length
        if not 0 <= begin < end <= length:
            raise _wrong(f"{name} cannot be cut so", where, f"it has {length} steps, kept would be {begin} to {end}")
        made[name] = replace(episodes[name], spans=_part(episodes[name].spans, begin, end), is_cut=True)
    return made


def _split(episodes: Episodes, values: Mapping[str, Sequence[int]], where: str) -> Episodes:
    made: Episodes = {}
    for name, each in episodes.items():
        if name not in values:
            made[name] = each
            continue
        borders = [0, *values[name], each.length]
        if any(b <= a for a, b in itertools.pairwise(borders)):
            raise _wrong(
                f"{name} cannot be split so",
                where,
                f"it has {each.length} steps, new ones would begin at {list(values[name])}",
            )
        for part, (begin, end) in enumerate(itertools.pairwise(borders)):
            new = f"{name}.{part}"
            made[new] = replace(each, episode_id=new, spans=_part(each.spans, begin, end), is_cut=True)
    return _without_doubles(episodes, made, where)


def _merge(episodes: Episodes, values: Mapping[str, Sequence[str]], where: str) -> Episodes:
    made = dict(episodes)
    for new, names in values.items():
        if len(set(names)) != len(names):
            raise _wrong(f"{new} cannot be merged so", where, "one episode is named twice")
        if any(name not in made for name in names):
            raise _wrong(f"{new} cannot be merged so", where, "an episode is part of two merges")
        parts = [made[name] for name in names]
        joined = replace(
            parts[0],
            episode_id=new,
            spans=tuple(span for part in parts for span in part.spans),
            problems=tuple(problem for part in parts for problem in part.problems),
            is_cut=True,
        )
        if new in made and new not in names:
            raise _wrong(f"{new} is there already", where, "an episode has that name, and is not merged")
        made = {new if name == names[0] else name: joined if name == names[0] else each
                for name, each in made.items() if name == names[0] or name not in names}  # fmt: skip
    return made


def _relabel(episodes: Episodes, values: Mapping[str, str], where: str) -> Episodes:
    return {name: replace(each, task=values.get(name, each.task)) for name, each in episodes.items()}


def _weights(episodes: Episodes, values: Mapping[str, float], where: str) -> Episodes:
    return {name: replace(each, weight=float(values.get(name, each.weight))) for name, each in episodes.items()}


_EDITS: Mapping[str, Callable[..., Episodes]] = {
    "skip": _skip, "cut": _cut, "split": _split, "merge": _merge, "relabel": _relabel, "weights": _weights,
}  # fmt: skip


def _part(spans: Sequence[Span], begin: int, end: int) -> tuple[Span, ...]:
    """Steps ``[begin, end)`` of what the spans are together."""
    made, at = [], 0
    for span in spans:
        size = span.end - span.begin
        low, high = max(begin - at, 0), min(end - at, size)
        if low < high:
            made.append(Span(span.episode_id, span.begin + low, span.begin + high))
        at += size
    return tuple(made)


def _without_doubles(before: Episodes, made: Episodes, where: str) -> Episodes:
    for name in made:
        if name in before and made[name] is not before[name]:
            raise _wrong(f"{name} is there already", where, "a part would have the name of another episode")
    return made


def _wrong(what: str, where: str, why: str) -> ConfigError:
    return ConfigError(
        what, where=where, why=why, fix=f"an edit is one of {', '.join(OPERATIONS)}: see docs/recipes.md"
    )
