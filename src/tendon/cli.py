"""The ``tendon`` command: parses, calls one verb of commands.py, sets the exit code. Nothing heavy is imported for --help."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from keyword import iskeyword
from typing import NoReturn

from tendon import __version__
from tendon.answers import as_document, output_lines
from tendon.errors import CONTINUES, EXIT_CODES, leave_for_words, reported

EPILOG = "exit codes:\n" + "\n".join(f"  {code:<3} {meaning}" for code, meaning in EXIT_CODES.items())


DAG_TOOLS = {  # scripts of pipelines/, with options of their own
    "compile": "the pipelines as YAML for one cluster: --output FOLDER --image-prefix REGISTRY/",
    "submit": "runs on a Kubeflow: submit, publish, schedule, watch, list, logs, open, cancel",
}
STORE_VERBS = ("ls", "show", "rm", "gc", "view", "completion")  # of store_commands.py
KEEPS_ITS_WORK = ("demo", "run", "convert", "train", "demo-data")  # after Ctrl-C; the others begin anew
BEGINS_ANEW = "run the same command again: it begins anew"


class Parser(argparse.ArgumentParser):
    """Argparse whose mistakes are four lines with the nearest word that exists."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and leave with the code of a wrong argument."""
        leave_for_words(message, self)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] and words[0] in DAG_TOOLS:
        return _dag_tool(words[0], words[1:])
    root = parser()
    _complete(root)
    if "--json" in words:
        with as_document(argparse.Namespace(), words[0], only_failures=True):
            arguments = _parsed(root, words)
    else:
        arguments = _parsed(root, words)
    if not arguments.verb:
        root.print_help()
        return 0
    again = CONTINUES if arguments.verb in KEEPS_ITS_WORK else BEGINS_ANEW
    with reported(arguments.verb, debug=arguments.debug, again=again):
        if not arguments.json:
            return _call(arguments)
        with as_document(arguments, arguments.verb):
            arguments.exit_code = _call(arguments)
        return int(arguments.exit_code)
    return 1


def _parsed(root: Parser, words: list[str]) -> argparse.Namespace:
    """The arguments of a command line, overrides on both sides of an option among them."""
    arguments, rest = root.parse_known_args(words)
    if arguments.verb in ("import", "lerobot") and "--json" in arguments.words + rest:
        arguments.json, arguments.words = True, [word for word in arguments.words if word != "--json"]
        rest = [word for word in rest if word != "--json"]
    if arguments.verb in ("import", "lerobot"):  # words of another system, or that moved: all are theirs
        arguments.words += rest
        rest = []
    if any(word.startswith("-") or "=" not in word for word in rest) or (rest and "overrides" not in arguments):
        getattr(arguments, "parser", root).error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # overrides on both sides of an option
        arguments.overrides += rest
    return arguments


def _call(arguments: argparse.Namespace) -> int:
    """The function of a verb; its exit code."""
    from tendon import logs, trust
    from tendon.named import resolve_names
    from tendon.runs.failures import by_hand

    logs.setup(arguments.verb, quiet=arguments.quiet)
    trust.allow(arguments.trust)
    name = arguments.verb.replace("-", "_")
    resolve_names(arguments)
    with by_hand():
        if arguments.verb in STORE_VERBS:
            from tendon import store_commands

            return int(getattr(store_commands, name)(arguments) or 0)
        from tendon import commands

        return int(getattr(commands, f"{name}_" if iskeyword(name) else name)(arguments) or 0)


