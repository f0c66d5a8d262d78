"""run_local: the compiled pipeline from its first step to its last, on this machine, or the error that ended it.

In: the YAML, arguments, a store. Out: RunResult. Everything kfp needs lies in ``<store>/.kfp`` (cache/ of convert and
stats, runs/ with one log per task) and may be deleted; what was achieved lies in the store, so a killed run is
continued by the next one.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tendon import fork_server
from tendon.errors import (
    ConfigError,
    DataError,
    GateRefused,
    Interrupted,
    MissingDependency,
    Problem,
    StorageError,
    TendonError,
    nearest,
)
from tendon.runner.containers import Containers, Docker
from tendon.runner.dag_sources import COMPILED, dag_root
from tendon.runner.kfp_patches import TaskFailure, TaskMonitor, check_kfp, patched_kfp, quick_yaml
from tendon.runner.processes import Processes, signals_stop
from tendon.runner.progress import Console, OnEvent
from tendon.runs.failures import NO_TRIAL_FINISHED

KEPT_RUNS = 5
STORE = "data_store_uri"  # the pipelines' parameter
PUBLIC = "/var/tmp"  # noqa: S108 - not /tmp, which is the containers' own
STALE_S = 3600.0
WORK, SHARED_WORK = "work", "shared work"  # conditions of pipelines/training_dag.py that exclude each other
ERROR_OF = {
    kind.exit_code: kind for kind in (ConfigError, DataError, StorageError, MissingDependency, GateRefused, Interrupted)
}

PYTHON_OF: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (float, int),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


@dataclass(frozen=True)
class RunResult:
    """A run that reached its end."""

    run_uri: str
    report_path: str
    seconds: dict[str, float]  # per task: "convert", "train lr_0.001"
    cached: tuple[str, ...]  # the tasks whose outputs came from an earlier run


def run_local(
    yaml_path: str | Path,
    arguments: dict[str, Any],
    *,
    store_uri: str,
    fresh: bool = False,
    max_parallel: int = 2,
    on_event: OnEvent | None = None,
    docker: Docker | None = None,
) -> RunResult:
    """Execute the compiled pipeline itself through kfp's subprocess runner, or its docker runner.

    Args:
        yaml_path: The compiled pipeline.
        arguments: Values of its parameters; what is left out has the default of the YAML.
        store_uri: Where everything is kept; also the pipeline's ``data_store_uri`` when that is not given.
        fresh: Forget what kfp cached of earlier runs (what the steps finished stays in the store).
        max_parallel: How many trials run at once.
        on_event: Watches the steps; a console on standard output when left out.
        docker: Run every step in a container of its image instead of a process of this interpreter.

    Raises:
        TendonError: The problems and the exit code of the step that failed; Interrupted after Ctrl-C.
    """
    with nullcontext("") if docker else fork_server.serving() as forks:
        processes = Containers() if docker else Processes(forks)  # whose server starts while we read the pipeline
        return _run(yaml_path, arguments, store_uri, fresh, max_parallel, on_event, docker, processes)


def _run(
    yaml_path: str | Path,
    arguments: dict[str, Any],
    store_uri: str,
    fresh: bool,
    max_parallel: int,
    on_event: OnEvent | None,
    docker: Docker | None,
    processes: Processes | Containers,
) -> RunResult:
    check_kfp()
    from kfp import local

    with quick_yaml():
        component = _load(yaml_path)
        spec = component.pipeline_spec
    _check_arguments(arguments, spec.root.input_definitions.parameters, str(yaml_path))
    if STORE in spec.root.input_definitions.parameters:
        arguments = {STORE: store_uri, **arguments}
    home = kfp_home(store_uri) if docker is None else shared_home(store_uri)
    _check_docker(docker, store_uri)
    monitor = TaskMonitor(steps_in_order(spec), on_event or Console(sys.stdout), processes)
    with (
        _home(home, fresh=fresh) as workspace,
        signals_stop(processes),
        quick_yaml(),
        patched_kfp(monitor, max_parallel, home / "kfp.log"),
    ):
        local.init(
            runner=local.DockerRunner(**docker.options()) if docker else local.SubprocessRunner(use_venv=False),
            pipeline_root=str(home / "runs"),
            workspace_root=str(workspace),
            raise_on_error=False,
            enable_caching=True,
            cache_root=str(home / "cache"),
        )
        component(**arguments)
    if processes.stopping:
        raise Interrupted(
            "the run was stopped",
            where=store_uri,
            why="Ctrl-C or a termination signal",
            fix="run the same command again: it continues",
        )
    if monitor.failures:
        error = _error_of(monitor.failures[0], monitor.trial_failures, home)
        error.page = _output(monitor, "report_uri")
        raise error
    return RunResult(
        _output(monitor, "run_uri"),
        _output(monitor, "report_uri"),
        dict(sorted(monitor.seconds.items())),
        tuple(sorted(monitor.cached)),
    )


def _check_docker(docker: Docker | None, store_uri: str) -> None:
    if docker is None:
        return
    if "://" not in store_uri or store_uri.startswith("file://"):
        raise ConfigError(
            "containers share no folder",
            where=f"data_store_uri={store_uri}",
            why="each step runs in a container of its own, so what it leaves for the next has to be in an object store",
            fix="data_store_uri=s3://BUCKET/PREFIX, with AWS_ENDPOINT_URL for a store of your own (docker/compose.yaml)",
        )
    try:
        importlib.import_module("docker").from_env().ping()
    except Exception as error:
        raise MissingDependency(
            "no container engine answers",
            where="DOCKER_HOST",
            why=str(error)[:200],
            fix="start docker, or --runner process",
        ) from None


def default_images() -> dict[str, str]:
    """Pipeline parameters that name the images of this checkout, as docker/build.py wrote them down; {} when it did not."""
    path = default_yaml().parents[2] / "build" / "images.json"
    if not path.is_file():
        return {}
    table = json.loads(path.read_text(encoding="utf-8"))
    return {f"cluster_image_{kind}": built["reference"] for kind, built in table.items()}


def default_yaml(pipeline: str = "policy_pipeline") -> Path:
    """A compiled pipeline of this checkout, or of the installed wheel."""
    return dag_root() / COMPILED / f"{pipeline}.yaml"


def default_arguments(yaml_path: str | Path) -> dict[str, Any]:
    """The pipeline's parameters with their defaults, as the YAML has them."""
    check_kfp()
    from kfp.local.executor_output_utils import pb2_value_to_python
    from kfp.pipeline_spec.pipeline_spec_pb2 import ParameterType

    with quick_yaml():
        parameters = _load(yaml_path).pipeline_spec.root.input_definitions.parameters
    values = {name: pb2_value_to_python(parameter.default_value) for name, parameter in parameters.items()}
    integers = {
        name for name, parameter in parameters.items() if parameter.parameter_type == ParameterType.NUMBER_INTEGER
    }
    return {name: int(value) if name in integers else value for name, value in values.items()}


