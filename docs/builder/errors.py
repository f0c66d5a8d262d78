"""Every error that the sources raise, by its headline: what a user types into the search."""

from __future__ import annotations

import ast
import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docs.builder import MADE, ROOT
from tendon import errors
from tendon.errors import EXIT_CODES, TendonError

SOURCES = ("src/tendon", "pipelines")
KINDS = {
    name: kind.exit_code
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, TendonError)
}
BUILT = {**dict.fromkeys(KINDS, 0), "Problem": 0, "Conflict": 1, "Refused": 0}  # where the headline stands
TABLES = {
    "feature_map.py": 2,
    "s3_errors.py": 4,
}  # headlines stand in tuples of (what, why, fix) there, and are raised elsewhere
ELSEWHERE = {  # places whose headline comes from another one, which has its own entry
    "src/tendon/config/schema.py": "feature_map.py finds it",
    "src/tendon/errors.py": "what TendonError itself does with it",
    "src/tendon/evaluate/feature_table.py": "a table of what is missing where",
    "src/tendon/runner/kfp_patches.py": "the first cause of a step that failed",
    "src/tendon/storage/s3_errors.py": "its table of troubles",
    "src/tendon/weights/formats/robomimic/pth.py": "what its callers say",
    "pipelines/client/endings.py": "how a run ended",
}
AREAS = (  # page, title, beginnings of paths below src/tendon
    (
        "configuration",
        "Configuration and command line",
        ("config/", "plugins", "trust", "errors", "cli", "commands", "project", "api", "logs"),
    ),
    ("data", "Demonstrations and datasets", ("data/", "loader/")),
    ("policies", "Policies and weights", ("policies/", "weights/", "export/")),
    ("training", "Training", ("train/",)),
    ("evaluation", "Simulators and evaluation", ("sim/", "evaluate/")),
    ("runs", "Runs, verdicts, reports", ("runs/", "registry/", "report/", "steps")),
    ("stores", "Stores", ("storage/",)),
    ("cluster", "Pipelines and clusters", ("runner/", "doctor", "pipelines/")),
    ("others", "Files and commands of other systems", ("robomimic", "lerobot/", "internmanip/", "minestudio")),
)


@dataclass(frozen=True)
class Entry:
    """One place that raises."""

    headline: str
    why: str
    fix: str
    code: int | None
    file: str


@dataclass
class Module:
    """A parsed file."""

    path: Path
    tree: ast.Module
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    calls: dict[str, list[ast.Call]] = field(default_factory=dict)  # by the name of what is called

    @classmethod
    def of(cls, path: Path) -> Module:
        made = cls(path, ast.parse(path.read_text(encoding="utf-8")))
        for node in ast.walk(made.tree):
            made.parents.update(dict.fromkeys(ast.iter_child_nodes(node), node))
            if isinstance(node, ast.Call):
                made.calls.setdefault(_called(node), []).append(node)
        return made

    def function_of(self, node: ast.AST) -> ast.AST:
        while node in self.parents and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node = self.parents[node]
        return node


def entries() -> tuple[list[Entry], list[str]]:
    """What is raised, and the places whose headline cannot be read off the source."""
    modules = [Module.of(path) for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]
    made: dict[str, Entry] = {}
    unread = []
    for module in modules:
        for name, node in ((kind, call) for kind in BUILT for call in module.calls.get(kind, ())):
            if len(node.args) <= BUILT[name]:
                continue
            if any(isinstance(one, ast.Starred) for one in node.args):
                continue
            given = {word.arg: word.value for word in node.keywords}
            rest = node.args[BUILT[name] + 1 :]
            why = given.get("why") or (
                rest[1] if name == "Problem" and len(rest) > 1 else rest[0] if name in ("Conflict",) and rest else None
            )
            fix = given.get("fix") or (
                rest[2]
                if name == "Problem" and len(rest) > 2
                else rest[1]
                if name == "Conflict" and len(rest) > 1
                else rest[0]
                if name == "Refused" and rest
                else None
            )
            file = module.path.relative_to(ROOT).as_posix()
            exit_code = KINDS.get(name) or _code_of(module, node)
            said = [node.args[BUILT[name]], why, fix]
            before = len(made)
            for caller, call, bound in _callers(said, module, node, modules):
                texts, whys, fixes = (
                    list(
                        dict.fromkeys(
                            _texts(
                                bound(one),
                                caller if bound(one) is not one else module,
                                call if bound(one) is not one else node,
                                modules,
                            )
                        )
                    )
                    if one is not None
                    else []
                    for one in said
                )
                for number, text in enumerate(texts):
                    paired = [
                        found[number] if len(found) == len(texts) else found[0] if len(found) == 1 else ""
                        for found in (whys, fixes)
                    ]
                    made.setdefault(text, Entry(text, *paired, exit_code, file))
            if (
                len(made) == before
                and not _is_passed_on(said[0], module, node)
                and not _is_known(said[0], module, node, modules, made)
            ):
                unread.append(f"{file}:{node.lineno}")
        if module.path.name in TABLES:
            for node in ast.walk(module.tree):
                parts = node.elts[-3:] if isinstance(node, ast.Tuple) and len(node.elts) in (3, 4) else []
                texts = [next(iter(_texts(one, module, node, modules)), "") for one in parts]
                if len(texts) == 3 and all(" " in text for text in texts[:2]):
                    made.setdefault(
                        texts[0], Entry(*texts, TABLES[module.path.name], module.path.relative_to(ROOT).as_posix())
                    )
    return sorted(made.values(), key=lambda one: one.headline.lower()), unread