def _complete(root: argparse.ArgumentParser) -> None:
    """Answer a shell that asks how a word goes on; it says so in the environment."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    argcomplete.autocomplete(root)


def parser() -> Parser:
    """Every verb and flag."""
    root = Parser(
        prog="tendon",
        description="From robot demonstrations to a policy whose success rate can be defended.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"tendon {__version__}")
    common = _common()
    verbs = root.add_subparsers(dest="verb", metavar="VERB")

    def verb(name: str, help: str) -> Parser:
        added: Parser = verbs.add_parser(name, help=help, description=help, parents=[common])
        added.set_defaults(parser=added)
        return added

    _run_verbs(verb)
    _step_verbs(verb)
    _store_verbs(verb)
    _tool_verbs(verb)
    lerobot = verbs.add_parser("lerobot", help="LeRobot's own command lines: tendon lerobot train policy=act env=aloha")
    lerobot.add_argument("program", choices=["train"], help="train: scripts/train.py of 2024, or today's lerobot-train")
    lerobot.add_argument(
        "words", nargs=argparse.REMAINDER, help="as LeRobot takes them; --root FOLDER of datasets, --plan"
    )
    lerobot.set_defaults(debug=False, quiet=False, trust=[], json=False)
    _moved_verbs(verbs)
    for name, help in DAG_TOOLS.items():
        verbs.add_parser(name, help=help, add_help=False)
    return root


def _dag_tool(name: str, words: Sequence[str]) -> int:
    from tendon.runner.dag_sources import run_tool

    arguments = argparse.Namespace(json="--json" in words)
    with reported(name, again=BEGINS_ANEW):
        if not arguments.json:
            return run_tool(name, words)
        with as_document(arguments, name):
            arguments.exit_code, lines = output_lines(
                lambda: run_tool(name, [word for word in words if word != "--json"])
            )
            arguments.answer = {"lines": lines}
        return int(arguments.exit_code)
    return 1


def _common() -> Parser:
    """Flags of every verb."""
    common = Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    common.add_argument(
        "--json", action="store_true", help="one JSON document on standard output, all else on standard error"
    )
    common.add_argument("--quiet", action="store_true", help="warnings and results only")
    common.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="SHA256",
        help="a Python file of this content may run: a simulator, callback, sweep or data configuration that is not"
        " installed; a FILE here says its sha256",
    )
    return common


CHECKPOINTS = "a checkpoint (TRIAL/checkpoints/STEP or /last, or its pretrained_model)"


def _may_replace(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--force", action="store_true", help="replace what is there; without this it is an error")


def _count(text: str) -> int:
    """A number of things, 0 or more."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 on")
    return int(text)


def _run_verbs(verb) -> None:  # type: ignore[no-untyped-def]
    for name, help in (
        ("demo", "the whole line on one machine: scripted demonstrations (of robosuite Lift) to a report"),
        ("run", "the whole DAG on one machine: `tendon run experiment=reach_bc --source-uri demo://reach`"),
        ("plan", "what a run would do and take, in steps, hours and money: as `tendon run`, but nothing is created"),
    ):
        run = verb(name, help)
        if name == "demo":
            tasks = ["lift", "reach", "pusht"]  # of commands.DEMOS
            run.add_argument("--task", choices=tasks, default="lift", help="reach: no simulator to install")
        run.add_argument("overrides", nargs="*", help="configuration, e.g. policy=bc training.lr=1e-3")
        run.add_argument("--source-uri", help="demonstrations: a file, s3://..., or demo://ENV?episodes=N&seed=S")
        run.add_argument(
            "--store-uri", help="where everything is kept: a folder or s3://bucket/prefix (default outputs/run)"
        )
        run.add_argument("--dataset-name", help="folder name of the converted dataset")
        run.add_argument("--config", help="a robomimic JSON instead of overrides; with --sweep its base")
        run.add_argument("--config-dir", metavar="FOLDER", help="a folder that joins the configuration (tendon init)")
        run.add_argument("--sweep", help="YAML or JSON file: a list of {key, name, group, values, value_names}")
        run.add_argument("--episodes", type=int, help="rollouts per trial on the selection seeds")
        run.add_argument("--confirm-episodes", type=int, help="rollouts of the winner on fresh seeds")
        run.add_argument("--champion", help="name of the champion to compare with")
        run.add_argument("--promote", action="store_true", default=None, help="let the gate move the champion pointer")
        run.add_argument("--gate-floor", type=float, help="a first champion's interval begins at least here (0.5)")
        run.add_argument("--gate-margin", type=float, help="by how much a challenger must be better (0)")
        run.add_argument("--gate-alpha", type=float, help="chance of ever replacing a champion wrongly (0.05)")
        run.add_argument("--perturb", help="play the winner under perturbations too: standard, or names and commas")
        run.add_argument("--gate-test", choices=["fixed", "anytime"], help="anytime: stop when it can tell")
        run.add_argument("--evaluate-workers", type=int, help="how many share the rollouts of each group of trials")
        run.add_argument("--trials-per-pod", type=int, help="trials of one step; side by side where they fit")
        run.add_argument("--budget-gpu-hours", type=float, help="trainings save and stop after so many; 0: no limit")
        run.add_argument("--gpu-hour-price", type=float, help="for the forecast, in any currency")
        run.add_argument("--cpu-hour-price", type=float, help="for the forecast")
        run.add_argument(
            "--fresh", action="store_true", help="forget cached steps (finished work in the store is still found)"
        )
        run.add_argument("--plan", action="store_true", help="print the trials and what would run; create nothing")
        run.add_argument(
            "--runner", choices=["process", "docker"], default="process", help="docker: steps in their images"
        )
        run.add_argument("--pipeline", help="compiled YAML to run (default: the one in pipelines/compiled)")


