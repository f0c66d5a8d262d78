"""The one place that reaches into kfp: monitor its tasks, start their processes ourselves, undo its limits.

kfp.local 2.17 hides a failing task's exit code, caps every loop at two workers, indents print() once more after each
loop, finds no named output of a step in a condition, and leaves its temporary components behind. ``hooked`` replaces a
few of its functions while a run lasts, and refuses a kfp whose functions are not those it knows. Called by local.py.
"""

from __future__ import annotations

import errno
import importlib
import inspect
import json
import logging
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tendon.errors import Interrupted, MissingDependency, Problem, StorageError, TendonError
from tendon.runner.containers import Containers, resolved
from tendon.runner.processes import Finished, Processes
from tendon.runner.progress import Kind, OnEvent, StepEvent

KFP_SERIES = "2.17."
EXTRA = "pip install 'tendon-robotics[kubeflow]'"
ROOM = "give another store_uri, or make room there"
STORAGE, STOPPED = StorageError.exit_code, Interrupted.exit_code
# module, attribute, its parameters: what kfp must look like for our replacements to fit
TARGETS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "kfp.local.orchestrator.task_executor",
        "execute_single_task",
        (
            *("task_name", "task_spec", "pipeline_resource_name", "components", "executors"),
            *("io_store", "pipeline_root", "runner", "unique_pipeline_id", "fail_stack"),
        ),
    ),
    ("kfp.local.subprocess_task_handler", "run_local_subprocess", ("full_command", "env_vars")),
    (
        "kfp.local.docker_task_handler",
        "run_docker_container",
        ("client", "image", "command", "volumes", "container_run_args"),
    ),
    ("kfp.local.orchestrator.enhanced_dag_orchestrator", "ParallelExecutor", ("max_workers",)),
    ("kfp.local.logging_utils", "indented_print", ("num_spaces",)),
    ("kfp.local.logging_utils", "local_logger_context", ()),
    ("kfp.local.logging_utils", "print_horizontal_line", ()),
    ("kfp.local.io", "IOStore.get_parent_input", ("self", "key")),
    ("kfp.dsl.structures", "load_documents_from_yaml", ("component_yaml",)),
)
CHANNEL = "pipelinechannel--"
MOST_NAMES = 3  # trials of a group that its name spells out


@dataclass(frozen=True)
class TaskFailure:
    """A step that ended the run: its exit code and the problems it reported."""

    step: str
    exit_code: int
    problems: tuple[Problem, ...]


@dataclass
class Task:
    """One execution of a step, while it runs."""

    step: str
    part: str
    started_s: float = field(default_factory=time.monotonic)
    finished: Finished | None = None  # None at the end: kfp took the outputs from its cache

    @property
    def name(self) -> str:
        """``train lr_0.001``."""
        return f"{self.step} {self.part}".strip()


