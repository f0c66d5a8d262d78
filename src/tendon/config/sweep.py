"""A sweep as data: parameters in, named trials with Hydra overrides out. Called by plan and by ``tendon sweep``.

Keys of one group move together, groups multiply; names and order are those of robomimic's hyperparameter helper:
groups in order of first appearance, the first one slowest, ``base_name_value_name_value``. What would silently go wrong
there (one name for two trials, a slash in a name, no values) is refused here, all of it at once.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from tendon.config.keys import hint_of, plain
from tendon.config.override_text import is_word, quote
from tendon.config.policies import deciding_keys
from tendon.config.resolvers import resolver_problems
from tendon.config.yaml_text import read_yaml
from tendon.errors import ConfigError, Problem, nearest

MAX_TRIALS = 150
MAX_NAME = 200
_SAFE_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.,=+-]*$")
_FIELDS = ("key", "name", "group", "values", "value_names", "hidename")
_DRAWN = ("uniform", "log_uniform", "choice")
_DRAWN_DIGITS = 3  # of a drawn number: names stay short, and the value is the one in the name


@dataclass(frozen=True)
class Parameter:
    """One key of the configuration and the values it takes; an empty ``name`` keeps it out of the trial's name."""

    key: str
    name: str
    group: int | str
    values: tuple[Any, ...]
    value_names: tuple[str | None, ...] | None = None
    hidename: bool = False

    def text(self, index: int) -> str:
        """What the name of a trial says of the value at ``index``."""
        given = self.value_names[index] if self.value_names is not None else None
        value = self.values[index]
        if given is not None:
            return given
        return "_".join(str(one) for one in value) if isinstance(value, (list, tuple)) else str(value)


@dataclass(frozen=True)
class Budget:
    """How many trials of the whole product are kept; which ones is drawn from the seed, their order stays."""

    trials: int
    seed: int = 0


@dataclass(frozen=True)
class Search:
    """So many trials in all, so many a run, each run's chosen by how those before ended: runs/search.py."""

    trials: int
    per_run: int
    seed: int = 0


class Parameters(tuple[Parameter, ...]):
    """The parameters of a sweep, and its budget or its search."""

    budget: Budget | None = None
    search: Search | None = None


@dataclass(frozen=True)
class Trial:
    """One point of the sweep."""

    name: str
    overrides: tuple[str, ...]


def parse_sweep(sweep: Sequence[Mapping[str, Any]] | str | Path) -> Parameters:
    """The parameters of a sweep, from a list of mappings or from a YAML or JSON file that holds one.

    Only ``key`` and ``values`` are needed: ``name`` is the last part of the key, ``group`` one of its own. ``values`` may
    be ``{log_uniform: [1e-5, 1e-3], count: 4, seed: 0}`` (or ``uniform``, or ``choice`` of a list), and one entry may be
    ``{budget: 20, seed: 0}``: so many trials of the product, by chance; or ``{tpe: 20, per_run: 5, seed: 0}``: so many in
    all, in runs of so many, each chosen by the scores of those before (Optuna's TPE).

    Raises:
        ConfigError: with everything that is wrong.
    """
    if isinstance(sweep, (str, Path)):
        place, entries = str(sweep), read_sweep(Path(sweep))
    else:
        place, entries = "sweep", sweep
    if isinstance(entries, (str, bytes, Mapping)) or not isinstance(entries, Sequence):
        why = "it is not a list"
        raise ConfigError("this is not a sweep", where=place, why=why, fix="write a list of {key, name, group, values}")
    problems: list[Problem] = []
    budgets = [entry for entry in entries if isinstance(entry, Mapping) and "budget" in entry]
    searches = [entry for entry in entries if isinstance(entry, Mapping) and "tpe" in entry]
    parameters = [
        _parameter(entry, f"{place}[{index}]", problems)
        for index, entry in enumerate(entries)
        if not (isinstance(entry, Mapping) and ("budget" in entry or "tpe" in entry))
    ]
    problems += resolver_problems(entries, lambda key: f"{place}{key}")
    found = Parameters(one for one in parameters if one is not None)
    found.budget = _budget(budgets, place, problems)
    found.search = _search(searches, bool(budgets), place, problems)
    problems += _repeated_keys(found, place)
    problems += _unequal_groups(found, place)
    if problems:
        raise ConfigError.of(problems)
    return found


