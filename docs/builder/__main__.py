"""Write what is generated, or with ``--check`` say what is stale; exit code 2 then."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.builder import (
    DOCS,
    ROOT,
    between,
    commands,
    configuration,
    environment,
    errors,
    links,
    policies,
    python_page,
    snippets,
)


def made() -> dict[Path, str]:
    """Every page with something generated in it, whole."""
    whole = {
        "reference/commands.md": commands.page(),
        "reference/exit-codes.md": commands.exit_codes_page(),
        "reference/configuration.md": configuration.page(),
        "reference/environment.md": environment.page(),
        "reference/python.md": python_page.page(),
        **errors.pages(),
        **policies.pages(),
    }
    texts = {DOCS / name: text for name, text in whole.items()}
    for path in snippets.pages():
        if path not in texts and "<!-- file: " in path.read_text(encoding="utf-8"):
            texts[path] = snippets.with_files(path)
    texts[DOCS / "kubeflow.md"] = between(
        (DOCS / "kubeflow.md").read_text(encoding="utf-8"), "parameters", _parameters()
    )
    readme = ROOT / "README.md"
    texts[readme] = between(readme.read_text(encoding="utf-8"), "snippets", snippets.counts())
    return texts


def _parameters() -> str:
    from docs.builder import cell, code
    from pipelines.parameters import TABLE

    lines = ["| parameter | default | what it is |", "|---|---|---|"]
    lines += [
        f"| {code(one.name)} | {code(repr(one.default))} | {cell(one.text)} |"
        for one in sorted(TABLE, key=lambda one: one.name)
    ]
    return "\n".join(lines)


def main(words: list[str]) -> int:
    """Write or check."""
    stale = []
    for path, text in made().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(path.relative_to(ROOT).as_posix())
            if "--check" not in words:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    wrong = [*links.every_dead(), *(problem for one in snippets.every() if (problem := one.problem()))]
    for name in stale:
        sys.stdout.write(f"{'stale' if '--check' in words else 'wrote'}: {name}\n")
    for problem in wrong:
        sys.stdout.write(f"error: {problem}\n")
    return 2 if wrong or ("--check" in words and stale) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