def _step_verbs(verb) -> None:  # type: ignore[no-untyped-def]
    step = verb("convert", "demonstrations to a sharded dataset")
    step.add_argument("--source-uri", required=True)
    step.add_argument("--store-uri", required=True)
    step.add_argument("--dataset-name", default="demos")
    step.add_argument("--skip-episodes", nargs="*", default=[], metavar="EPISODE")
    step.add_argument(
        "--recipe", metavar="FILE", help="edits: skip, cut, split, merge, relabel, weights; as ?recipe=FILE"
    )
    step.add_argument(
        "--workers", type=_count, default=1, help="processes on this machine; 0: as many as it is good for"
    )
    step.add_argument("--worker", default="0/1", metavar="K/N", help="this is machine K of N that share one conversion")
    step.add_argument("--resize", type=int, nargs=2, metavar=("H", "W"), help="size of every camera")
    step.add_argument("--codec", choices=["mjpeg", "npy"], default="", help="npy: raw frames up to 64 px")
    step.add_argument("--jpeg-quality", type=int, default=90)
    step.add_argument(
        "--exact", action="store_true", help="keep dtypes, raw frames and all else: it can leave byte for byte"
    )
    step.add_argument("--strict", action="store_true", help="findings are errors")
    step.add_argument(
        "--split-ratio", type=float, default=1.0, help="share of the episodes in train, the others in valid"
    )
    step.add_argument(
        "--shuffle-episodes", action="store_true", help="hold out as MineStudio shuffles, not the last by name"
    )

    step = verb("inspect", "a dataset or a source: schema, sizes, splits, findings, plots")
    step.add_argument("uri")
    step.add_argument("--format", help="of a source, when it is not recognised")
    step.add_argument(
        "--verify", action="store_true", help="read every byte; exit 3 names shard, member, offset, episode"
    )
    step.add_argument(
        "--images", action="store_true", help="of a source: decode every frame and look for faults of cameras too"
    )
    step.add_argument("--html", metavar="FILE", help="write a page that opens offline")
    _may_replace(step)

    step = verb("diff", "two datasets: which episodes were added, removed or changed, and how")
    step.add_argument("first")
    step.add_argument("second")

    step = verb("stats", "statistics and findings of a dataset's train split")
    step.add_argument("--dataset-uri", required=True)
    step.add_argument("--split", default="train")
    step.add_argument("--format", choices=["lerobot", "groot", "openpi"], help="print the file that they read")

    step = verb("train", "train one policy: `tendon train policy=bc env=lift data.uri=... training.offline_steps=...`")
    step.add_argument("overrides", nargs="*", help="configuration, e.g. policy=bc env=lift training.lr=1e-3")
    step.add_argument("--config-dir", help=f"folder of a saved configuration, or {CHECKPOINTS}")
    step.add_argument("--config-name", help="its name without .yaml, e.g. config")
    step.add_argument("--config", help="a robomimic JSON (v0.1 to v0.5) or an InternManip YAML, taken as it is")
    step.add_argument("--dataset", help="with --config: the HDF5 file or s3://... to convert and train on")
    step.add_argument("--store-uri", default="outputs/train", help="the trial is kept in STORE/trials/RUN_KEY")
    step.add_argument("--run-uri", help="repeat a trial of a run: its folder ...")
    step.add_argument("--trial", help="... and the trial's name")
    step.add_argument("--dry-run", action="store_true", help="ten updates, a validation, a checkpoint; nothing is kept")
    step.add_argument(
        "--overfit-batch", action="store_true", help="learn the first batch by heart, in a trial of its own"
    )
    step.add_argument(
        "--profile", action="store_true", help="torch's profiler over steps 8 to 18, in a trial of its own"
    )

    step = verb("export", "checkpoint to policy bundle, proven equal")
    step.add_argument("--checkpoint-uri", required=True, help=CHECKPOINTS)
    step.add_argument("--bundle-uri", help="the bundle to make")
    step.add_argument("--self-contained", action="store_true", help="base weights and adapters merged into the bundle")
    step.add_argument("--format", help=argparse.SUPPRESS)  # moved: tendon weights export
    step.add_argument("-o", "--output", help=argparse.SUPPRESS)

    step = verb("evaluate", "roll a bundle out in its simulator; success rate with interval")
    step.add_argument(
        "overrides",
        nargs="*",
        help="changes to the bundle's configuration, e.g. eval.n_episodes=100; perturb=standard: its robustness card",
    )
    step.add_argument("--bundle-uri", required=True, help=f"a bundle, or {CHECKPOINTS}")
    step.add_argument("--block", choices=["selection", "confirmation"], default="selection")
    step.add_argument("--output-uri", help="default: beside the bundle")
    step.add_argument("--worker", default="", metavar="K/N", help="this is machine K of N that share the seeds")
    step.add_argument("--eval-info", metavar="FOLDER", help="LeRobot's eval_info.json and videos into this folder too")
    step.add_argument("--results", metavar="FOLDER", help="the benchmark's own file too: of calvin, simpler, genmanip")
    _may_replace(step)

    step = verb("compare", "bundles on the same fresh seeds: which ones are better, and how sure")
    step.add_argument(
        "bundles",
        nargs="+",
        metavar="BUNDLE",
        help=f"challenger and champion, or more: a bundle, or {CHECKPOINTS}; then e.g. eval.n_episodes=200",
    )
    step.add_argument("-o", "--output", metavar="FOLDER", help="compare.json and compare.html")
    _may_replace(step)
    step.set_defaults(overrides=[])

    step = verb("curate", "rank demonstrations; a sweep of two trials, all and subset, that `tendon run` decides")
    step.add_argument("overrides", nargs="*", help="the policy that ranks, e.g. experiment=reach_bc")
    step.add_argument("--source-uri", required=True, help="demonstrations, as tendon run takes them")
    step.add_argument("--store-uri", default="outputs/run", help="where the run will keep everything")
    step.add_argument("--dataset-name", default="demos")
    step.add_argument("--folds", type=_count, default=3, help="each episode is held out of one of so many trainings")
    step.add_argument(
        "--leave-out", type=float, metavar="SHARE", help="share or number of episodes; default: a group of their own"
    )
    step.add_argument("-o", "--output", required=True, metavar="FOLDER", help="curation.json and sweep.json")
    _may_replace(step)

    for name, help in (
        ("select", "rank the trials of a run"),
        ("confirm", "the winner on fresh seeds, paired with the champion"),
        ("robustness", "the winner under the run's perturbations, each beside a clean arm on the same seeds"),
        ("report", "one HTML page and record.json of a run"),
        ("promote", "move the champion pointer if the gate agrees; exit 6 if it does not"),
    ):
        step = verb(name, help)
        step.add_argument("--run-uri", required=True)