def expand(
    parameters: Sequence[Parameter], base_name: str, points: Sequence[Mapping[int | str, int]] | None = None
) -> tuple[Trial, ...]:
    """Every trial of the sweep in robomimic's order; one trial named ``base_name`` when there is nothing to vary.

    ``points``: these trials only, for each group the index of its values. Without them a search has its first run's.

    Raises:
        ConfigError: for names that collide or are no file name, trials that are equal, and too many trials.
    """
    problems = [*_repeated_keys(parameters, "sweep"), *_unequal_groups(parameters, "sweep")]
    if problems:
        raise ConfigError.of(problems)
    budget, search = getattr(parameters, "budget", None), getattr(parameters, "search", None)
    limit = budget.trials if budget else search.trials if search else None
    groups = _groups(parameters)
    lengths = [len(members[0].values) for members in groups.values()]
    if (math.prod(lengths) if limit is None else min(math.prod(lengths), limit)) > MAX_TRIALS:
        raise ConfigError.of([_too_many(groups, lengths)])
    deciding = {one.key for one in parameters if one.key in deciding_keys()}
    trials, values = [], []
    for index_of in points if points is not None else chosen_points(parameters, budget, search):
        name = _name(base_name, [(one, index_of[one.group]) for one in parameters])
        overrides = tuple(
            f"{_force(one.key, deciding)}{one.key}={quote(one.values[index_of[one.group]])}" for one in parameters
        )
        trials.append(Trial(name, overrides))
        values.append(quote([_comparable(one.values[index_of[one.group]]) for one in parameters]))
    problems = [*_bad_names(trials), *_equal_trials(trials, values)]
    if problems:
        raise ConfigError.of(problems)
    return tuple(trials)


def group_lengths(parameters: Sequence[Parameter]) -> dict[int | str, int]:
    """How many values each group has, in the order of the groups."""
    return {group: len(members[0].values) for group, members in _groups(parameters).items()}


def is_ordered(parameters: Sequence[Parameter], group: int | str) -> bool:
    """Whether the values of a group grow or fall, so that neighbours are alike."""
    (values, *_) = [one.values for one in parameters if one.group == group]
    numbers = [one for one in values if isinstance(one, (int, float)) and not isinstance(one, bool)]
    return len(numbers) == len(values) and list(numbers) in (sorted(numbers), sorted(numbers, reverse=True))


def chosen_points(
    parameters: Sequence[Parameter], budget: Budget | None = None, search: Search | None = None
) -> Iterator[dict[int | str, int]]:
    """For each trial the index of the value of each group, in robomimic's order; of a search its first run's."""
    if search is not None:
        budget = Budget(min(search.trials, search.per_run), search.seed)
    groups = _groups(parameters)
    lengths = [len(members[0].values) for members in groups.values()]
    total = math.prod(lengths)
    numbers: Sequence[int] = range(total)
    if budget is not None and budget.trials < total:
        numbers = sorted(random.Random(budget.seed).sample(range(total), budget.trials))
    for number in numbers:
        indices = []
        for length in reversed(lengths):
            number, index = divmod(number, length)
            indices.append(index)
        yield dict(zip(groups, reversed(indices), strict=True))


def draw(kind: str, given: Sequence[Any], count: int, seed: int = 0) -> list[Any]:
    """Values by chance: ``uniform`` and ``log_uniform`` between two numbers, ``choice`` from a list without repetition."""
    generator = random.Random(f"{kind}:{seed}")
    if kind == "choice":
        return generator.sample(list(given), min(count, len(given)))
    low, high = given
    if kind == "log_uniform":
        drawn = [math.exp(generator.uniform(math.log(low), math.log(high))) for _ in range(count)]
    else:
        drawn = [generator.uniform(low, high) for _ in range(count)]
    return [float(f"{one:.{_DRAWN_DIGITS}g}") for one in drawn]


