"""Two linters of the field on the same planted sets, beside inspect: which kinds of defects each of them notices.

A kind counts as noticed where a tool says something of the set with the defect that it does not say of the same set
without; numbers in its sentences do not count. ``python -m tests.benchmarks.planted.linters [kind ...]`` prints the table.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tests.benchmarks import peers
from tests.benchmarks.planted.clean import Recording
from tests.benchmarks.planted.defects import DEFECTS, Defect
from tests.benchmarks.planted.forms import FORMS
from tests.benchmarks.planted.measure import findings_of_files, plant

EPISODES, SEED = 60, 17
ALARMING = ("WARN", "FAIL")


@dataclass(frozen=True)
class Said:
    """Of a set: the sentences without their numbers, and the numbers of episodes that are named."""

    sentences: frozenset[str]
    episodes: frozenset[int] = frozenset()


def environment() -> Path:
    """The interpreter that has both linters."""
    return peers.environment("linters", ["lerobot-doctor==0.2.0", "robovet==0.2.2"])


def doctor(root: Path) -> Said:
    """lerobot-doctor 0.2.0. It names no episodes but in sentences."""
    done = _run("lerobot-doctor", "check", str(root), "--json")
    checks = json.loads(done[done.index("{") :])["checks"]
    told = [each["message"] for check in checks for each in check["messages"] if each["severity"] in ALARMING]
    named = {
        int(number)
        for text in told
        for part in re.findall(r"[Ee]pisodes? ([\d, ]+)", text)
        for number in re.findall(r"\d+", part)
    }
    return Said(frozenset(map(_without_numbers, told)), frozenset(named))


def robovet(root: Path) -> Said:
    """robovet 0.2.2: its checks and, by episode, those that it says are affected."""
    path = root.parent / "robovet.json"
    _run("robovet", "doctor", str(root), "--json", str(path))
    told = [each for each in json.loads(path.read_text())["results"] if each["severity"] in ALARMING]
    sentences = [f"{each['check_id']} {each['summary']}" for each in told]
    return Said(
        frozenset(map(_without_numbers, sentences)), frozenset(int(e) for each in told for e in each["episodes"])
    )


def inspect(root: Path) -> Said:
    """tendon inspect."""
    findings = findings_of_files(str(root), "lerobot", images=True)
    named = [re.search(r"episode_(\d+)", each.where) for each in findings]
    return Said(
        frozenset(_without_numbers(f"{each.kind} {each.message}") for each in findings),
        frozenset(int(each.group(1)) for each in named if each),
    )


TOOLS: dict[str, Callable[[Path], Said]] = {"inspect": inspect, "lerobot-doctor": doctor, "robovet": robovet}


@dataclass(frozen=True)
class Noticed:
    """Of a kind at strong severity, by tool: whether it is noticed, and the share of its episodes that are named by it alone."""

    kind: str
    by: dict[str, bool]
    recall: dict[str, float]


def beside(defect: Defect) -> Noticed:
    """All tools on one set with the defect and the same without."""
    with tempfile.TemporaryDirectory(prefix="tendon-linters-") as folder:
        planted_set, planted = plant(defect, True, SEED, EPISODES, "lerobot")
        clean_set = plant(
            replace(defect, change=lambda rng, recording, strong, clean: recording), True, SEED, EPISODES, "lerobot"
        )[0]
        said: dict[str, list[Said]] = {name: [] for name in TOOLS}
        for place, recordings in (("with", planted_set), ("without", clean_set)):
            (Path(folder) / place).mkdir()
            root = Path(FORMS["lerobot"]([_joined(each) for each in recordings], Path(folder) / place))
            for name, tool in TOOLS.items():
                said[name].append(tool(root))
    numbers = {i for i, each in enumerate(planted_set) if each.name in planted}
    return Noticed(
        defect.name,
        {name: bool(there.sentences - clean.sentences or there.episodes - clean.episodes) for name, (there, clean) in said.items()},
        {name: len((there.episodes - clean.episodes) & numbers) / len(numbers) for name, (there, clean) in said.items()},
    )  # fmt: skip


def table(kinds: Sequence[Defect] = DEFECTS) -> list[Noticed]:
    """Every kind; printed as it comes."""
    print(f"{'kind':<22}" + "".join(f"{name:<30}" for name in TOOLS))
    lines = []
    for defect in kinds:
        lines.append(beside(defect))
        cells = [
            f"{'noticed' if lines[-1].by[name] else '-':<9} {lines[-1].recall[name]:.2f} of episodes" for name in TOOLS
        ]
        print(f"{defect.name:<22}" + "".join(f"{cell:<30}" for cell in cells), flush=True)
    return lines


def _joined(recording: Recording) -> Recording:
    """One vector for the state, where linters look for it."""
    return replace(recording, state={"state": np.concatenate(list(recording.state.values()), 1)})


def _run(*words: str) -> str:
    command = environment().parent / words[0]
    done = subprocess.run([command, *words[1:]], capture_output=True, text=True, check=False, timeout=600)
    return done.stdout


def _without_numbers(text: str) -> str:
    return re.sub(r"[-+]?\d[\d.,e+-]*", "#", text)


if __name__ == "__main__":
    table([each for each in DEFECTS if not sys.argv[1:] or each.name in sys.argv[1:]])
