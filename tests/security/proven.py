"""A test of PROVEN.md on the source of before its fix: ``python -m tests.security.proven WORD``.

For each line of the table that has WORD in it: the source before the fix in a work tree of its own (build/before), with the tests of
today; where those cannot be imported there, with the tests of the fix. Fails where one of them passes.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

TREE = Path("build/before").absolute()
ROW = re.compile(r"\| (?P<line>.+?) \| `(?P<test>tests/.+?)` \| `(?P<fix>[0-9a-f]{7,})` \|")
NO_TEST_RAN = (2, 3, 4, 5)  # exit codes of pytest
LIMIT_S = 600


def git(*words: str, folder: Path = TREE) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def run(test: str, fix: str, tests: str) -> subprocess.CompletedProcess[str]:
    """The test as of the commit ``tests`` on the source before the fix."""
    if not TREE.exists():
        git("worktree", "add", "--quiet", "--detach", str(TREE), folder=Path.cwd())
    git("checkout", "--quiet", "--force", "--detach", f"{fix}^")
    shutil.rmtree(TREE / "tests")
    git("checkout", "--quiet", tests, "--", "tests")
    _tell_entry_points(TREE / "build/metadata")
    paths = [TREE / "src", TREE, TREE / "build/metadata"]
    limited = ["timeout", str(LIMIT_S)]  # what was not refused may have waited for ever
    return subprocess.run(
        [*limited, sys.executable, "-m", "pytest", "-q", "-n", "0", "--tb=short", "-p", "no:cacheprovider", test],
        cwd=TREE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        check=False,
    )


def _tell_entry_points(folder: Path) -> None:
    """Those of the old source, under its name of then; none of what is installed here."""
    tomllib = importlib.import_module("tomllib")  # of Python 3.11
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    groups = {**project.get("entry-points", {}), "console_scripts": project["scripts"]}
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups.items()]
    for name, text in {"tendon-robotics": "", project["name"]: "".join(lines)}.items():
        known = folder / f"{name.replace('-', '_')}-0.dist-info"
        known.mkdir(parents=True, exist_ok=True)
        (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
        (known / "entry_points.txt").write_text(text)


def main(word: str) -> int:
    today = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    passed = 0
    for row in ROW.finditer(Path(__file__).with_name("PROVEN.md").read_text()):
        if word not in row[0]:
            continue
        done = run(row["test"], row["fix"], today)
        if done.returncode in NO_TEST_RAN:
            done = run(row["test"], row["fix"], row["fix"])
        print(f"{row['line']}\n{done.stdout[-1500:]}\n")
        passed += done.returncode == 0
    return min(passed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