NAMED = "a name (of tendon ls), the beginning of one, or an address"
STORE_HELP = "where to look (default: TENDON_STORE_URI, else outputs/run, outputs/demo and outputs/train)"


def _store_verbs(verb) -> None:  # type: ignore[no-untyped-def]
    step = verb("ls", "what a store holds, by name: runs, trials, datasets, champions")
    step.add_argument("kind", nargs="?", choices=["runs", "trials", "datasets", "champions"], default="runs")
    step.add_argument("--store-uri", help=STORE_HELP)
    step.add_argument("--last", type=_count, default=0, metavar="N", help="only the newest N")
    step.add_argument("--names", action="store_true", help="the names alone, one in a line")

    step = verb("show", "one run, trial, dataset or champion: what is known of it")
    _named(step.add_argument("what", metavar="NAME", help=NAMED))
    step.add_argument("--store-uri", help=STORE_HELP)

    step = verb("view", "pictures: a dataset, an evaluation, a trial, a run, or all runs of a store, as one local page")
    _named(step.add_argument("uri", metavar="NAME", help=f"{NAMED}; a store: the page over all its runs"))
    step.add_argument("--store-uri", help=STORE_HELP)
    step.add_argument("--out", metavar="FILE", help="write one self-contained page instead of serving it")
    step.add_argument("--rrd", metavar="FILE", help="write episodes of a dataset as a Rerun recording")
    step.add_argument("--episodes", nargs="*", default=[], metavar="ID", help="with --out and --rrd: which episodes")
    step.add_argument("--port", type=_count, default=0, help="of localhost (default: any that is free)")
    step.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    _may_replace(step)

    step = verb("rm", "delete runs, trials or datasets: the plan first, with --yes the deletion")
    _named(step.add_argument("what", nargs="+", metavar="NAME", help=NAMED))
    step.add_argument("--store-uri", help=STORE_HELP)
    step.add_argument("--yes", action="store_true", help="delete it; without this the plan is only printed")
    step.add_argument("--force", action="store_true", help="also what a champion rests on")

    step = verb("gc", "what lies in a dataset's folder, or anywhere in a store after a kill, and belongs to nothing")
    place = step.add_mutually_exclusive_group(required=True)
    place.add_argument("--dataset-uri")
    place.add_argument("--store-uri", help="only what killed writes left, of runs too")
    step.add_argument("--yes", "--delete", action="store_true", help="delete it; without this it is only listed")

    step = verb("completion", 'completion of verbs, options and names: `eval "$(tendon completion bash)"`')
    step.add_argument("shell", choices=["bash", "zsh", "fish"])


