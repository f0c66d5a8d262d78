"""``make faults ROWS=wheel``: what a user without a checkout has: the wheel, built twice, looked into, installed and run.

TENDON_WHEEL_PACKAGES names a folder of packages to use in place of installing what the wheel needs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from tests.benchmarks.rows import row

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = "train,kubeflow"
PACKAGES = "TENDON_WHEEL_PACKAGES"
_folders: list[tempfile.TemporaryDirectory[str]] = []


@cache
def built(attempt: int) -> tuple[Path, Path]:
    """Wheel and source archive, as ``python -m build`` makes them: the wheel out of the source archive."""
    _folders.append(tempfile.TemporaryDirectory(prefix=f"tendon-wheel-{attempt}-"))
    out = Path(_folders[-1].name)
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(out)]
    subprocess.run([*build, "--target", "sdist"], cwd=ROOT, check=True, capture_output=True)
    (source,) = out.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(out / "unpacked", filter="data")
    (unpacked,) = (out / "unpacked").iterdir()
    subprocess.run([*build, "--target", "wheel"], cwd=unpacked, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return wheel, source


@row("faults", "wheel-twice", "of wheel and source archive, how many differ between two builds of them", "== 0")
def twice() -> float:
    """Byte for byte."""
    return sum(one.read_bytes() != other.read_bytes() for one, other in zip(built(0), built(1), strict=True))


@row(
    "faults",
    "wheel-clean",
    "files of the wheel that are tests, caches, or name a path of the machine it was built on",
    "== 0",
)
def clean() -> float:
    """Every file of the archive."""
    wheel, _ = built(0)
    paths = [each.encode() for each in (str(ROOT), str(wheel.parent), str(Path.home()) + os.sep)]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        unwanted = [name for name in names if re.search(r"(^|/)(tests?|__pycache__|\.[a-z]+_cache)/|\.py[co]$", name)]
        unwanted += [name for name in names if any(path in archive.read(name) for path in paths)]
    print("\n".join(unwanted[:10]))
    return len(unwanted)


@row(
    "faults",
    "wheel-demo",
    "of compile and demo, how many a wheel in an empty environment far from a checkout runs to the end",
    "== 2",
)
def demo() -> float:
    """The demo is the whole pipeline on the built-in task: it must reach a verdict."""
    wheel, _ = built(0)
    with tempfile.TemporaryDirectory(prefix="tendon-empty-") as folder:
        python = Path(folder, "venv", "bin", "python")
        subprocess.run([sys.executable, "-m", "venv", folder + "/venv"], check=True)
        if packages := os.environ.get(PACKAGES):
            (site,) = Path(folder, "venv", "lib").glob("python*/site-packages")
            (site / "packages.pth").write_text(packages + "\n")
            what = ["--no-deps", str(wheel)]
        else:
            what = [f"{wheel}[{EXTRAS}]", "--constraint", str(ROOT / "constraints.txt")]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *what], check=True)
        far = Path(folder, "far")
        far.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TENDON"))}
        kept["PATH"] = f"{python.parent}{os.pathsep}{os.defpath}"
        fine = 0
        for words in (["compile", "--output", "mine"], ["demo", "--task", "reach", "--store-uri", "store"]):
            done = subprocess.run(
                [python.parent / "tendon", *words], cwd=far, env=kept, capture_output=True, text=True, check=False
            )
            told = done.stdout + done.stderr
            right = done.returncode == 0 and (words[0] == "compile" or "verdict" in told)
            fine += right
            if not right:
                print(f"{words[0]}: exit {done.returncode}\n{told[-2000:]}")
        return fine