def _name(base_name: str, chosen: Sequence[tuple[Parameter, int]]) -> str:
    pieces = [base_name] if base_name else []
    for parameter, index in chosen:
        if parameter.name and not parameter.hidename:
            pieces.append(parameter.name)
            pieces += [text] if (text := parameter.text(index)) else []
    return "_".join(pieces)


def _groups(parameters: Sequence[Parameter]) -> dict[int | str, list[Parameter]]:
    groups: dict[int | str, list[Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(parameter.group, []).append(parameter)
    return groups


# ------------------------------------------------------------------------------------------------------------- reading


def read_sweep(path: Path) -> Any:
    """What a sweep file holds, as plain values.

    Raises:
        ConfigError: it is not there, or cannot be read.
    """
    if not path.is_file():
        near = nearest(path.name, [one.name for one in path.parent.glob("*")]) if path.parent.is_dir() else None
        fix = f"{path.parent / near} (the nearest)" if near else "check the path"
        raise ConfigError(f"there is no sweep file {path.name}", where=str(path), why="no such file", fix=fix)
    if path.suffix == ".json":
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except RecursionError:
            what, fix = "a sweep file is nested too deep", "a list of {key, values}"
            raise ConfigError(what, where=str(path), why="it is deeper than JSON is read here", fix=fix) from None
        except ValueError as error:
            line = getattr(error, "lineno", 1)
            raise ConfigError(
                "this is not JSON", where=f"{path}:{line}", why=str(error), fix="mend that line"
            ) from None
    file = read_yaml(path)
    if file.problems:
        raise ConfigError.of(file.problems)
    return [] if file.tree is None else file.tree


def _parameter(entry: Any, place: str, problems: list[Problem]) -> Parameter | None:
    before = len(problems)

    def wrong(what: str, why: str, fix: str) -> None:
        problems.append(Problem(what, place, why, fix))

    if not isinstance(entry, Mapping):
        wrong(f"{entry!r} is not a parameter", "each one is a mapping", "{key: training.lr, values: [1e-3, 1e-4]}")
        return None
    for field in entry:
        if field not in _FIELDS:
            near = nearest(str(field), _FIELDS)
            fix = f"{near} (the nearest)" if near else "leave it out"
            if field in _DRAWN:
                fix = f"values: {{{field}: {entry[field]}, count: 8, seed: 0}}"
            wrong(f"unknown field {field}", f"a parameter has {', '.join(_FIELDS)}", fix)
    key, values, names = entry.get("key"), entry.get("values"), entry.get("value_names")
    if not isinstance(key, str) or not key:
        wrong("a parameter has no key", "key names what is varied", "key: training.lr")
        return None
    group = _whole(entry.get("group", f"group of {key}"))
    if not isinstance(group, (int, str)) or isinstance(group, bool):
        wrong(f"group of {key} is {group!r}", "a group is called by a whole number or by text", "group: 1")
    name = entry.get("name", key.replace("/", ".").rsplit(".", 1)[-1])
    if not isinstance(name, str):
        wrong(f"name of {key} is {name!r}", "a name is text", f"name: {str(name)!r}")
    if not isinstance(entry.get("hidename", False), bool):
        wrong(f"hidename of {key} is {entry['hidename']!r}", "it is true or false", "hidename: true")
    if values is None and any(field in entry for field in _DRAWN):
        return None  # what is drawn stands beside the key, and was told above
    if isinstance(values, Mapping):
        values = _drawn(values, key, place, problems)
        if values is None:
            return None
    if not isinstance(values, (list, tuple)) or not values:
        wrong(f"values of {key} are {values!r}", "a sweep needs a list with at least one value", "values: [1e-3, 1e-4]")
    elif names is not None and (not isinstance(names, (list, tuple)) or len(names) != len(values)):
        why = f"there are {len(values)} values"
        wrong(f"value_names of {key} are {names!r}", why, f"a list of {len(values)} names")
    if len(problems) > before:
        return None
    assert isinstance(values, (list, tuple))
    dotted = key.replace("/", ".")  # robomimic writes both
    hint = hint_of(dotted)
    typed = tuple(_as_typed(value, Any if hint is None else hint) for value in values)
    for value in typed:
        if not _is_plain(value):
            wrong(
                f"a value of {key} is {value!r}", "values are text, finite numbers, true, false, null, lists", "mend it"
            )
            return None
    texts = None if names is None else tuple(None if one is None else str(_whole(one)) for one in names)
    return Parameter(dotted, name, group, typed, texts, entry.get("hidename", False))


def _budget(entries: Sequence[Mapping[str, Any]], place: str, problems: list[Problem]) -> Budget | None:
    if not entries:
        return None
    trials, seed = _whole(entries[0]["budget"]), _whole(entries[0].get("seed", 0))
    unknown = sorted(set(entries[0]) - {"budget", "seed"})
    if not isinstance(trials, int) or isinstance(trials, bool) or trials < 1 or not isinstance(seed, int) or unknown:
        what, why = f"{dict(entries[0])} is no budget", "a budget is a number of trials and a seed"
        problems.append(Problem(what, place, why, "{budget: 20, seed: 0}"))
        return None
    if len(entries) > 1:
        problems.append(Problem("a sweep has two budgets", place, "one number of trials is kept", "leave one out"))
    return Budget(trials, seed)


def _search(
    entries: Sequence[Mapping[str, Any]], has_budget: bool, place: str, problems: list[Problem]
) -> Search | None:
    if not entries:
        return None
    fields = {"per_run": 4, "seed": 0} | {name: _whole(value) for name, value in entries[0].items()}
    counts = all(isinstance(one, int) and not isinstance(one, bool) for one in fields.values())
    if not counts or min(fields["tpe"], fields["per_run"]) < 1 or set(fields) != {"tpe", "per_run", "seed"}:
        why = "a search is a number of trials, how many of them a run does, and a seed"
        problems.append(Problem(f"{dict(entries[0])} is no search", place, why, "{tpe: 20, per_run: 5, seed: 0}"))
        return None
    if len(entries) > 1 or has_budget:
        why = "each says how many trials there are"
        problems.append(Problem("a sweep has two searches, or a search and a budget", place, why, "leave one out"))
    return Search(fields["tpe"], fields["per_run"], fields["seed"])


def _drawn(values: Mapping[str, Any], key: str, place: str, problems: list[Problem]) -> list[Any] | None:
    """The values of ``{log_uniform: [1e-5, 1e-3], count: 4, seed: 0}``."""
    kinds = [kind for kind in _DRAWN if kind in values]
    given = values[kinds[0]] if len(kinds) == 1 else None
    count, seed = _whole(values.get("count", 0)), _whole(values.get("seed", 0))
    fits = (
        isinstance(given, (list, tuple))
        and isinstance(count, int)
        and 1 <= count <= MAX_TRIALS
        and isinstance(seed, int)
    )
    fits = fits and not set(values) - {*_DRAWN, "count", "seed"}
    if fits and kinds[0] != "choice":
        assert isinstance(given, (list, tuple))
        numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in given)
        fits = numbers and len(given) == 2 and given[0] < given[1] and (kinds[0] == "uniform" or given[0] > 0)
    if not fits:
        why = "values are drawn uniform or log_uniform between two growing numbers, or by choice from a list"
        problems.append(
            Problem(f"values of {key} cannot be drawn", place, why, "{log_uniform: [1e-5, 1e-3], count: 4, seed: 0}")
        )
        return None
    assert isinstance(given, (list, tuple))
    return draw(kinds[0], given, count, seed)


def _as_typed(value: Any, hint: Any) -> Any:
    """A value with the type of its key: KFP sends 3 as 3.0, and names and overrides must not differ for it."""
    kind = plain(hint)
    if isinstance(value, (list, tuple)):
        item = get_args(kind)[0] if get_origin(kind) is tuple else Any
        return [_as_typed(one, item) for one in value]
    if isinstance(value, Mapping):
        return {name: _as_typed(one, Any) for name, one in value.items()}
    return value if kind is float else _whole(value)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _force(key: str, deciding: set[str]) -> str:
    """``++`` for a key that another swept key gives its effect: ``policy.num_modes`` beside ``policy.head``."""
    return "++" if key.startswith("policy.") and deciding - {key} else ""


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(one) for one in value)
    if isinstance(value, Mapping):
        return all(is_word(name) and _is_plain(one) for name, one in value.items())
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (str, int, bool))