def _callers(
    said: list[Any], module: Module, node: ast.AST, modules: list[Module]
) -> Iterator[tuple[Module, ast.AST, Callable[[Any], Any]]]:
    """Where the headline is an argument of the function around it: each call of that, with what it says; else the place itself."""
    function = module.function_of(node)
    names = (
        [one.arg for one in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
        if isinstance(function, ast.FunctionDef)
        else []
    )
    if not (isinstance(said[0], ast.Name) and said[0].id in names and isinstance(function, ast.FunctionDef)):
        yield module, node, lambda one: one
        return
    first = names[0] in ("self", "cls")
    for other in modules if not function.name.startswith("_") else [module]:
        for call in other.calls.get(function.name, ()):
            given = dict(zip(names[first:], call.args, strict=False)) | {
                word.arg: word.value for word in call.keywords if word.arg
            }
            yield other, call, lambda one, given=given: given.get(one.id, one) if isinstance(one, ast.Name) else one


def _is_known(value: ast.expr, module: Module, node: ast.AST, modules: list[Module], made: dict[str, Entry]) -> bool:
    return any(text in made for text in _texts(value, module, node, modules))


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return (
        node.func.id
        if isinstance(node.func, ast.Name)
        else node.func.attr
        if isinstance(node.func, ast.Attribute)
        else ""
    )


def _code_of(module: Module, node: ast.AST) -> int | None:
    """Of a Problem or Conflict: what the module raises of several, if that is one kind."""
    if "config/" in module.path.as_posix() or _called(node) in ("Conflict", "Refused"):
        return 2
    kinds = {one.func.value.id for one in ast.walk(module.tree) if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute)
             and one.func.attr == "of" and isinstance(one.func.value, ast.Name) and one.func.value.id in KINDS}  # fmt: skip
    return KINDS[kinds.pop()] if len(kinds) == 1 else None


def _is_passed_on(value: ast.expr, module: Module, node: ast.AST) -> bool:
    """Whether the headline is that of another error, which has its own entry."""
    return "problem" in ast.unparse(value) or ".what" in ast.unparse(value)


def _texts(value: ast.expr, module: Module, at: ast.AST, modules: list[Module], deep: int = 0) -> Iterator[str]:
    """The texts that an expression can be, with NAMES where something is filled in."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else _hole(part) for part in value.values)
    elif isinstance(value, ast.IfExp):
        yield from _texts(value.body, module, at, modules, deep)
        yield from _texts(value.orelse, module, at, modules, deep)
    elif isinstance(value, ast.BoolOp):
        for one in value.values:
            yield from _texts(one, module, at, modules, deep)
    elif isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        left, right = (list(_texts(one, module, at, modules, deep)) or ["..."] for one in (value.left, value.right))
        yield f"{left[0]}{right[0]}"
    elif isinstance(value, ast.Name) and deep < 4:
        yield from _of_name(value.id, module, at, modules, deep)


def _of_name(name: str, module: Module, at: ast.AST, modules: list[Module], deep: int) -> Iterator[str]:
    function = module.function_of(at)
    elsewhere = [node for other in modules for node in other.tree.body] if name.isupper() else []
    for node in [*ast.walk(function), *module.tree.body, *elsewhere]:
        if isinstance(node, (ast.Assign, ast.NamedExpr, ast.AnnAssign)) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                both = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                pairs = zip(target.elts, node.value.elts, strict=False) if both else [(target, node.value)]
                for one, value in pairs:
                    if isinstance(one, ast.Name) and one.id == name:
                        yield from _texts(value, module, at, modules, deep + 1)


def _hole(part: ast.AST) -> str:
    """What stands for a value: the name of what is filled in."""
    value = part.value if isinstance(part, ast.FormattedValue) else part
    if isinstance(value, ast.Call) and value.args:
        value = value.args[0]
    name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
    return name.strip("_").upper() or "..."


def area_of(file: str) -> str:
    """The page of a file's errors."""
    inner = file.removeprefix("src/tendon/")
    return next((name for name, _, starts in AREAS if inner.startswith(starts)), "others")


def pages() -> dict[str, str]:
    """docs/errors/<area>.md."""
    every, _ = entries()
    made = {}
    for name, title, _ in AREAS:
        mine = [one for one in every if area_of(one.file) == name]
        lines = [
            f"# Errors: {title.lower()}",
            "",
            MADE,
            "",
            f"{len(mine)} headlines. Words in capitals stand for what is filled in.",
        ]
        for one in mine:
            lines += ["", f"### {_heading(one.headline)}", ""]
            said = [f"exit code {one.code}: {EXIT_CODES[one.code].partition(':')[0]}"] if one.code in EXIT_CODES else []
            said += [f"why: {_plain(one.why)}"] if one.why else []
            said += [f"fix: {_plain(one.fix)}"] if one.fix else []
            lines += [f"- {line}" for line in said]
        made[f"errors/{name}.md"] = "\n".join(lines) + "\n"
    return made


def _plain(text: str) -> str:
    for letter in "\\`*_[]":
        text = text.replace(letter, f"\\{letter}")
    return html.escape(" ".join(text.split()), quote=False)


def _heading(text: str) -> str:
    return _plain(text).replace("#", "\\#").replace("{", "&#123;")
