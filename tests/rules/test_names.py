"""Names that say something, and nothing of the machine on which a file was written."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EMPTY_WORDS = {"util", "utils", "helper", "helpers", "common", "misc", "miscellaneous", "stuff"}
LEFTOVER_WORDS = {"copy", "temp", "tmp", "old", "bak", "backup", "orig"}
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".json", ".sh", ".cfg", ".ini", ".Dockerfile", ".html", ""}
SLASH = "/"  # written apart, so that this file passes its own rules
MACHINE_PATH = re.compile(rf"(?<![\w.~$-]){SLASH}(?:work|Users{SLASH}\w+|home{SLASH}\w+|root){SLASH}\w")
INDEX = re.compile(r"(?:extra-index-url|index-url|find-links|PIP_INDEX_URL)\W+https?://(?:[^@/\s]*@)?([\w.-]+)")


def tracked() -> list[Path]:
    """The files that git knows; the test is about what is handed over."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [Path(name) for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def bad_name(path: Path) -> str:
    """What is wrong with the name of a file or of a folder above it; empty when nothing is."""
    for part in path.parts:
        words = {word.lower() for word in re.split(r"[^A-Za-z]+", part.split(".")[0]) if word}
        for word in sorted(words & EMPTY_WORDS):
            return f"{path}: {word} says nothing"
    words = {word.lower() for word in re.split(r"[^A-Za-z]+", path.stem) if word}
    for word in sorted(words & LEFTOVER_WORDS):
        return f"{path}: {word} looks left over"
    return ""


def machine_words() -> dict[str, str]:
    """Texts that only this machine has: where the checkout is, and the hosts its package installer asks."""
    words = {str(ROOT): "the path of this checkout"} if len(ROOT.parts) > 2 else {}
    sources = [value for name, value in os.environ.items() if re.match(r"(PIP|UV)_.*(INDEX|LINKS|HOST)", name)]
    for file in ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf"):
        path = Path(file).expanduser()
        sources += [path.read_text(errors="replace")] if path.is_file() else []
    for host in re.findall(r"https?://(?:[^@/\s]*@)?([\w.-]+)", "\n".join(sources)):
        if host not in ("localhost", "127.0.0.1"):
            words[host] = "the package host of this machine"
    return words


def bad_words(path: Path, text: str, machine: dict[str, str]) -> Iterator[str]:
    """What a file tells of the machine on which it was written."""
    in_image = path.parts[0] in ("docker", "k8s", ".ci", ".github")
    for number, line in enumerate(text.splitlines(), 1):
        if not in_image and MACHINE_PATH.search(line):
            yield f"{path}:{number} has a path of one machine: {line.strip()[:80]}"
        for host in INDEX.findall(line):
            yield f"{path}:{number} names the registry {host}"
        for word, what in machine.items():
            if word in line:
                yield f"{path}:{number} has {what}"


def test_names_of_files() -> None:
    wrong = [says for path in tracked() if (says := bad_name(path))]
    assert not wrong, "\n".join(wrong)


def test_no_file_tells_where_it_was_written() -> None:
    machine = machine_words()
    wrong = []
    for path in tracked():
        if path.suffix in TEXT and (ROOT / path).stat().st_size < 2_000_000:
            wrong += bad_words(path, (ROOT / path).read_text(encoding="utf-8", errors="replace"), machine)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "name",
    [
        "src/x/utils/a.py",
        "src/x/image_utils.py",
        "src/helpers.py",
        "a/common.py",
        "a/b copy.py",
        "a/temp.py",
        "a/x_old.py",
    ],
)
def test_a_bad_name_is_found(name: str) -> None:
    assert bad_name(Path(name))


@pytest.mark.parametrize("name", ["src/tendon/storage/local.py", "tests/test_template.py", ".github/workflows/ci.yml"])
def test_a_good_name_passes(name: str) -> None:
    assert not bad_name(Path(name))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f"path = '{SLASH}home{SLASH}anna{SLASH}data'", True),
        (f"path = '{SLASH}work{SLASH}data'", True),
        (f"pip install --index-url https:{SLASH}{SLASH}me:word@packages.inside{SLASH}simple", True),
        ("the secret-host serves", True),
        ("dataset_uri/_work/receipts", False),
        ("~/work/data and $HOME/x", False),
    ],
)
def test_words_of_a_machine_are_found(line: str, found: bool) -> None:
    assert bool(list(bad_words(Path("README.md"), line, {"secret-host": "the host"}))) is found
