"""``make faults``, hostile sources: through the command line, each refused by name, nothing left, memory bounded."""

from __future__ import annotations

import resource
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.benchmarks import line
from tests.benchmarks.rows import row

LIMIT_MB = 1500
LINES = ("error: ", "where: ", "why:   ", "fix:   ")


def sources(folder: Path) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """Every hostile source with its name and the options that read it."""
    import h5py

    from tests.conftest import make_lift_like_hdf5
    from tests.data import lerobot_sets
    from tests.security.hdf5_files import HOSTILE as FILES
    from tests.security.hdf5_files import SECRET
    from tests.security.hostile import SOURCES
    from tests.security.test_lerobot import HOSTILE as FOLDERS

    for make in FILES:
        (folder / "secret").write_bytes(SECRET * 8)
        path = make_lift_like_hdf5(folder / f"{make.__name__}.hdf5")
        with h5py.File(path, "a") as file:
            make(file, folder / "secret")
        yield make.__name__, path, ()
    for number, (name, (change, _)) in enumerate(FOLDERS.items()):
        root = lerobot_sets.make(folder / f"set{number}", "v2.1")
        change(root)
        yield name, root, ("--format", "lerobot")
    for name, source in SOURCES.items():
        (folder / name).mkdir()
        path, format = source(folder / name)
        yield name, path, ("--format", format)


@cache
def outcome() -> tuple[int, int, float]:
    """Commands run, commands that ended right, and the largest memory of one in MB."""
    right = total = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source, path, options in sources(folder):
            store = folder / "store"
            for command in (["convert", "--source-uri", path, "--store-uri", store], ["inspect", path, *options]):
                done = subprocess.run(
                    [*line.TENDON, *map(str, command)],
                    cwd=folder,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=300,
                )
                left = [each for each in store.rglob("*") if each.is_file() and each.parent.name != "failures"]
                named = all(text in done.stderr for text in LINES) or "problems that stop a conversion" in done.stdout
                fine = done.returncode == 3 and named and not left and "Traceback" not in done.stderr
                total, right = total + 1, right + fine
                if not fine:
                    print(f"{source}, {command[0]}: exit {done.returncode}, left {left[:2]}, {done.stderr[-400:]}")
    return total, right, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


@row(
    "faults",
    "hostile-named",
    "share of 168 commands on 84 hostile sources that end with exit 3, four lines and nothing left but a note of the failure",
    "== 1",
)
def named() -> float:
    """HDF5 files, LeRobot and LMDB folders, modality.json; converted and inspected."""
    total, right, _ = outcome()
    assert total >= 120
    return right / total


@row("faults", "hostile-memory", "largest memory of one of these commands, in MB", f"<= {LIMIT_MB}")
def memory() -> float:
    """Declared terabytes are never taken."""
    return outcome()[2]
