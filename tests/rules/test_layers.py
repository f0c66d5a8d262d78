"""The order of the packages: each imports what stands to its left, and what is heavy or foreign stays in its place."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"

# Left to right; a name that does not exist yet keeps its place.
ORDER = (
    "errors",
    "logs",
    "fork_server",  # names what it imports for others as text
    "answers",
    "storage",
    "trust",
    "plugins",
    "config",
    "data",
    "loader",
    "policies",
    "weights",
    "train",
    "export",
    "sim",  # imports nothing of the others; what it offers may be used from here on
    "evaluate",
    "curate",
    "runs",  # what one run knows of itself
    "registry",  # what outlives a run
    "report",
    "view",  # pages over what all of them keep
    "steps",
    "robomimic",  # its users' way in
    "lerobot",  # likewise
    "internmanip",
    "minestudio",
    "doctor",
    "runner",  # executes the compiled DAG on one machine
    "api",  # the way in from Python
    "named",  # names in the place of addresses
    "store_commands",
    "project",  # a folder for one's own demonstrations
    "commands",
    "cli",
    "__main__",
)
WITHOUT_TORCH = ("errors", "logs", "storage", "config", "data", "loader", "report")
SIMULATORS = {
    "robosuite",
    "mujoco",
    "gym",
    "gymnasium",
    "gym_pusht",
    "gym_aloha",
    "gym_xarm",
    "vizdoom",
    "metaworld",
    "minestudio",
    "robomimic",
    "calvin_env",
    "simpler_env",
}
# Import circles inside of a package that are left, each with its reason; none may be added without one.
CIRCLES = {
    "tendon.storage.s3 tendon.storage.s3_claims tendon.storage.s3_client tendon.storage.s3_parts tendon.storage.stock "
    "tendon.storage.uri": "open_store makes stores of every kind, and the parts of the S3 store name its type",
    "tendon.export.bundle tendon.export.fresh": "the fresh process opens the bundle that is being proven",
    "tendon.data.recipe tendon.data.sources.edited tendon.data.sources.source": "an edited source opens the source that it edits",
    "tendon.evaluate.guest tendon.evaluate.sims": "what is installed is asked of a guest",
}
THIN = {"tendon.steps", "tendon.errors", "tendon.logs", "tendon.__version__"}


@dataclass(frozen=True)
class Import:
    """One imported name: its module, where it stands, and whether it runs when the file is imported."""

    module: str
    line: int
    at_top: bool
    relative: bool


def imports_of(source: str, module: str, *, is_package: bool = False) -> Iterator[Import]:
    """Every import of a file, those inside of functions and by importlib included."""
    tree = ast.parse(source)
    top = set(map(id, _running_at_import(tree)))
    for node in ast.walk(tree):
        at_top = id(node) in top
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_top, False)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                kept = package[: len(package) - node.level + 1]
                base = ".".join([*kept, base] if base else kept)
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno, at_top, node.level > 0)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield Import(name.value, node.lineno, at_top, False)


def _running_at_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _running_at_import(child)


def wrong_imports(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What a file of tendon imports against the rules."""
    package = [*module.split("."), "__init__"][1]
    wrong = []
    for one in imports_of(source, module, is_package=is_package):
        parts = one.module.split(".")
        says = f"{module}:{one.line} imports {one.module}"
        if package == "sim":
            wrong += [f"{says}: {why}" for why in _wrong_in_guest(one)]
        elif parts[0] == "tendon" and len(parts) > 1 and parts[1] in ORDER and package in ORDER:
            if ORDER.index(parts[1]) > ORDER.index(package):
                wrong.append(f"{says}: {parts[1]} stands to the right of {package}")
        elif parts[0] == "torch" and package in WITHOUT_TORCH:
            wrong.append(f"{says}: {package} works without torch")
        if parts[0] in SIMULATORS and one.at_top:
            wrong.append(f"{says} at the top: a simulator is imported inside of functions")
    return wrong


def _wrong_in_guest(one: Import) -> Iterator[str]:
    root = one.module.split(".")[0]
    if one.relative and not f"{one.module}.".startswith("tendon.sim."):
        yield "a guest does not reach out of its folder"
    elif not one.relative and root == "tendon":
        yield "a guest runs where tendon is not installed: relative imports"
    elif not one.relative and one.at_top and root not in sys.stdlib_module_names | {"numpy"}:
        yield "the top of a guest needs the standard library and numpy only"


def wrong_imports_of_wrapper(source: str, module: str) -> list[str]:
    """What a component or pipeline file imports of tendon beyond the steps."""
    return [
        f"{module}:{one.line} imports {one.module}: components and pipelines call tendon.steps only"
        for one in imports_of(source, module)
        if one.module.split(".")[0] == "tendon"
        and not any(f"{one.module}.".startswith(f"{allowed}.") for allowed in THIN)
    ]


def files_of_package() -> list[Path]:
    return sorted((SOURCE / "tendon").rglob("*.py"))


def test_every_package_has_its_place() -> None:
    packages = {file.relative_to(SOURCE / "tendon").parts[0].removesuffix(".py") for file in files_of_package()}
    assert packages - {"__init__"} <= set(ORDER), "a new package needs a place in ORDER"