def _named(argument: argparse.Action) -> None:
    """Let a shell complete the names of what lies in the store."""

    def complete(prefix: str, parsed_args: argparse.Namespace, **rest: object) -> list[str]:
        from tendon.store_commands import complete_names

        return complete_names(prefix, parsed_args, **rest)

    argument.completer = complete  # type: ignore[attr-defined]


def _tool_verbs(verb) -> None:  # type: ignore[no-untyped-def]
    tool = verb("init", "a folder for your own demonstrations: configuration, feature map, the five commands")
    tool.add_argument("folder", metavar="DIR")
    tool.add_argument("--source", default="", metavar="URI", help="the demonstrations: a file, a folder, s3://...")
    tool.add_argument("--simulator", default="", help="of `tendon sims list`, a Python file with an Adapter, or none")
    tool.add_argument("--task", default="", help="what the simulator calls it (default: as the demonstrations say)")
    tool.add_argument("--name", default="", help="of its files (default: that of the demonstrations)")
    tool.add_argument("--policy", default="bc", help="a file of conf/policy, such as act or diffusion")
    tool.add_argument("--steps", type=int, default=2000, help="optimiser steps of its training")
    tool.add_argument("--store-uri", default="", help="where its runs are kept (default outputs/NAME)")
    _may_replace(tool)

    tool = verb(
        "demo-data",
        "record a scripted expert in any format: `tendon demo-data env=lift --episodes 200 -o lift.hdf5`",
    )
    tool.add_argument("overrides", nargs="*", help="e.g. env=lift")
    tool.add_argument("--episodes", type=int, default=100)
    tool.add_argument("--seed", type=int, default=1)
    tool.add_argument(
        "--noise", type=float, default=0.05, help="standard deviation of the noise in the executed actions"
    )
    tool.add_argument(
        "--images",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="camera images too (the default where env.observation names some)",
    )
    tool.add_argument(
        "--format",
        choices=["robomimic", "lerobot", "modality", "minestudio", "shards"],
        default="robomimic",
        help="robomimic (an HDF5 file; the default), lerobot (v3.0), modality, minestudio, or shards: a converted dataset",
    )
    tool.add_argument(
        "-o", "--output", required=True, help="the file or folder to make; of shards the store, e.g. outputs"
    )
    _may_replace(tool)

    tool = verb("export-data", "a dataset in a foreign format: `tendon export-data DATASET OUT --to lerobot-v3.0`")
    tool.add_argument("dataset_uri", metavar="DATASET", help="a converted dataset, local or s3://")
    tool.add_argument("output", metavar="OUT", help="what is made: a folder or file that does not exist, or s3://...")
    tool.add_argument(
        "--to", required=True, metavar="FORMAT", help="lerobot-v3.0, lerobot-v2.1, modality, robomimic, minestudio-v1.1"
    )
    _may_replace(tool)

    _weights_verbs(verb("weights", "policies in the files of other systems: import, export, inspect"))

    tool = verb("sweep", "the trials a sweep file makes, by name; with --config robomimic's JSON files and script")
    tool.add_argument("sweep", help="YAML or JSON file, or a Python file with make_generator(config_file, script_file)")
    tool.add_argument("overrides", nargs="*", help="the configuration they vary")
    tool.add_argument("--config", help="a robomimic JSON: one more is written for each trial")
    tool.add_argument("--script", help="with --config: the shell script that runs them one after the other")
    tool.add_argument("--command", default="python train.py", help="what the script runs: `tendon train` for ours")

    tool = verb("sims", "simulators: `tendon sims list`, `tendon sims install robosuite`")
    tool.add_argument("action", choices=["list", "install"])
    tool.add_argument("name", nargs="?")

    tool = verb("doctor", "what this machine has, what it lacks, and the command that repairs it")
    tool.add_argument("--store-uri", default="outputs")
    tool.add_argument("--kfp-host", help="endpoint of Kubeflow Pipelines")