def steps_in_order(spec: Any) -> list[str]:
    """Names of the steps of a pipeline spec in the order of their dependencies, those of a loop in its place.

    Of the two graphs that exclude each other it is the one that most runs take.
    """

    def walk(dag: Any) -> Iterator[str]:
        waiting = dict(dag.tasks)
        while waiting:
            ready = [name for name, task in waiting.items() if not set(task.dependent_tasks) & set(waiting)]
            titles = {name: waiting[name].task_info.name for name in ready}
            for name in ready:
                if titles[name] == SHARED_WORK and WORK in titles.values():
                    del waiting[name]
                    continue
                inner = spec.components[waiting.pop(name).component_ref.name]
                if inner.WhichOneof("implementation") == "dag":
                    yield from walk(inner.dag)
                else:
                    yield name

    return list(dict.fromkeys(walk(spec.root.dag)))


def kfp_home(store_uri: str) -> Path:
    """Where kfp's own files of a store go: inside it, or, for a remote store, in a cache folder named after it."""
    scheme, separator, rest = store_uri.partition("://")
    if not separator or scheme == "file":
        return Path(rest if separator else store_uri).expanduser().resolve() / ".kfp"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tendon" / "kfp" / hashlib.sha256(store_uri.encode()).hexdigest()[:16]


def shared_home(store_uri: str) -> Path:
    """The same for containers: they get this path mounted, and their own user has to reach it, so it is in nobody's home."""
    name = hashlib.sha256(store_uri.encode()).hexdigest()[:16]
    return Path(PUBLIC) / f"tendon-{os.getuid()}" / name


