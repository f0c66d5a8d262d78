"""What a reader types: the commands of the guide's main pages, in their order, as one script.

``python -m docs.builder.typed FOLDER`` runs them there at their printed size and shows what they print, for the pages' outputs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from docs.builder import DOCS, ROOT
from docs.builder.snippets import Snippet, snippets

MAIN = ("data", "simulator", "policy", "run", "schedule", "python")  # from an HDF5 file to an action of the champion
AFTER = ("robot", "report", "sweeps", "fine-tuning", "several-gpus")  # what else runs in that folder
LOOKS_ONLY = {"robot.md:yaml"}  # a file that init wrote already, which is compared


def runnable(page: str) -> list[Snippet]:
    """The snippets of a page that are typed by a test of the guide."""
    return [one for one in snippets(DOCS / f"{page}.md") if one.kind == "runs" and not one.about]


def script(pages: tuple[str, ...], changes: Mapping[str, str] | None = None) -> str:
    """The snippets as bash; Python is put into one file a page and run behind the commands before it."""
    lines = ["set -euo pipefail"]
    for page in pages:
        python: list[str] = []
        for one in runnable(page):
            if one.language == "python":
                python.append(one.text)
            elif one.language == "yaml" and f"{one.page}:yaml" not in LOOKS_ONLY:
                name = re.match(r"# (\S+\.yaml)", one.text)
                assert name, f"{one.page}:{one.line}: the first line of a file names it"
                lines += [f"cat > {name[1]} <<'EOF'", one.text.rstrip(), "EOF"]
            else:
                lines += [f"echo '+ {page}'", *one.commands()] if one.language != "yaml" else []
        if python:
            lines += [f"cat > typed_{page}.py <<'EOF'", *python, "EOF", f"python typed_{page}.py"]
    text = "\n".join(lines) + "\n"
    for printed, given in (changes or {}).items():
        assert printed in text, f"the guide does not print {printed}"
        text = text.replace(printed, given)
    return text


def prepare(folder: Path) -> dict[str, str]:
    """A copy of docs/examples, and the environment in which ``tendon``, ``python`` and ``pip`` are this checkout's."""
    shutil.copytree(DOCS / "examples", folder, dirs_exist_ok=True)
    tools, site = folder / ".tools", folder / ".site"
    tools.mkdir(exist_ok=True)
    install = f"-m pip install --quiet --no-deps --no-build-isolation --target {site}"  # offline, and not into this environment
    wrapped = {"tendon": "-m tendon", "python": "", "pip": install}
    for name, words in wrapped.items():
        given = '"${@:2}"' if name == "pip" else '"$@"'
        (tools / name).write_text(f"#!/bin/bash\nexec {sys.executable} {words} {given}\n")
        (tools / name).chmod(0o755)
    path = os.pathsep.join(map(str, (site, ROOT / "src", ROOT, folder)))
    return {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": path}


def main(folder: str) -> int:
    """Type everything."""
    where = Path(folder).resolve()
    where.mkdir(parents=True, exist_ok=True)
    environment = prepare(where)
    text = "set -x\n" + script(MAIN + AFTER)
    return subprocess.run(["bash", "-c", text], cwd=where, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