class TaskMonitor:
    """What one run learns of its tasks; written by kfp's threads."""

    def __init__(self, steps: Sequence[str], on_event: OnEvent, processes: Processes | Containers) -> None:
        self.seconds: dict[str, float] = {}
        self.cached: list[str] = []
        self.failures: list[TaskFailure] = []
        self.trial_failures: list[TaskFailure] = []  # of trials whose siblings went on
        self.outputs: dict[str, dict[str, Any]] = {}
        self.processes = processes
        self._steps = list(steps)
        self._on_event = on_event
        self._local = threading.local()

    def execute(self, task_name: str, arguments: dict[str, Any], run: Callable[[], Any], retries: int = 0) -> Any:
        """Around one task of kfp: events, times, exit codes. ``run`` executes it; its (outputs, status) comes back.

        Of the retries that the pipeline allows, those for an interruption (75) are made: what repeats itself (2, 3, ...)
        is the user's to see at once, and nothing here loses a node.
        """
        from kfp.local.status import Status

        if self.processes.stopping:
            return {}, Status.FAILURE
        part = part_of(arguments)
        task = self._local.task = Task(self._step_name(task_name, part), part)
        self._tell("started", task)
        try:
            outputs, status = run()
            while status != Status.SUCCESS and retries and _interrupted(task) and not self.processes.stopping:
                retries -= 1
                self._tell(
                    "line", task, f"{task_name}: interrupted (exit code {STOPPED}); again, from where it stopped"
                )
                outputs, status = run()
        except TendonError as error:
            self._fail(task, error.problems[0], error.exit_code)
            return {}, Status.FAILURE
        except OSError as error:
            self._fail(task, Problem(f"{task.name} cannot be started", task.name, str(error), ROOM), STORAGE)
            return {}, Status.FAILURE
        except Exception as error:  # outputs that kfp cannot read
            self._fail(task, Problem(f"kfp cannot go on from {task.name}", task.name, str(error), "see its log"), 1)
            return {}, Status.FAILURE
        if status != Status.SUCCESS:
            self._fail(task)
            return outputs, status
        self._end(task, outputs)
        return outputs, status

    def _step_name(self, task_name: str, part: str) -> str:
        """``convert`` for ``convert-2`` of a graph that stands beside another; the second time in a run keeps its number."""
        plain = re.sub(r"-\d+$", "", task_name)
        return task_name if task_name in self._steps and Task(plain, part).name in self.seconds else plain

    def run_process(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Stands in for kfp's own way of running a command."""
        task: Task = self._local.task
        assert isinstance(self.processes, Processes)
        task.finished = self.processes.run(full_command, env_vars or {}, lambda text: self._tell("line", task, text))
        return task.finished.exit_code

    def run_container(
        self, client: Any, image: str, command: list[str], volumes: Any, **container_run_args: Any
    ) -> int:
        """Stands in for kfp's own way of running a container."""
        task: Task = self._local.task
        assert isinstance(self.processes, Containers)
        options = {"volumes": volumes, **container_run_args}
        task.finished = self.processes.run(
            client, image, command, lambda text: self._tell("line", task, text), **options
        )
        return task.finished.exit_code

    def _end(self, task: Task, outputs: dict[str, Any]) -> None:
        self.outputs[task.name] = outputs
        self.seconds[task.name] = time.monotonic() - task.started_s
        if task.finished is None:
            self.cached.append(task.name)
            self._tell("cached", task)
            return
        outcomes = outcomes_of(outputs.get("Output") or outputs.get("outcomes"))
        if len(outcomes) == 1:
            self._tell_outcome(task, outcomes[0])
            return
        for outcome in outcomes:
            self._tell_outcome(replace(task, part=str(outcome.get("trial", ""))), outcome)
        self._tell("done", task)

    def _tell_outcome(self, task: Task, outcome: dict[str, Any]) -> None:
        """How one trial of a step ended."""
        if outcome.get("status", "ok") == "ok":
            self._tell("done", task)
        elif outcome.get("failed_step") == task.step:
            problems = problems_in(str(outcome.get("error", "")).splitlines())
            if problems:
                self.trial_failures.append(TaskFailure(task.name, 1, problems))
            self._tell("trial_failed", task, str(outcome.get("error", "")).split("\n")[0].removeprefix("error: "))
        else:
            self._tell("trial_skipped", task)

    def _fail(self, task: Task, problem: Problem | None = None, code: int = 1) -> None:
        problems: tuple[Problem, ...] = (problem,) if problem else ()
        where = ""
        if task.finished is not None and problem is None:
            code, where = task.finished.exit_code, f", log {task.finished.log}"
            problems = problems_in(task.finished.words)
            if not problems:
                code, silent = _silent_end(task, task.finished)
                problems = (silent,)
        self.failures.append(TaskFailure(task.name, STOPPED if code < 0 else code or 1, problems))
        self.seconds[task.name] = time.monotonic() - task.started_s
        if not self.processes.stopping:
            self._tell("failed", task, (f"exit code {code}" if code >= 0 else f"signal {-code}") + where)

    def _tell(self, kind: Kind, task: Task, text: str = "") -> None:
        alike = (step for step in self._steps if task.step == step or task.step.startswith(f"{step}-"))
        step = max(alike, key=len, default="")  # evaluate-share is a part of evaluate
        index = self._steps.index(step) + 1 if step else 0
        seconds = time.monotonic() - task.started_s
        self._on_event(StepEvent(kind, task.step, task.part, index, len(self._steps), seconds, text))


@contextmanager
def patched_kfp(monitor: TaskMonitor, max_parallel: int, log: Path) -> Iterator[None]:
    """Within: kfp reports to ``monitor``, runs ``max_parallel`` iterations at once, and says its own words to the log."""
    modules = check_kfp()
    executor, handler = modules["kfp.local.orchestrator.task_executor"], modules["kfp.local.subprocess_task_handler"]
    dag, words = modules["kfp.local.orchestrator.enhanced_dag_orchestrator"], modules["kfp.local.logging_utils"]
    execute_single_task, parallel_executor = executor.execute_single_task, dag.ParallelExecutor

    def execute(**kwargs: Any) -> Any:
        from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils

        spec = type(kwargs["task_spec"])()
        spec.CopyFrom(kwargs["task_spec"])
        retries = spec.retry_policy.max_retry_count
        spec.ClearField("retry_policy")  # kfp would retry whatever failed
        kwargs["task_spec"] = spec
        arguments = OrchestratorUtils.make_task_arguments(spec.inputs, kwargs["io_store"])
        kwargs["executors"] = _with_image(kwargs, arguments)
        return monitor.execute(kwargs["task_name"], arguments, lambda: execute_single_task(**kwargs), retries)

    class Parallel(parallel_executor):  # type: ignore[misc, valid-type]
        def __init__(self, max_workers: int | None = None) -> None:
            super().__init__(max_workers)
            self.conservative_max = self.max_workers = max_parallel

    replacements: list[tuple[Any, str, Any]] = [
        (executor, "execute_single_task", execute),
        (handler, "run_local_subprocess", monitor.run_process),
        (modules["kfp.local.docker_task_handler"], "run_docker_container", monitor.run_container),
        (dag, "ParallelExecutor", Parallel),
        (words, "indented_print", nullcontext),
        (words, "local_logger_context", nullcontext),
        (words, "print_horizontal_line", lambda: None),
        (modules["kfp.local.io"].IOStore, "get_parent_input", _with_named_outputs(modules["kfp.local.io"].IOStore)),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in replacements]
    with _kfp_logs_to(log), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"kfp\.")
        try:
            for module, name, value in replacements:
                setattr(module, name, value)
            yield
        finally:
            for module, name, value in before:
                setattr(module, name, value)


