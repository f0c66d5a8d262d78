"""The commands of the README's "By hand", run as they stand in an empty folder, and the seconds that it says beside them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.benchmarks.rows import row

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"


@dataclass(frozen=True)
class Command:
    """One line; ``seconds`` is what the README says, None where it says nothing."""

    line: str
    seconds: float | None


@dataclass(frozen=True)
class Ran:
    """How a command ended, and the processor time that it took, children included."""

    command: Command
    code: int
    seconds: float


def block(name: str, language: str) -> str:
    """A marked block of the README."""
    found = re.search(rf"<!-- {name} -->\n```{language}\n(.*?)```", README.read_text(), re.S)
    assert found is not None
    return found[1]


def commands() -> list[Command]:
    """What stands after each prompt."""
    made = []
    for line in block("by-hand", "console").splitlines():
        text, _, comment = line.removeprefix("$ ").partition(" #")
        said = re.match(r" ([\d.]+) s\b", comment)
        made.append(Command(text.strip(), float(said[1]) if said else None))
    return made


def run_all(folder: Path) -> list[Ran]:
    """Every command, one after the other, in one shell."""
    (folder / "sweep.yaml").write_text(block("sweep", "yaml"))
    (folder / "bin").mkdir()
    (folder / "bin" / "tendon").write_text(f'#!/bin/sh\nexec {sys.executable} -m tendon "$@"\n')
    (folder / "bin" / "tendon").chmod(0o755)
    script = ["TIMEFORMAT='%U %S'"]
    for number, command in enumerate(commands()):
        script.append(
            f"{{ time {command.line} >{number}.out 2>{number}.err; }} 2>{number}.time; echo $? >{number}.code"
        )
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
    }
    subprocess.run(["bash", "-c", "\n".join(script)], cwd=folder, env=environment, check=True)
    ran = []
    for number, command in enumerate(commands()):
        code = int((folder / f"{number}.code").read_text())
        if code:
            print(
                f"{command.line}: exit code {code}\n{(folder / f'{number}.err').read_text()[-2000:]}", file=sys.stderr
            )
        seconds = sum(map(float, (folder / f"{number}.time").read_text().split()[-2:]))
        ran.append(Ran(command, code, seconds))
    return ran


@cache
def results() -> tuple[Ran, ...]:
    """One run for both rows."""
    with tempfile.TemporaryDirectory() as folder:
        return tuple(run_all(Path(folder)))


@row("faults", "readme-by-hand", "commands of the README's By hand that fail, in its order in an empty folder", "== 0")
def failing() -> float:
    """How many do not end with 0."""
    return float(sum(ran.code != 0 for ran in results()))


@row("bench", "readme-times", "largest processor time of a command of the README's By hand over what it says", "<= 2 x")
def too_slow() -> float:
    """The largest ratio; a second is allowed to any, as two runs differ by that."""
    timed = [ran for ran in results() if ran.command.seconds is not None]
    for ran in timed:
        print(f"{ran.seconds:6.1f} s, said {ran.command.seconds:g} s: {ran.command.line}")
    return max(ran.seconds / max(1.0, ran.command.seconds or 0) for ran in timed)