@contextmanager
def _home(home: Path, *, fresh: bool) -> Iterator[Path]:
    """The folders kfp gets, tidied up after killed runs; yields a throw-away workspace (kfp deletes it at its end)."""
    try:
        for folder in ("cache", "runs"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        kept = _forget_stale_entries(home / "cache", everything=fresh)
        _forget_old_runs(home / "runs", kept)
        workspace = Path(tempfile.mkdtemp(prefix="workspace-", dir=home))
    except OSError as error:
        raise StorageError(
            "the store cannot be written",
            where=str(home),
            why=str(error),
            fix="give another store_uri, or make room there",
        ) from None
    try:
        yield workspace
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def _forget_stale_entries(cache: Path, *, everything: bool) -> str:
    """Drop cache entries that point to data which is gone; the text of the others."""
    kept = []
    for entry in cache.iterdir():
        try:
            text = entry.read_text(encoding="utf-8")
            outputs = json.loads(text) if entry.suffix == ".json" else None
        except (OSError, ValueError):
            outputs = None
        if isinstance(outputs, dict) and not everything and all(map(_still_there, outputs.values())):
            kept.append(text)
        elif entry.suffix == ".json" or time.time() - entry.stat().st_mtime > STALE_S:
            entry.unlink(missing_ok=True)
    return "\n".join(kept)


def _still_there(value: Any) -> bool:
    return not (isinstance(value, str) and os.path.isabs(value)) or os.path.exists(value)


def _forget_old_runs(runs: Path, kept_entries: str) -> None:
    """Keep the newest runs, and those whose small artifacts the cache still points to."""
    folders = sorted(
        (folder for folder in runs.iterdir() if folder.is_dir()), key=lambda folder: folder.stat().st_mtime
    )
    for folder in folders[: -KEPT_RUNS + 1]:
        if str(folder) not in kept_entries:
            shutil.rmtree(folder, ignore_errors=True)
    for workspace in runs.parent.glob("workspace-*"):
        with suppress(OSError):
            if time.time() - workspace.stat().st_mtime > STALE_S:
                shutil.rmtree(workspace, ignore_errors=True)


def _load(yaml_path: str | Path) -> Any:
    """The pipeline as kfp's component."""
    from kfp import components

    try:
        return components.load_component_from_file(str(yaml_path))
    except Exception as error:  # kfp raises what its parsers raise
        why = str(error).split("\n")[0] or type(error).__name__
        raise ConfigError("the pipeline cannot be read", where=str(yaml_path), why=why, fix="make compile") from None


def _check_arguments(arguments: dict[str, Any], parameters: Any, where: str) -> None:
    """Every wrong name and every wrong type, at once."""
    from kfp.pipeline_spec.pipeline_spec_pb2 import ParameterType

    problems = []
    for name, value in sorted(arguments.items()):
        if name not in parameters:
            near = next((known for known in parameters if known.endswith(f"_{name}")), None)
            near = near or nearest(name, list(parameters))
            fix = f"did you mean {near}?" if near else f"one of {', '.join(parameters)}"
            problems.append(
                Problem(f"the pipeline has no parameter {name!r}", where, "it is not among its inputs", fix)
            )
            continue
        wanted = PYTHON_OF.get(ParameterType.ParameterTypeEnum.Name(parameters[name].parameter_type))
        if wanted and type(value) not in wanted:
            why = f"the pipeline wants {wanted[0].__name__}, not {type(value).__name__}"
            fix = parameters[name].description.replace("\n", " ") or f"give {name} as {wanted[0].__name__}"
            problems.append(Problem(f"{name}={value!r} has the wrong type", where, why, fix))
    if problems:
        raise ConfigError.of(problems)


def _error_of(failure: TaskFailure, trials: Sequence[TaskFailure], home: Path) -> TendonError:
    """The error of the failed step, as if it had happened here; of the first trial where all trials failed."""
    kind = ERROR_OF.get(failure.exit_code, TendonError)
    problems = failure.problems
    if problems and problems[0].what == NO_TRIAL_FINISHED and trials:
        problems = trials[0].problems
    problems = problems or (Problem(f"{failure.step} failed", str(home), "kfp did not say why", "see kfp.log there"),)
    error = kind.of(problems)
    error.exit_code = failure.exit_code
    return error


def _output(monitor: TaskMonitor, name: str) -> str:
    return next((str(outputs[name]) for outputs in monitor.outputs.values() if name in outputs), "")
