"""Compile the pipelines to pipelines/compiled/ and refresh every page that is made from them.

``python pipelines/compile.py`` writes the YAMLs, the DAG pictures and the components' pages; with ``--check`` it writes
nothing, names what is stale and exits 2; with ``--picture`` it refreshes the pages only and prints the picture. For one
cluster, ``--output FOLDER`` writes YAMLs with what no parameter can say: images of a registry, Kueue's queue, how many
trials run at once, the size of /dev/shm, a pull secret.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from kfp import compiler  # noqa: E402 - after the path, like all that follows

from components.images import IMAGES, default_images  # noqa: E402
from pipelines import drawing, pages  # noqa: E402
from pipelines.evaluate_pipeline import evaluate_pipeline  # noqa: E402
from pipelines.policy_pipeline import policy_pipeline  # noqa: E402
from pipelines.resources import PARALLEL_TRIALS, build_sentence  # noqa: E402
from pipelines.retrain_pipeline import retrain_pipeline  # noqa: E402
from pipelines.sweep_pipeline import sweep_pipeline  # noqa: E402

PIPELINES = {
    "policy_pipeline": policy_pipeline,
    "evaluate_pipeline": evaluate_pipeline,
    "retrain_pipeline": retrain_pipeline,
    "sweep_pipeline": sweep_pipeline,
}
COMPILED = ROOT / "pipelines" / "compiled" / "policy_pipeline.yaml"
LOADER, DUMPER = (getattr(yaml, f"CSafe{kind}", getattr(yaml, f"Safe{kind}")) for kind in ("Loader", "Dumper"))
QUEUE_LABEL, PRIORITY_LABEL = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"


@functools.cache
def compiled_text(name: str = "policy_pipeline") -> str:
    """The YAML as kfp writes it; the same on every machine for the pinned kfp."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        compiler.Compiler().compile(PIPELINES[name], str(path))
        return path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class ClusterOptions:
    """What is written into a pipeline for one cluster, because no parameter of a run can say it."""

    queue: str = ""
    priority: str = ""
    parallel_trials: int = 0  # 0: as compiled
    shared_memory: str = ""  # empty: as compiled
    pull_secret: str = ""

    def sentence(self) -> str:
        """The end of the pipeline's description."""
        return build_sentence(self.parallel_trials or PARALLEL_TRIALS, self.shared_memory, self.pull_secret)


def for_cluster(
    text: str,
    images: dict[str, str],
    queue: str = "",
    priority: str = "",
    *,
    options: ClusterOptions | None = None,
) -> str:
    """A compiled pipeline with other images (kind to reference), and with the options of one cluster."""
    options = options or ClusterOptions(queue, priority)
    renamed = {IMAGES[kind]: reference for kind, reference in images.items()}
    spec, platform = yaml.load_all(text, LOADER)
    pairs = ((QUEUE_LABEL, options.queue), (PRIORITY_LABEL, options.priority))
    labels = {label: value for label, value in pairs if value}
    for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        executor["podMetadata"]["labels"] |= labels
        if options.pull_secret:
            # As kfp-kubernetes writes it. No parameter: an empty name would hide the secrets of the service account.
            named = {"runtimeValue": {"constant": options.pull_secret}}
            executor["imagePullSecret"] = [{"secretName": options.pull_secret, "secretNameParameter": named}]
        for mount in executor.get("emptyDirMounts", ()) if options.shared_memory else ():
            mount["sizeLimit"] = options.shared_memory
    for component in spec["components"].values():
        for task in component.get("dag", {}).get("tasks", {}).values():
            if options.parallel_trials and "iteratorPolicy" in task:
                task["iteratorPolicy"]["parallelismLimit"] = options.parallel_trials
    info = spec["pipelineInfo"]
    info["description"] = info["description"].replace(build_sentence(PARALLEL_TRIALS), options.sentence())
    return yaml.dump_all([_renamed(spec, renamed), platform], Dumper=DUMPER, sort_keys=True)


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


def wanted_files() -> dict[Path, str]:
    """Every generated file with the text it should have."""
    texts = {COMPILED.with_name(f"{name}.yaml"): compiled_text(name) for name in PIPELINES}
    specs = {path.stem: next(yaml.load_all(text, LOADER)) for path, text in texts.items()}
    return {**texts, **pages.generated(ROOT, specs)}


def stale_files() -> list[Path]:
    """Generated files that differ from what would be generated now."""
    return [
        path for path, text in wanted_files().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def command_line() -> argparse.ArgumentParser:
    """Every option."""
    parser = argparse.ArgumentParser(
        prog="compile.py" if __name__ == "__main__" else "tendon compile",
        description="Compile the pipelines and what is drawn from them.",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 2 when something is stale")
    parser.add_argument("--picture", action="store_true", help="refresh the pages only, and print the DAG")
    parser.add_argument("--output", type=Path, help="write the YAMLs of one cluster here, and nothing else")
    parser.add_argument("--images", type=Path, help="what docker/build.py wrote: build/images.json")
    parser.add_argument("--image-prefix", default="", help="registry of the three images: registry.example/team/")
    parser.add_argument("--parallel-trials", type=int, default=0, help=f"trials at once ({PARALLEL_TRIALS})")
    parser.add_argument("--shared-memory", default="", help="size of /dev/shm of train, evaluate and conclude: 16Gi")
    parser.add_argument("--pull-secret", default="", help="secret with the registry's password, for every pod")
    parser.add_argument("--queue", default="", help="Kueue queue of every pod; not that of TrainJobs")
    parser.add_argument(
        "--priority", default="", help="Kueue priority class of every pod and TrainJob; k8s/queue has one"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line; the exit code."""
    parser = command_line()
    options = parser.parse_args(arguments)
    names = ("images", "image_prefix", "parallel_trials", "shared_memory", "pull_secret", "queue", "priority")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
    if given and not options.output:
        parser.error(f"{', '.join(given)}: a pipeline of one cluster; where to? --output FOLDER")
    if options.output:
        return _write_for_cluster(options)
    if ROOT.name == "dag" and ROOT.parent.name == "tendon":  # in an installed wheel
        parser.error("what is committed is made in a checkout only; here: --output FOLDER")
    if options.check:
        stale = stale_files()
        for path in stale:
            print(
                f"error: {path.relative_to(ROOT)} is stale\nwhere: {path}\nwhy:   sources changed\nfix:   make compile"
            )
        return 2 if stale else 0
    for path, text in wanted_files().items():
        if options.picture and path.suffix == ".yaml" and path.parent == COMPILED.parent:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    if options.picture:
        print(drawing.text(drawing.read_nodes(next(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8"))))))
    return 0


def _write_for_cluster(words: argparse.Namespace) -> int:
    table = json.loads(words.images.read_text(encoding="utf-8")) if words.images else {}
    references = default_images(words.image_prefix) if words.image_prefix else {}
    references |= {kind: built["reference"] for kind, built in table.items()}
    options = ClusterOptions(words.queue, words.priority, words.parallel_trials, words.shared_memory, words.pull_secret)
    words.output.mkdir(parents=True, exist_ok=True)
    for name in PIPELINES:
        path = words.output / f"{name}.yaml"
        path.write_text(for_cluster(compiled_text(name), references, options=options), encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
