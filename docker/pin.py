"""Write docker/requirements/*.txt: what pip would install into the images, each file with its sha256.

    python docker/pin.py [--index-url URL]

Versions come from constraints.txt, hashes from what pip reports for PyPI. Run it with Python 3.11 on linux x86_64, which is
what the images are, whenever constraints.txt or the dependencies in pyproject.toml change; tests/docker tells when.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "src")) if path not in sys.path]

from tendon.errors import ConfigError, TendonError, reported  # noqa: E402 - after the path

FOLDER = ROOT / "docker" / "requirements"
PYPI = "https://pypi.org/simple"
# torch for the CPU comes from PyTorch's own index or a folder, so neither it nor its CUDA libraries are in train-cpu.txt,
# nor what is built against PyPI's torch
CUDA = re.compile(r"torch$|torchvision$|timm$|nvidia-|cuda-|triton$")
HEADER = (
    "# Made by docker/pin.py for linux x86_64 and Python 3.11. Do not edit: change constraints.txt and run it again.\n"
)


def canonical(name: str) -> str:
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints(text: str) -> dict[str, str]:
    """Package to version, of constraints.txt; of two lines for one package that of the images' Python."""
    lines = (line.partition(";") for line in text.splitlines() if "==" in line and not line.startswith("#"))
    pins = (pin.split("==") for pin, _, marker in lines if '< "3.11"' not in marker)
    return {canonical(name): version.strip() for name, version in pins}


def requirement_sets() -> dict[str, tuple[list[str], list[str]]]:
    """File name to what it holds the answer for: requirements and options of pip."""
    import tomllib  # Python 3.11, as the images

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    data = [*project["dependencies"], *extras["minestudio"], *extras["search"]]
    train = [*extras["train"], *_outside(extras["lora"] + extras["vla"] + extras["vision"] + extras["rocket"])]
    kfp = f"kfp=={constraints((ROOT / 'constraints.txt').read_text(encoding='utf-8'))['kfp']}"
    return {
        "build": (["hatchling>=1.26", "setuptools>=77"], []),  # what builds tendon and the packages that have no wheel
        "kfp": ([kfp], ["--no-deps"]),  # a step needs kfp's executor only
        "data": (data, []),
        "train": (data + train, []),
    }


def _outside(requirements: Sequence[str]) -> list[str]:
    """Those that are not further extras of tendon itself."""
    return [one for one in requirements if not one.startswith("tendon-robotics[")]


def resolve(requirements: Sequence[str], options: Sequence[str], index_url: str) -> list[dict[str, Any]]:
    """What pip would install into an empty environment; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--disable-pip-version-check", "--index-url", index_url, "--report", str(report)]
        command += ["--constraint", str(ROOT / "constraints.txt"), *options, *requirements]
        # settings of this machine name other indexes, whose files may be others than PyPI's
        environment = os.environ | {"PIP_CONFIG_FILE": os.devnull}
        certificates = ["--cert", environment["PIP_CERT"]] if environment.get("PIP_CERT") else []
        done = subprocess.run([*command, *certificates], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TendonError(
                "pip cannot resolve the requirements of the images",
                where=", ".join(requirements),
                why=done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip said nothing",
                fix="check that the index answers, and that constraints.txt has versions that exist there",
            )
        installs: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
        return installs


def pinned_lines(installs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Package to its line, in the order of names; refuses a file that does not come from the web."""
    lines = {}
    for install in installs:
        name, version = canonical(install["metadata"]["name"]), install["metadata"]["version"]
        source = install["download_info"]
        if not source["url"].startswith("https://"):
            raise TendonError(
                f"{name} does not come from an index",
                where=source["url"],
                why="its hash may be that of a file built on this machine",
                fix="run docker/pin.py where the index answers",
            )
        lines[name] = f"{name}=={version} --hash=sha256:{source['archive_info']['hashes']['sha256']}"
    return dict(sorted(lines.items()))


def write(index_url: str) -> list[Path]:
    """Resolve every set and write its file."""
    texts = {
        name: pinned_lines(resolve(requirements, options, index_url))
        for name, (requirements, options) in requirement_sets().items()
    }
    texts["train-cpu"] = {name: line for name, line in texts["train"].items() if not CUDA.match(name)}
    FOLDER.mkdir(exist_ok=True)
    paths = []
    for name, lines in texts.items():
        path = FOLDER / f"{name}.txt"
        path.write_text(HEADER + "".join(f"{line}\n" for line in lines.values()), encoding="utf-8")
        paths.append(path)
    return paths


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(prog="pin.py", description="Write docker/requirements/*.txt with hashes.")
    parser.add_argument("--index-url", default=PYPI, help=f"default: {PYPI}")
    options = parser.parse_args(words)
    with reported("pin"):
        here = (sys.version_info[:2], sys.platform, platform.machine())
        if here != ((3, 11), "linux", "x86_64"):
            raise ConfigError(
                "the images' requirements cannot be resolved here",
                where=f"Python {platform.python_version()}, {sys.platform} {platform.machine()}",
                why="pip reports the files of the machine it runs on, and the images are linux x86_64 with Python 3.11",
                fix="docker run --rm -v $PWD:/x -w /x python:3.11-slim-bookworm python docker/pin.py",
            )
        for path in write(options.index_url):
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
