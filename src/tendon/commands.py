"""What each verb of the command line does: arguments to one call, and an end card with the next command. Called by cli.main only."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
from argparse import Namespace
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tendon import steps
from tendon.errors import ConfigError, GateRefused, Problem, TendonError
from tendon.logs import duration, end_card
from tendon.storage import join, open_store
from tendon.storage.outputs import refuse_existing, writing
from tendon.train.state.checkpoint import policy_at
from tendon.trust import PARAMETER, allowed

if TYPE_CHECKING:
    from tendon.config.generator import ConfigGenerator
    from tendon.config.schema import TrainConfig

DEMOS: dict[str, dict[str, Any]] = {  # task: parameters of the pipeline
    "lift": {
        "data_source_uri": "demo://lift?episodes=100&seed=1",
        "policy_config": "experiment=lift_bc",
        "policy_sweep": [{"key": "training.lr", "name": "lr", "group": 0, "values": [1e-3, 1e-4]}],
        "evaluate_episodes": 50,
        "evaluate_confirm_episodes": 100,
    },
    "reach": {  # its simulator is part of tendon: half a minute, nothing to install
        "data_source_uri": "demo://reach?episodes=40&seed=1",
        "policy_config": "experiment=reach_bc",
        "evaluate_episodes": 50,
        "evaluate_confirm_episodes": 50,
    },
    "pusht": {  # its corners, a small Diffusion Policy
        "data_source_uri": "demo://pusht_keypoints?episodes=250&seed=1",
        "policy_config": "experiment=pusht_diffusion",
        "evaluate_episodes": 50,
        "evaluate_confirm_episodes": 50,
    },
}
PARAMETERS = {  # option of the command line: parameter of the pipeline
    "source_uri": "data_source_uri",
    "store_uri": "data_store_uri",
    "dataset_name": "data_name",
    "episodes": "evaluate_episodes",
    "confirm_episodes": "evaluate_confirm_episodes",
    "champion": "gate_champion",
    "promote": "gate_promote",
    "gate_floor": "gate_floor",
    "gate_margin": "gate_margin",
    "gate_alpha": "gate_alpha",
    "gate_test": "gate_test",
}
PLANNED = PARAMETERS | {  # argument of make_plan: parameter of the pipeline
    "config": "policy_config",
    "sweep": "policy_sweep",
    "convert_workers": "data_convert_workers",
    "trials_per_pod": "policy_trials_per_pod",
    "trial_retries": "policy_trial_retries",
}


LEROBOT_HELP = """tendon lerobot train WORDS: as python lerobot/scripts/train.py (2024, Hydra) or lerobot-train takes them

  policy=act env=aloha KEY=VALUE ...    the page's words; none at all: Diffusion Policy on PushT
  --config-dir FOLDER --config-name config   a saved configuration, of tendon's or LeRobot's; s3://.../checkpoints/last/pretrained_model too
  -m KEY=1,2                            one run for each value
  --policy.type=act --dataset.root=FOLDER ...   today's flags; --config_path=train_config.json
  --root FOLDER                         where datasets lie by their names (else DATA_DIR, data/, the store, the hub's caches)
  --store-uri URI                       where converted datasets are kept (default outputs/train)
  --plan                                check, make nothing

docs/from-lerobot.md has the page and tendon side by side."""


def demo(arguments: Namespace) -> int:
    """The whole line with defaults that show something."""
    task = arguments.task
    return _run(arguments, {"data_store_uri": "outputs/demo", "data_name": task} | DEMOS[task])


def run(arguments: Namespace) -> int:
    """The whole line with the caller's parameters."""
    return _run(arguments, {"data_store_uri": "outputs/run"})


def _run(arguments: Namespace, defaults: dict[str, Any]) -> int:
    from tendon.runner import Console, Docker, default_arguments, default_images, default_yaml, run_local

    yaml_path = Path(arguments.pipeline) if arguments.pipeline else default_yaml()
    given = {
        parameter: getattr(arguments, option)
        for option, parameter in PARAMETERS.items()
        if getattr(arguments, option) is not None
    }
    parameters = default_arguments(yaml_path) | defaults | given
    if arguments.overrides:
        parameters["policy_config"] = " ".join([defaults.get("policy_config", ""), *arguments.overrides]).strip()
    if arguments.config:
        parameters |= _robomimic_run(arguments)
    elif arguments.sweep:
        parameters["policy_sweep"] = load_sweep(arguments.sweep)
    for name in ("data_store_uri", "data_source_uri"):
        if "://" not in parameters[name]:
            parameters[name] = str(Path(parameters[name]).resolve())
    if allowed():
        parameters[PARAMETER] = ",".join(sorted(allowed()))
    if arguments.plan:
        return _print_plan(parameters)
    docker = Docker() if arguments.runner == "docker" else None
    if docker:
        parameters |= default_images()
    result = run_local(
        yaml_path,
        parameters,
        store_uri=parameters["data_store_uri"],
        fresh=arguments.fresh,
        docker=docker,
        on_event=Console(sys.stdout, quiet=arguments.quiet),
    )
    selection = json.loads(open_store(result.run_uri).read("selection.json"))
    confirmation = json.loads(open_store(result.run_uri).read("confirmation.json"))
    rows = {
        "verdict": confirmation["verdict"]["sentence"],
        "winner": f"{selection['winner']} of {len(selection['leaderboard'])} trial(s)",
        "run": result.run_uri,
        "report": result.report_path,
    }
    print(end_card("done", list(rows.items()), _promotion(result.run_uri)))
    return 0


def _promotion(run_uri: str) -> str:
    """The command that makes the winner champion; empty when the gate says no, or it is champion already."""
    from tendon.registry.champion import read_champion
    from tendon.registry.confirmation import load_confirmation
    from tendon.registry.protocol import protocol_of_run
    from tendon.runs.plan import load_plan

    run = load_plan(run_uri)
    champion = read_champion(open_store(run.store_uri), run.champion, protocol_of_run(run)).champion
    is_champion = champion is not None and champion.run_uri == run.run_uri
    would = load_confirmation(run_uri).verdict.promotes and not is_champion
    return f"tendon promote --run-uri {shlex.quote(run_uri)}" if would else ""


def _robomimic_run(arguments: Namespace) -> dict[str, Any]:
    """What a run of a robomimic JSON, or of its hyperparameter helper, takes; the command line's overrides come last."""
    from tendon.config.foreign.robomimic import read_json
    from tendon.config.generator import trial_keys

    tree = read_json(arguments.config)
    if arguments.sweep:
        parameters = load_generator(arguments.sweep, arguments.config).pipeline()
    else:
        pairs = trial_keys(tree, arguments.config).items()
        parameters = {"policy_config": " ".join(f"{key}={value}" for key, value in pairs), "policy_sweep": []}
    parameters["policy_config"] = " ".join([parameters["policy_config"], *arguments.overrides])
    data = tree.get("train", {}).get("data")
    return parameters | ({"data_source_uri": data} if isinstance(data, str) and not arguments.source_uri else {})


def _print_plan(parameters: dict[str, Any]) -> int:
    from tendon.registry.outlook import gate_outlook
    from tendon.runs.gate_rule import GateRule
    from tendon.runs.planner import make_plan

    named = {argument: parameters[name] for argument, name in PLANNED.items() if not argument.startswith("gate_")}
    plan = make_plan(**named, gate=GateRule(*(parameters[f"gate_{field.name}"] for field in fields(GateRule))))
    print(f"run      {plan.run_uri}\nsource   {plan.source_uri} ({plan.source_digest})\ndataset  {plan.dataset_uri}")
    for trial in plan.trials:
        print(f"trial    {trial.name:<40} {trial.run_key}  {' '.join(trial.overrides)}")
    print(f"rollouts {len(plan.trials)} x {plan.episodes} to select, {plan.confirm_episodes} to confirm")
    print(f"gate     {gate_outlook(plan)}\nNothing was created.")
    return 0


def load_sweep(path: str) -> list[dict[str, Any]]:
    """The sweep in a YAML or JSON file."""
    from tendon.config.sweep import read_sweep

    loaded = read_sweep(Path(path))
    return loaded if isinstance(loaded, list) else [loaded]  # type: ignore[list-item]


def convert(arguments: Namespace) -> int:
    """Demonstrations to shards."""
    try:
        result = steps.convert(
            source_uri=_with_recipe(arguments.source_uri, arguments.recipe),
            store_uri=arguments.store_uri,
            dataset_name=arguments.dataset_name,
            skip_episodes=tuple(arguments.skip_episodes),
            workers=arguments.workers,
            worker=arguments.worker,
            resize=tuple(arguments.resize) if arguments.resize else None,
            codec=arguments.codec,
            jpeg_quality=arguments.jpeg_quality,
            exact=arguments.exact,
            strict=arguments.strict,
            split_ratio=arguments.split_ratio,
            shuffle_episodes=arguments.shuffle_episodes,
        )
    except TendonError as error:
        raise _in_options(error) from error
    rows = {"dataset": result.dataset_uri, "episodes": result.num_episodes, "frames": result.num_frames}
    print(end_card("converted", list(rows.items()), f"tendon stats --dataset-uri {shlex.quote(result.dataset_uri)}"))
    return 0


def _with_recipe(uri: str, recipe: str | None) -> str:
    return f"{uri}{'&' if '?' in uri else '?'}recipe={recipe}" if recipe else uri


def _in_options(error: TendonError) -> TendonError:
    """The same error, whose advice names options of this command where a run has keys of its configuration."""

    def translated(fix: str) -> str:
        listed = re.sub(
            r"data\.skip_episodes=\[([^\]]*)\]", lambda ids: f"--skip-episodes {ids[1].replace(',', ' ')}".rstrip(), fix
        )
        return listed.replace("data.skip_episodes", "--skip-episodes")

    problems = [Problem(each.what, each.where, each.why, translated(each.fix)) for each in error.problems]
    return type(error).of(problems)


def inspect(arguments: Namespace) -> int:
    """Show what is in a dataset or a source; with --verify every byte is read."""
    from tendon.data.dataset import open_dataset
    from tendon.data.inspect import inspect_uri
    from tendon.data.inspect_text import draw
    from tendon.data.verify import find_damage
    from tendon.errors import DataError
    from tendon.logs import Progress

    if arguments.html:
        refuse_existing(arguments.html, force=arguments.force)
    damage = []
    if arguments.verify:
        dataset = open_dataset(arguments.uri)
        with Progress("inspect", len(dataset.manifest.shards), "shards verified") as bar:
            damage = list(find_damage(dataset, bar.follow))
    if damage:  # what is damaged cannot be drawn
        raise DataError.of(damage)
    with Progress("inspect", None, "episodes read") as bar:
        found = inspect_uri(arguments.uri, arguments.format, bar.follow, images=arguments.images)
    print(draw(found))
    if arguments.verify:
        print("\nverified: every shard has the bytes that were committed")
    if arguments.html:
        from tendon.report.dataset_page import render_dataset

        with writing(arguments.html):
            Path(arguments.html).write_text(render_dataset(found), encoding="utf-8")
        print(f"\npage: {arguments.html}")
    return 3 if found.problems else 0


def diff(arguments: Namespace) -> int:
    """What changed between two datasets, by episode."""
    from tendon.data.diff import diff as difference_of
    from tendon.data.diff import draw

    print(draw(difference_of(arguments.first, arguments.second)))
    return 0


def gc(arguments: Namespace) -> int:
    """List or delete what no manifest names."""
    from tendon.data.gc import collect_garbage, find_garbage, find_leftovers, sweep_leftovers

    if arguments.dataset_uri:
        option, uri, find, delete = "dataset", arguments.dataset_uri, find_garbage, collect_garbage
    else:
        option, uri, find, delete = "store", arguments.store_uri, find_leftovers, sweep_leftovers
    garbage = (delete if arguments.delete else find)(uri)
    for each in garbage.objects:
        print(f"{each.size:>12}  {each.key}")
    rows = {"objects": len(garbage.objects), "bytes": garbage.bytes}
    done = arguments.delete or not garbage.objects
    following = "" if done else f"tendon gc --delete --{option}-uri {shlex.quote(uri)}"
    print(end_card("deleted" if arguments.delete else "not needed", list(rows.items()), following))
    return 0


def stats(arguments: Namespace) -> int:
    """Statistics of a dataset."""
    result = steps.stats(dataset_uri=arguments.dataset_uri, split=arguments.split)
    if arguments.format:
        from tendon.data.dataset import open_dataset
        from tendon.data.stats import DatasetStats
        from tendon.data.stats_files import FORMATS

        found = DatasetStats.from_json(json.dumps(result.stats))
        manifest = open_dataset(arguments.dataset_uri).manifest
        print(json.dumps(FORMATS[arguments.format](found, manifest), indent=1))
        return 0
    print(end_card("statistics", list({"stats": result.stats_uri}.items()), _training(arguments.dataset_uri)))
    return 0


def _training(dataset_uri: str) -> str:
    """The command that trains on a dataset; empty where it does not say which environment it is of."""
    from tendon.data.dataset import open_dataset

    described = open_dataset(dataset_uri).manifest.metadata.get("env_args")
    task = described.get("env_name") if isinstance(described, dict) else None
    folder = Path(__file__).parent / "conf" / "env"
    named = [file.stem for file in folder.glob("*.yaml") if f"  task: {task}\n" in file.read_text(encoding="utf-8")]
    if len(named) != 1:
        return ""
    return f"tendon train policy=bc env={named[0]} data.uri={shlex.quote(dataset_uri)} training.offline_steps=2000"


def train(arguments: Namespace) -> int:
    """Train one policy, alone or as a trial of a run."""
    from tendon.config.compose import compose
    from tendon.runs.plan import load_plan
    from tendon.runs.planner import pinned, run_key

    store_uri = arguments.store_uri
    if arguments.run_uri:
        run = load_plan(arguments.run_uri)
        config, trial_uri = run.config_of(arguments.trial), run.trial_uri(arguments.trial)
    elif arguments.config and arguments.config.endswith((".yaml", ".yml")):
        from tendon import internmanip

        made = internmanip.configure(arguments.config, arguments.dataset, arguments.store_uri, arguments.overrides)
        config, trial_uri, store_uri = made.config, made.trial_uri, made.store_uri
        if not arguments.dry_run:
            internmanip.write_statistics(config, trial_uri, made.embodiment)
    elif arguments.config:
        from tendon import robomimic

        config = robomimic.configure(arguments.config, arguments.dataset, arguments.store_uri, arguments.overrides)
        trial_uri = join(arguments.store_uri, "trials", run_key(config))
    else:
        with steps.saved_config(arguments.config_dir, arguments.config_name) as (folder, name):
            config = pinned(compose(arguments.overrides, config_dir=folder, config_name=name))
        trial_uri = ""
    changes: dict[str, Any] = {"overfit_batch": True} if arguments.overfit_batch else {}
    changes |= {"callbacks": (*config.training.callbacks, "Profiler")} if arguments.profile else {}
    config = replace(config, training=replace(config.training, **changes))
    if changes or not trial_uri:
        trial_uri = join(store_uri, "trials", run_key(config))
    if arguments.dry_run:
        return _print_dry_run(config, trial_uri)
    result = steps.train(config=config, dataset_uri=config.data.uri, trial_uri=trial_uri)
    rows = {"checkpoint": result.checkpoint_uri, "step": result.step, "weights": result.weights_sha256[:16]}
    bundle = join(trial_uri, "bundle")
    following = (
        f"tendon export --checkpoint-uri {shlex.quote(result.checkpoint_uri)} --bundle-uri {shlex.quote(bundle)}"
    )
    print(end_card("trained", list(rows.items()), following))
    return 0


def lerobot(arguments: Namespace) -> int:
    """A LeRobot command line, as it is."""
    from tendon.lerobot import train as train_as_lerobot

    if {"--help", "-h"} & set(arguments.words):
        print(LEROBOT_HELP)
        return 0
    runs = train_as_lerobot(arguments.words)
    if not runs:
        print("checked; nothing was made. Leave --plan out to train.")
        return 0
    rows: list[tuple[str, object]] = []
    for run in runs:
        loss = run.result.metrics.get("train_loss")
        what = f"{' '.join(run.overrides)} loss:{loss:.3f} " if len(runs) > 1 and loss is not None else ""
        rows.append(("checkpoint", f"{what}{run.result.checkpoint_uri}"))
    following = f"tendon export --checkpoint-uri {shlex.quote(runs[-1].result.checkpoint_uri)} --bundle-uri "
    print(end_card("trained", rows, following + shlex.quote(join(runs[-1].run_dir, "bundle"))))
    return 0


def _print_dry_run(config: TrainConfig, trial_uri: str) -> int:
    seen = steps.dry_run_training(config=config, dataset_uri=config.data.uri, trial_uri=trial_uri)
    rows = {
        "step": f"{1000 * seen.step_s:.1f} ms, all {config.training.offline_steps}: {duration(seen.total_s)}",
        "memory": f"{seen.device_bytes / 2**20:.0f} MiB before activations",
        "disk": f"{seen.checkpoint_bytes / 2**20:.1f} MiB a checkpoint, {seen.num_kept} stay",
        "would go to": trial_uri,
    }
    print(end_card("dry run, nothing was kept", list(rows.items()), "the same command without --dry-run"))
    return 0


def export(arguments: Namespace) -> int:
    """Checkpoint to bundle."""
    if arguments.format:
        new = ["tendon weights export", shlex.quote(arguments.checkpoint_uri), f"--format {arguments.format}"]
        raise _moved("tendon export --format", " ".join([*new, f"-o {shlex.quote(arguments.output or 'FILE')}"]))
    if not arguments.bundle_uri:
        raise ConfigError(
            "no bundle is named", where="tendon export", why="--bundle-uri is missing", fix="--bundle-uri URI"
        )
    digest = steps.export(
        checkpoint_uri=policy_at(arguments.checkpoint_uri),
        bundle_uri=arguments.bundle_uri,
        self_contained=arguments.self_contained,
    )
    rows = {"bundle": arguments.bundle_uri, "digest": digest}
    print(end_card("exported", list(rows.items()), f"tendon evaluate --bundle-uri {shlex.quote(arguments.bundle_uri)}"))
    return 0


def _moved(old: str, new: str) -> ConfigError:
    return ConfigError(
        f"{old} is called otherwise now",
        where="command line",
        why="files of other systems have one verb, tendon weights",
        fix=new,
    )


def import_(arguments: Namespace) -> int:
    """The old word for ``weights import``."""
    raise _moved("tendon import", f"tendon weights import {shlex.join(arguments.words)}")


def weights(arguments: Namespace) -> int:
    """Files of other systems: in, out, and what is in them."""
    return {"import": _import_weights, "export": _export_weights, "inspect": _inspect_weights}[arguments.action](
        arguments
    )


def _import_weights(arguments: Namespace) -> int:
    from tendon.export.foreign import import_weights

    digest, notes = import_weights(arguments.file, arguments.bundle_uri, arguments.overrides, arguments.format)
    for note in () if arguments.quiet else notes:
        sys.stderr.write(f"note: {note}\n")
    rows = {"bundle": arguments.bundle_uri, "digest": digest}
    print(end_card("imported", list(rows.items()), f"tendon evaluate --bundle-uri {shlex.quote(arguments.bundle_uri)}"))
    return 0


def _export_weights(arguments: Namespace) -> int:
    from tendon.export.foreign import export_weights

    refuse_existing(arguments.output, f"{arguments.output}.parity.json", force=arguments.force)
    with writing(arguments.output):
        record = export_weights(policy_at(arguments.source_uri), arguments.output, arguments.format)
    rows = {"file": arguments.output, "parity": f"largest difference of an action {record.max_abs_difference:g}"}
    print(end_card("exported", list(rows.items()), ""))
    return 0


def _inspect_weights(arguments: Namespace) -> int:
    from tendon.weights.address import bring
    from tendon.weights.inspect import draw, inspect_weights

    uri = policy_at(arguments.file)
    if open_store(uri).head("pretrained_model/policy.json") is not None:
        uri = join(uri, "pretrained_model")
    with tempfile.TemporaryDirectory(prefix="tendon-inspect-") as scratch:
        print(draw(inspect_weights(bring(uri, Path(scratch)), arguments.format)))
    return 0


def evaluate(arguments: Namespace) -> int:
    """Roll a bundle out."""
    from tendon.evaluate.lerobot_info import in_lerobots_words, write_eval_info
    from tendon.evaluate.table import SUCCESS_RULE

    bundle_uri, overrides = steps.bundle_of(arguments.bundle_uri, arguments.overrides)
    config = steps.bundle_config(bundle_uri, overrides)
    asked: dict[str, Any] = {
        "bundle_uri": bundle_uri,
        "config": config,
        "block": arguments.block,
        "run_id": steps.compared_seeds(bundle_uri, overrides=overrides) if arguments.block == "confirmation" else "",
        "evaluations_uri": arguments.output_uri or "",
    }
    if arguments.worker:
        played = steps.evaluate_part(**asked, share=arguments.worker)
        print(
            end_card(
                "evaluated a share", [("episodes", played)], "the same command without --worker, when all are done"
            )
        )
        return 0
    table = steps.evaluate(**asked)
    rows = {
        "rate": steps.rate_of(table),
        "success": table.summary.get("success_rule", SUCCESS_RULE),
        "table": table.uri,
    }
    if arguments.eval_info:
        rows |= {"lerobot": in_lerobots_words(table), "eval_info": str(write_eval_info(table, arguments.eval_info))}
    if arguments.results:
        from tendon.evaluate.benchmark_results import write_results

        rows["results"] = str(write_results(table.rows, config.env.simulator, config.env.task, arguments.results))
    print(end_card("evaluated", list(rows.items()), ""))
    return 0


def compare(arguments: Namespace) -> int:
    """Bundles on the same fresh seeds: two by the gate's verdict, more with the error held over all pairs."""
    from tendon.report.comparison import split_bundles

    uris, overrides = split_bundles(arguments.bundles)
    overrides = [*overrides, *arguments.overrides]
    result = steps.compare_bundles(bundle_uris=[policy_at(uri) for uri in uris], overrides=overrides)
    rows: dict[str, object] = {}
    if len(uris) == 2:
        rows = {"challenger": result.rates[0], "champion": result.rates[1], "verdict": result.verdict}
    else:
        rows = {f"{one.letters:<4} {one.name}": f"{one.rate:.3f} ({one.interval_95.low:.2f}-{one.interval_95.high:.2f}, "
                f"{one.successes}/{one.n})" for one in result.comparison.standings}  # fmt: skip
        rows["verdict"] = result.verdict
    if arguments.output:
        folder = Path(arguments.output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "compare.json").write_text(json.dumps(result.to_dict(), indent=1) + "\n", encoding="utf-8")
        (folder / "compare.html").write_text(result.html, encoding="utf-8")
        rows["page"] = str(folder / "compare.html")
    print(end_card("compared", list(rows.items()), ""))
    return 0


def select(arguments: Namespace) -> int:
    """Rank the trials of a run again from what the run recorded."""
    result = steps.select(run_uri=arguments.run_uri)
    print(
        end_card(
            "selected",
            list({"winner": result.winner or "none"}.items()),
            f"tendon confirm --run-uri {shlex.quote(arguments.run_uri)}" if result.winner else "",
        )
    )
    return 0


def confirm(arguments: Namespace) -> int:
    """The winner on fresh seeds."""
    result = steps.confirm(run_uri=arguments.run_uri)
    print(
        end_card(
            "confirmed",
            list({"verdict": result.verdict}.items()),
            f"tendon report --run-uri {shlex.quote(arguments.run_uri)}",
        )
    )
    return 0


def report(arguments: Namespace) -> int:
    """The page of a run."""
    result = steps.report(run_uri=arguments.run_uri)
    rows = {"report": result.report_uri, "record": result.record_uri}
    print(end_card("reported", list(rows.items()), _promotion(arguments.run_uri)))
    return 0


def promote(arguments: Namespace) -> int:
    """Move the champion pointer, or say why not (exit 6)."""
    result = steps.promote(run_uri=arguments.run_uri, force=True)
    if not result.promoted:
        raise GateRefused(
            "the champion stays",
            where=arguments.run_uri,
            why=result.reason,
            fix="train a better challenger, or confirm on more episodes",
        )
    print(end_card("promoted", list({"why": result.reason}.items()), ""))
    return 0


def demo_data(arguments: Namespace) -> int:
    """Record a scripted expert."""
    from tendon.config.compose import compose
    from tendon.evaluate.demo_files import write_demos
    from tendon.evaluate.experts import ExpertSettings
    from tendon.logs import Progress

    env = compose([*arguments.overrides, "data.uri=unused"]).env
    settings = ExpertSettings(env, arguments.episodes, arguments.seed, arguments.noise, arguments.images)
    with Progress("demo-data", arguments.episodes, "episodes") as progress:
        made = write_demos(settings, arguments.output, arguments.format, progress.follow, force=arguments.force)
    rows = {arguments.format: made, "episodes": arguments.episodes}
    following = f"tendon run env={env.name} --source-uri {shlex.quote(made)}"
    if arguments.format == "shards":
        following = f"tendon train policy=bc env={env.name} data.uri={shlex.quote(made)} training.offline_steps=2000"
    print(end_card("recorded", list(rows.items()), following))
    return 0


def export_data(arguments: Namespace) -> int:
    """A dataset in a foreign format."""
    from tendon.data.dataset import open_dataset
    from tendon.data.writers import write_dataset
    from tendon.logs import Progress

    dataset = open_dataset(arguments.dataset_uri)
    with Progress("export-data", None, "episodes") as progress:
        write_dataset(dataset, arguments.output, arguments.to, progress.follow, force=arguments.force)
    manifest = dataset.manifest
    rows = {arguments.to: arguments.output, "episodes": manifest.episodes, "frames": manifest.steps}
    print(end_card("exported", list(rows.items()), ""))
    return 0


def sweep(arguments: Namespace) -> int:
    """The trials of a sweep file."""
    from tendon.config.sweep import expand, parse_sweep

    if arguments.config:
        return _write_experiments(arguments)
    for trial in expand(parse_sweep(load_sweep(arguments.sweep)), ""):
        print(f"{trial.name:<50} {' '.join(trial.overrides)}")
    return 0


def _write_experiments(arguments: Namespace) -> int:
    """Robomimic's hyperparameter helper: a JSON for each experiment, and a script."""
    for path in load_generator(arguments.sweep, arguments.config, arguments.script).generate(arguments.command):
        print(path)
    return 0


def load_generator(sweep: str, config: str, script: str | None = None) -> ConfigGenerator:
    """Robomimic's generator over a base JSON: from the user's Python file, or a list of parameters."""
    from tendon.config.foreign.robomimic_scan import run_helper
    from tendon.config.generator import ConfigGenerator

    if sweep.endswith(".py"):
        return run_helper(sweep, config, script)
    generator = ConfigGenerator(config, script_file=script)
    generator.extend(load_sweep(sweep))
    return generator


def sims(arguments: Namespace) -> int:
    """List or install simulators."""
    from tendon.evaluate import sims as simulators

    if arguments.action == "install":
        if not arguments.name:
            raise ConfigError(
                "no simulator is named", where="tendon sims install", why="NAME is missing", fix="tendon sims list"
            )
        simulators.install(arguments.name)
    for sim in simulators.list_sims():
        print(
            f"{sim.name:<12} {'installed' if sim.installed else 'not installed':<14} {sim.needs or 'nothing to install'}"
        )
    return 0


def doctor(arguments: Namespace) -> int:
    """Check this machine."""
    from tendon.doctor import exit_code, render, run_checks

    checks = run_checks(store_uri=arguments.store_uri, kfp_host=arguments.kfp_host)
    print(render(checks))
    return exit_code(checks)