def _moved_verbs(verbs) -> None:  # type: ignore[no-untyped-def]
    """Words that are answered with the new ones; in no list."""
    old = verbs.add_parser("import", add_help=False)
    old.add_argument("words", nargs=argparse.REMAINDER)
    old.set_defaults(debug=False, quiet=False, trust=[], json=False)


def _weights_verbs(weights: argparse.ArgumentParser) -> None:
    actions = weights.add_subparsers(dest="action", metavar="ACTION", required=True)
    formats = "a format of the table, e.g. robomimic-0.5; a wrong one lists them all"

    def action(name: str, help: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=help, description=help, parents=[_common()])
        added.set_defaults(parser=added)
        return added

    one = action("import", "a file of another system to a bundle, proven equal")
    one.add_argument("file", help="e.g. a robomimic .pth")
    one.add_argument("overrides", nargs="*", help="where it is evaluated, e.g. env=lift")
    one.add_argument("--bundle-uri", required=True)
    _may_replace(one)
    one.add_argument("--format", default="", help=f"when it is not recognised: {formats}")

    one = action("export", "a checkpoint or bundle to a file of another system, proven equal")
    one.add_argument("source_uri", metavar="SOURCE", help=f"a bundle, or {CHECKPOINTS}")
    one.add_argument("--format", required=True, help=formats)
    one.add_argument("-o", "--output", required=True, help="what to write; its parity record stands beside it")
    _may_replace(one)

    one = action("inspect", "what is in a checkpoint, bundle, safetensors or a file of another system; its sha256")
    one.add_argument("file")
    one.add_argument("--format", default="", help=f"when it is not recognised: {formats}")


if __name__ == "__main__":
    sys.exit(main())