@contextmanager
def quick_yaml() -> Iterator[None]:
    """Within: kfp reads a pipeline with libyaml, ten times as fast; it does so each time that it looks at one."""
    structures = check_kfp()["kfp.dsl.structures"]
    slowly = structures.load_documents_from_yaml

    def load(component_yaml: str) -> Any:
        import yaml

        loader = getattr(yaml, "CSafeLoader", None)
        documents = list(yaml.load_all(component_yaml, loader)) if loader else []
        return (*documents, {})[:2] if len(documents) in (1, 2) else slowly(component_yaml)

    structures.load_documents_from_yaml = load
    try:
        yield
    finally:
        structures.load_documents_from_yaml = slowly


def check_kfp() -> dict[str, Any]:
    """The modules of kfp by name; MissingDependency when it is absent, of another series, or of another shape."""
    try:
        import kfp
    except ImportError:
        raise MissingDependency(
            "the DAG cannot run: Kubeflow Pipelines' SDK is not installed",
            where=sys.executable,
            why="no module kfp",
            fix=EXTRA,
        ) from None
    if not kfp.__version__.startswith(KFP_SERIES):
        raise MissingDependency(
            f"kfp {kfp.__version__} is installed",
            where=str(Path(kfp.__file__).parent),
            why=f"the local runner is made for kfp {KFP_SERIES}x, whose limits it works around",
            fix=EXTRA,
        )
    modules = {name: importlib.import_module(name) for name, _, _ in TARGETS}
    for name, attribute, parameters in TARGETS:
        target: Any = modules[name]
        for word in attribute.split("."):
            target = getattr(target, word, None)
        found = tuple(inspect.signature(target).parameters) if target is not None else ()
        if target is None or found != parameters:
            raise MissingDependency(
                f"kfp {kfp.__version__} has changed inside",
                where=f"{name}.{attribute}",
                why=f"its parameters are {found}, not {parameters}",
                fix=EXTRA,
            )
    return modules


