"""The cron lines that Kubeflow takes: six fields, seconds first, as robfig/cron reads them."""

from __future__ import annotations

from tendon.errors import Problem

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (  # name, least, most, words
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {word: number for number, word in enumerate(MONTHS, 1)}),
    ("day of week", 0, 6, {word: number for number, word in enumerate(DAYS)}),
)
LONGEST = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


def cron_problems(line: str, where: str = "--cron") -> list[Problem]:
    """Everything that is wrong with a cron line.

    >>> cron_problems("0 0 3 * * *")
    []
    """
    words = line.split()
    if len(words) != len(FIELDS):
        why = f"Kubeflow wants six fields, seconds first; this has {len(words)}"
        fix = '--cron "0 0 3 * * *"  (every night at three, UTC)'
        if len(words) == len(FIELDS) - 1:
            fix = f'did you mean --cron "0 {line.strip()}"?'
        return [Problem(f"{line!r} is not a schedule", where, why, fix)]
    problems, numbers = [], []
    for word, (name, least, most, names) in zip(words, FIELDS, strict=True):
        try:
            numbers.append(_numbers(word, least, most, names, name.startswith("day")))
        except ValueError as error:  # noqa: PERF203 - every field is judged
            allowed = f"{least} to {most}" + (f" or {', '.join(names)}" if names else "")
            problems.append(
                Problem(f"{word!r} is no {name}", where, f"{error}; a {name} is {allowed}", "*, 5, 1-5, */15 or 1,3,5")
            )
    if not problems and not _ever_comes(numbers[3], numbers[4], words[5]):
        fix = "a day that one of the months has"
        problems.append(Problem(f"{line!r} never comes", where, "no such month has such a day", fix))
    return problems


def _numbers(word: str, least: int, most: int, names: dict[str, int], is_day: bool) -> set[int]:
    """The numbers that a field stands for; ValueError says what is wrong."""
    numbers: set[int] = set()
    for part in word.split(","):
        span, slash, step = part.partition("/")
        if slash and not (step.isdigit() and int(step) > 0):
            raise ValueError(f"{step!r} is no step")
        low, dash, high = span.partition("-")
        if span == "*" or (is_day and span == "?"):
            first, last = least, most
        else:
            first = _number(low, names)
            last = _number(high, names) if dash else most if slash else first
        if first < least or last > most:
            raise ValueError(f"{part!r} is out of range")
        if first > last:
            raise ValueError(f"{part!r} runs backwards")
        numbers |= set(range(first, last + 1, int(step) if slash else 1))
    return numbers


def _number(text: str, names: dict[str, int]) -> int:
    if text.upper() in names:
        return names[text.upper()]
    if not text.isdigit():
        raise ValueError(f"{text!r} is no number")
    return int(text)


def _ever_comes(days: set[int], months: set[int], weekday: str) -> bool:
    return weekday not in "*?" or any(min(days) <= LONGEST.get(month, 31) for month in months)
