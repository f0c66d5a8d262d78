"""Compile the pipeline to pipelines/compiled/ and refresh every page that is made from it.

``python pipelines/compile.py`` writes the YAML, the DAG pictures and the components' pages; with ``--check`` it writes
nothing, names what is stale and exits 2; with ``--picture`` it refreshes the pages only and prints the picture.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from kfp import compiler  # noqa: E402 - after the path, like all that follows

from pipelines import drawing, pages  # noqa: E402
from pipelines.policy_pipeline import policy_pipeline  # noqa: E402

COMPILED = ROOT / "pipelines" / "compiled" / "policy_pipeline.yaml"


def compiled_text() -> str:
    """The YAML as kfp writes it; the same on every machine for the pinned kfp."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / COMPILED.name
        compiler.Compiler().compile(policy_pipeline, str(path))
        return path.read_text(encoding="utf-8")


def wanted_files() -> dict[Path, str]:
    """Every generated file with the text it should have."""
    text = compiled_text()
    return {COMPILED: text, **pages.generated(ROOT, next(yaml.safe_load_all(text)))}


def stale_files() -> list[Path]:
    """Generated files that differ from what would be generated now."""
    return [
        path for path, text in wanted_files().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="compile.py", description="Compile the pipeline and what is drawn from it.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 2 when something is stale")
    parser.add_argument("--picture", action="store_true", help="refresh the pages only, and print the DAG")
    options = parser.parse_args(arguments)
    if options.check:
        stale = stale_files()
        for path in stale:
            print(
                f"error: {path.relative_to(ROOT)} is stale\nwhere: {path}\nwhy:   sources changed\nfix:   make compile"
            )
        return 2 if stale else 0
    for path, text in wanted_files().items():
        if options.picture and path == COMPILED:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    if options.picture:
        print(drawing.text(drawing.read_nodes(next(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8"))))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