# ------------------------------------------------------------------------------------------------------------ refusals


def _repeated_keys(parameters: Sequence[Parameter], place: str) -> list[Problem]:
    keys = [one.key for one in parameters]
    why, fix = "the later would replace the earlier", "one parameter per key"
    return [Problem(f"{key} is varied twice", place, why, fix) for key in dict.fromkeys(keys) if keys.count(key) > 1]


def _unequal_groups(parameters: Sequence[Parameter], place: str) -> list[Problem]:
    problems = []
    for group, members in _groups(parameters).items():
        counts = {member.key: len(member.values) for member in members}
        if len(set(counts.values())) > 1:
            why = "keys of one group move together: " + ", ".join(f"{key} has {count}" for key, count in counts.items())
            fix = "as many values for each, or groups of their own"
            problems.append(Problem(f"group {group} has unequal numbers of values", place, why, fix))
        if 0 in counts.values():
            empty = ", ".join(key for key, count in counts.items() if not count)
            problems.append(Problem(f"{empty} has no values", place, "there would be no trial", "give a value"))
    return problems


def _too_many(groups: Mapping[int | str, Sequence[Parameter]], lengths: Sequence[int]) -> Problem:
    total = math.prod(lengths)
    largest, members = max(groups.items(), key=lambda item: len(item[1][0].values))
    runs = math.ceil(total / MAX_TRIALS)
    keys = ", ".join(member.key for member in members)
    return Problem(
        f"the sweep has {total} trials",
        "sweep",
        f"one run fans out at most {MAX_TRIALS}: {' x '.join(map(str, lengths))} values",
        f"{runs} or more runs, each with a part of the values of {keys} (the largest group, {largest})",
    )