def problems_in(words: Sequence[str]) -> tuple[Problem, ...]:
    """The four-line errors among the lines of a process."""
    found: list[dict[str, str]] = []
    key = ""
    for word in words:
        for start in ("error", "where", "why", "fix"):
            if word.startswith(f"{start}:"):
                key = start
                if start == "error":
                    found.append({})
                if found:
                    found[-1][start] = word.partition(":")[2].strip()
                break
        else:
            if key and found and word.strip() and key != "fix":
                found[-1][key] = found[-1].get(key, "") + "\n" + word
            else:
                key = ""
    whole = [item for item in found if len(item) == 4]
    return tuple(Problem(item["error"], item["where"], item["why"], item["fix"]) for item in whole)


def _silent_end(task: Task, finished: Finished) -> tuple[int, Problem]:
    """Exit code and four lines of a step that did not say what was wrong."""
    code, log = finished.exit_code, str(finished.log)
    last = next((word for word in reversed(finished.words) if word.strip()), "it said nothing")
    if code < 0:
        why = f"its process got signal {-code} (out of memory, or somebody stopped it)"
        return code, Problem(f"{task.name} was killed", log, why, "run the same command again: it continues")
    if any(f"[Errno {number}]" in last for number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)):
        return STORAGE, Problem(f"{task.name} could not write what it made", log, last, ROOM)
    return code, Problem(f"{task.name} ended with exit code {code}", log, last, "read the log named above")


def _interrupted(task: Task) -> bool:
    return task.finished is not None and task.finished.exit_code == STOPPED


def _with_image(kwargs: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Kfp's executors, that of this task with the image that a pipeline parameter names: kfp.local leaves it open."""
    label = kwargs["components"][kwargs["task_spec"].component_ref.name].executor_label
    found = kwargs["executors"][label]
    executor = type(found)()
    executor.CopyFrom(found)
    if executor.WhichOneof("spec") == "container":
        executor.container.image = resolved(executor.container.image, arguments)
    return {**kwargs["executors"], label: executor}


def _with_named_outputs(store_class: Any) -> Callable[[Any, str], Any]:
    """Kfp's look-up of an input, which also finds a step's named output: a condition asks for it as ``STEP-NAME``."""
    get_parent_input = store_class.get_parent_input

    def get(store: Any, key: str) -> Any:
        try:
            return get_parent_input(store, key)
        except ValueError:
            wanted, scope = key.removeprefix(CHANNEL), store
            while scope is not None:
                for task, outputs in scope._task_output_data.items():
                    if wanted.startswith(f"{task}-") and wanted.removeprefix(f"{task}-") in outputs:
                        return outputs[wanted.removeprefix(f"{task}-")]
                scope = scope._parent
            raise

    return get


def part_of(arguments: dict[str, Any]) -> str:
    """Which of the tasks of a loop this is: its trials, or its share of a conversion."""
    names = [str(name) for name in _json_list(arguments.get("trials"))]
    names = names or [str(outcome.get("trial", "")) for outcome in outcomes_of(arguments.get("outcomes"))]
    if len(names) > MOST_NAMES:
        return f"{names[0]} and {len(names) - 1} more"
    share = str(arguments.get("worker", ""))
    return ", ".join(names) or ("" if share == "0/1" else share)


def outcomes_of(value: Any) -> list[dict[str, Any]]:
    """The outcomes of trials in an output string, [] when it is something else."""
    return [outcome for outcome in _json_list(value) if isinstance(outcome, dict)]


def _json_list(value: Any) -> list[Any]:
    if not isinstance(value, str) or not value.startswith("["):
        return []
    try:
        values = json.loads(value)
    except ValueError:
        return []
    return values if isinstance(values, list) else []


@contextmanager
def _kfp_logs_to(path: Path) -> Iterator[None]:
    """Kfp logs through the root logger and one of its own: keep those records in a file, and out of the user's sight."""
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def keep(record: logging.LogRecord) -> bool:
        if f"{Path('kfp', 'local')}" not in record.pathname:
            return True
        handler.handle(record)
        return False

    root, own = logging.getLogger(), logging.getLogger("kfp.local")
    level, passed_on = root.level, own.propagate
    own.addHandler(handler)
    own.propagate = False
    root.addFilter(keep)
    root.setLevel(min(level, logging.INFO) if level else logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeFilter(keep)
        own.removeHandler(handler)
        own.propagate = passed_on
        handler.close()
