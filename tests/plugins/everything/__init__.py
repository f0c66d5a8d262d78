"""A tiny policy that reads every kind of feature and gives two actions: an outside package for the tests of the whole chain."""

from __future__ import annotations

from pathlib import Path

ENTRIES = {"tendon.policies": {"everything": "PACKAGE.config:EverythingConfig"}}


def install_everything(site: Path) -> Path:
    """Put this package into ``site``, as pip would; a process needs ``site`` on its path."""
    from tests.plugins.outside import install

    folder = Path(__file__).parent
    texts = {
        str(file.relative_to(folder)): file.read_text()
        for file in folder.rglob("*")
        if file.suffix in (".py", ".yaml") and file.name != "__init__.py"
    }
    return install(site, "everything", ENTRIES, texts)