def _bad_names(trials: Sequence[Trial]) -> list[Problem]:
    problems = []
    by_name: dict[str, list[int]] = {}
    for index, trial in enumerate(trials):
        by_name.setdefault(trial.name, []).append(index)
        if len(trials) > 1 and not trial.name:
            continue  # reported below, as a collision
        if not _SAFE_NAME.match(trial.name) or len(trial.name) > MAX_NAME:
            why = f"a name becomes a folder: letters, digits and _ . , = + -, from 1 to {MAX_NAME} of them"
            fix = "give the value a value_names entry" if trial.name else "give a parameter a name"
            problems.append(Problem(f"{trial.name!r} cannot name a trial", "sweep", why, fix))
    for name, indices in by_name.items():
        if len(indices) > 1:
            examples = " and ".join(" ".join(trials[index].overrides) for index in indices[:2])
            why = f"their results would be mixed up: {examples}"
            fix = "a name for each parameter that varies, and different value_names"
            problems.append(Problem(f"{len(indices)} trials are called {name!r}", "sweep", why, fix))
    return problems


def _comparable(value: Any) -> Any:
    """1 and 1.0 are the same learning rate."""
    if isinstance(value, (list, tuple)):
        return [_comparable(one) for one in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _equal_trials(trials: Sequence[Trial], points: Sequence[str]) -> list[Problem]:
    first: dict[str, str] = {}
    problems = []
    for trial, point in zip(trials, points, strict=True):
        other = first.setdefault(point, trial.name)
        if other != trial.name:
            why = "both would do the same work in the same place"
            what = f"{other} and {trial.name} are the same trial"
            problems.append(Problem(what, "sweep", why, "drop the repeated value"))
    return problems