def test_packages_import_to_their_left_only() -> None:
    wrong = []
    for file in files_of_package():
        path = file.relative_to(SOURCE).with_suffix("")
        is_package = path.name == "__init__"
        module = ".".join(path.parts[:-1] if is_package else path.parts)
        wrong += wrong_imports(file.read_text(encoding="utf-8"), module, is_package=is_package)
    assert not wrong, "\n".join(wrong)


def import_graph(root: Path) -> dict[str, set[str]]:
    """Every module below a folder and the modules there that it imports, those of functions and annotations included."""
    sources = {}
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root).with_suffix("")
        is_package = path.name == "__init__"
        sources[".".join(path.parts[:-1] if is_package else path.parts)] = (
            file.read_text(encoding="utf-8"),
            is_package,
        )
    graph: dict[str, set[str]] = {}
    for module, (source, is_package) in sources.items():
        graph[module] = set()
        for one in imports_of(source, module, is_package=is_package):
            target = one.module
            while target and target not in sources:  # ``a.b.Name`` is imported from ``a.b``
                target = target.rpartition(".")[0]
            # A package that names its parts in __init__ does not depend on who imports it by its short name.
            if target and target != module and not sources[target][1]:
                graph[module].add(target)
    return graph


def circles_of(graph: dict[str, set[str]]) -> list[str]:
    """The modules of each import circle, as one text: Tarjan's strongly connected components."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    circles = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for target in sorted(graph[module]):
            if target not in number:
                visit(target)
            if target in stack:
                lowest[module] = min(lowest[module], lowest[target])
        if lowest[module] == number[module]:
            circle = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(circle) > 1:
                circles.append(" ".join(sorted(circle)))

    for module in graph:
        if module not in number:
            visit(module)
    return sorted(circles)


def test_no_import_circle_without_a_reason() -> None:
    circles = circles_of(import_graph(SOURCE))
    new = sorted(set(circles) - set(CIRCLES))
    gone = sorted(set(CIRCLES) - set(circles))
    assert not new, "modules that import each other, also through functions:\n" + "\n".join(new)
    assert not gone, "cut; take it off CIRCLES:\n" + "\n".join(gone)


def test_a_circle_is_found(tmp_path: Path) -> None:
    files = {
        "house/__init__.py": "",
        "house/door.py": "from house import key",
        "house/key.py": "def turn():\n    from house.lock import Lock",
        "house/lock.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.door import Door",
        "house/roof.py": "import house.door",
    }
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    assert circles_of(import_graph(tmp_path)) == ["house.door house.key house.lock"]
    (tmp_path / "house/lock.py").write_text("")
    assert not circles_of(import_graph(tmp_path))


def test_components_and_pipelines_are_thin() -> None:
    wrong = []
    for folder in ("components", "pipelines"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if file.parent.name == "client":  # a front end of its own, like cli.py: it checks a form before it sends it
                continue
            wrong += wrong_imports_of_wrapper(file.read_text(encoding="utf-8"), str(file.relative_to(ROOT)))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("tendon.data.episode", "from tendon.loader import order", "to the right"),
        ("tendon.data.episode", "def f():\n    import tendon.train.loop.training", "to the right"),
        ("tendon.data.episode", "from tendon import train", "to the right"),
        ("tendon.data.episode", "from ..train import loop", "to the right"),
        ("tendon.storage.s3", "from tendon.config.digest import digest", "to the right"),
        ("tendon.evaluate.sims", "from tendon import cli", "to the right"),
        ("tendon.loader.order", "def f():\n    import torch", "without torch"),
        ("tendon.config.compose", "import importlib\nimportlib.import_module('torch.nn')", "without torch"),
        ("tendon.evaluate.sims", "import robosuite", "at the top"),
        ("tendon.sim.adapters.lift", "try:\n    import mujoco\nexcept ImportError:\n    pass", "numpy only"),
        ("tendon.sim.adapters.lift", "def f():\n    from tendon.sim import protocol", "relative"),
        ("tendon.sim.adapters.lift", "from ...errors import TendonError", "reach out"),
        ("tendon.sim.guest", "import torch", "numpy only"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, says: str) -> None:
    found = wrong_imports(source, module)
    assert len(found) >= 1
    assert says in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "tendon.loader.order",
            "import numpy\nfrom tendon.data.manifest import Manifest\nfrom tendon import __version__",
        ),
        ("tendon.train.loop.training", "import torch\nfrom tendon.policies import base"),
        ("tendon.sim.adapters.lift", "import numpy\nfrom ..protocol import read\ndef f():\n    import robosuite"),
        ("tendon.evaluate.sims", "from tendon.sim import protocol\ndef f():\n    import robosuite"),
        ("tendon.data.video", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import gymnasium"),
    ],
)
def test_a_right_import_passes(module: str, source: str) -> None:
    assert not wrong_imports(source, module)


def test_a_fat_wrapper_is_found() -> None:
    good = "import kfp\ndef convert():\n    from tendon import steps\n    from tendon.errors import reported\n"
    assert not wrong_imports_of_wrapper(good, "components/convert/component.py")
    for bad in (
        "from tendon.data import convert",
        "def f():\n    import tendon.train.loop.training",
        "from tendon import config",
    ):
        assert len(wrong_imports_of_wrapper(bad, "pipelines/x.py")) == 1
