"""What each verb of the command line does: arguments to one call, and an end card with the next command. Called by cli.main only."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
import time
from argparse import Namespace
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tendon import steps
from tendon.answers import finish, tell, wants_json
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
        "data_source_uri": "demo://pusht_keypoints?episodes=120&seed=1",
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
    "evaluate_workers": "evaluate_workers",
    "trials_per_pod": "policy_trials_per_pod",
    "budget_gpu_hours": "budget_gpu_hours",
    "gpu_hour_price": "budget_gpu_hour_price",
    "cpu_hour_price": "budget_cpu_hour_price",
    "perturb": "evaluate_perturb",
}
PLANNED = PARAMETERS | {  # argument of make_plan: parameter of the pipeline
    "config": "policy_config",
    "sweep": "policy_sweep",
    "convert_workers": "data_convert_workers",
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


def plan(arguments: Namespace) -> int:
    """What a run would do and take; nothing is created."""
    arguments.plan = True
    return run(arguments)


def _run(arguments: Namespace, defaults: dict[str, Any]) -> int:
    from tendon.runner import Console, Docker, default_arguments, default_images, default_yaml, run_local

    yaml_path = Path(arguments.pipeline) if arguments.pipeline else default_yaml()
    given = {
        parameter: getattr(arguments, option)
        for option, parameter in PARAMETERS.items()
        if getattr(arguments, option) is not None
    }
    parameters = default_arguments(yaml_path) | defaults | given
    overrides = arguments.overrides
    if arguments.config_dir:
        from tendon.config.as_overrides import as_overrides

        overrides = as_overrides(overrides, arguments.config_dir)
    if overrides:
        parameters["policy_config"] = " ".join([defaults.get("policy_config", ""), *overrides]).strip()
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
        return _print_plan(arguments, parameters)
    docker = Docker() if arguments.runner == "docker" else None
    if docker:
        parameters |= default_images()
    from tendon.runs.failures import now
    from tendon.runs.forecast import note_took
    from tendon.runs.measured import cpu_seconds

    began, began_s, began_cpu_s = now(), time.monotonic(), cpu_seconds()
    result = run_local(
        yaml_path,
        parameters,
        store_uri=parameters["data_store_uri"],
        fresh=arguments.fresh,
        docker=docker,
        on_event=Console(sys.stderr if wants_json(arguments) else sys.stdout, quiet=arguments.quiet),
    )
    cpu_s, wall_s = cpu_seconds() - began_cpu_s, time.monotonic() - began_s
    took = note_took(result.run_uri, parameters["data_store_uri"], began, cpu_s, wall_s, on_processes=docker is None)
    if open_store(result.run_uri).head("selection.json") is None:
        return _print_part(arguments, result.run_uri, result.report_path, took.words())
    selection = json.loads(open_store(result.run_uri).read("selection.json"))
    confirmation = json.loads(open_store(result.run_uri).read("confirmation.json"))
    rows = {
        "verdict": confirmation["verdict"]["sentence"],
        "winner": f"{selection['winner']} of {len(selection['leaderboard'])} trial(s)",
        "run": result.run_uri,
        "report": result.report_path,
        "took": took.words(),
    }
    return finish(arguments, "done", rows, _promotion(result.run_uri))


def _print_part(arguments: Namespace, run_uri: str, report_path: str, took: str) -> int:
    """The end of a run that stopped before anything could be selected: its budget is spent."""
    from tendon.runs.conclusion import load_conclusion

    mark = load_conclusion(run_uri)
    rows = {"run": run_uri, "why": mark.verdict if mark else "", "report": report_path, "took": took}
    return finish(arguments, "part done", rows, "the same command with a larger --budget-gpu-hours: it goes on")


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


def _print_plan(arguments: Namespace, parameters: dict[str, Any]) -> int:
    from tendon.registry.outlook import outlook_of
    from tendon.runs.budget import RunBudget
    from tendon.runs.gate_rule import GateRule
    from tendon.runs.planner import make_sized_plan

    gate = [f"gate_{field.name}" for field in fields(GateRule)]
    budget = [f"budget_{field.name}" for field in fields(RunBudget)]
    plan, source_bytes, _ = make_sized_plan(
        **{argument: parameters[name] for argument, name in PLANNED.items() if name not in (*gate, *budget)},
        gate=GateRule(*map(parameters.__getitem__, gate)),
        budget=RunBudget(*map(parameters.__getitem__, budget)),
    )
    outlook = outlook_of(
        plan,
        source_bytes,
        trials_per_pod=parameters["policy_trials_per_pod"],
        halving="evaluate_rung_episodes" in parameters,
    )
    left, forecast = outlook.remaining, outlook.forecast
    lines = [
        f"run      {plan.run_uri}\nsource   {plan.source_uri} ({plan.source_digest})\ndataset  {plan.dataset_uri}",
        *(f"trial    {trial.name:<40} {trial.run_key}  {' '.join(trial.overrides)}" for trial in plan.trials),
        f"rollouts {len(plan.trials)} x {plan.episodes} to select, {plan.confirm_episodes} to confirm",
        f"gate     {outlook.gate}\nto do    {left.reason}",
        *(f"forecast {line}" for line in (forecast.lines() if forecast else ())),
        "Nothing was created.",
    ]
    return tell(arguments, "\n".join(lines), plan=plan, gate=outlook.gate, to_do=left.reason, forecast=forecast)


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
    return finish(arguments, "converted", rows, f"tendon stats --dataset-uri {shlex.quote(result.dataset_uri)}")


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
    tell(arguments, draw(found), inspection=found, verified=bool(arguments.verify))
    if arguments.verify:
        tell(arguments, "\nverified: every shard has the bytes that were committed")
    if arguments.html:
        from tendon.report.dataset_page import render_dataset

        with writing(arguments.html):
            Path(arguments.html).write_text(render_dataset(found), encoding="utf-8")
        tell(arguments, f"\npage: {arguments.html}", page=arguments.html)
    return DataError.exit_code if found.problems else 0


def diff(arguments: Namespace) -> int:
    """What changed between two datasets, by episode."""
    from tendon.data.diff import diff as difference_of
    from tendon.data.diff import draw

    found = difference_of(arguments.first, arguments.second)
    return tell(arguments, draw(found), difference=found)


def stats(arguments: Namespace) -> int:
    """Statistics of a dataset."""
    result = steps.stats(dataset_uri=arguments.dataset_uri, split=arguments.split)
    if arguments.format:
        from tendon.data.dataset import open_dataset
        from tendon.data.stats import DatasetStats
        from tendon.data.stats_files import FORMATS

        found = DatasetStats.from_json(json.dumps(result.stats))
        manifest = open_dataset(arguments.dataset_uri).manifest
        values = FORMATS[arguments.format](found, manifest)
        return tell(arguments, json.dumps(values, indent=1), stats=values)
    return finish(arguments, "statistics", {"stats": result.stats_uri}, _training(arguments.dataset_uri))


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
    from tendon.report.training_page import write_training_page
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
        return _print_dry_run(arguments, config, trial_uri)
    result = steps.train(config=config, dataset_uri=config.data.uri, trial_uri=trial_uri)
    rows = {"checkpoint": result.checkpoint_uri, "step": result.step, "weights": result.weights_sha256[:16]}
    rows["report"] = write_training_page(trial_uri)
    bundle = join(trial_uri, "bundle")
    following = (
        f"tendon export --checkpoint-uri {shlex.quote(result.checkpoint_uri)} --bundle-uri {shlex.quote(bundle)}"
    )
    return finish(arguments, "trained", rows, following)


def lerobot(arguments: Namespace) -> int:
    """A LeRobot command line, as it is."""
    from tendon.lerobot import train as train_as_lerobot

    if {"--help", "-h"} & set(arguments.words):
        return tell(arguments, LEROBOT_HELP, help=LEROBOT_HELP)
    runs = train_as_lerobot(arguments.words)
    if not runs:
        return tell(arguments, "checked; nothing was made. Leave --plan out to train.", checked=True)
    rows: list[tuple[str, object]] = []
    for run in runs:
        loss = run.result.metrics.get("train_loss")
        what = f"{' '.join(run.overrides)} loss:{loss:.3f} " if len(runs) > 1 and loss is not None else ""
        rows.append(("checkpoint", f"{what}{run.result.checkpoint_uri}"))
    following = f"tendon export --checkpoint-uri {shlex.quote(runs[-1].result.checkpoint_uri)} --bundle-uri "
    following += shlex.quote(join(runs[-1].run_dir, "bundle"))
    return tell(
        arguments,
        end_card("trained", rows, following),
        title="trained",
        checkpoints=[run.result.checkpoint_uri for run in runs],
        next=following,
    )


def _print_dry_run(arguments: Namespace, config: TrainConfig, trial_uri: str) -> int:
    seen = steps.dry_run_training(config=config, dataset_uri=config.data.uri, trial_uri=trial_uri)
    rows = {
        "step": f"{1000 * seen.step_s:.1f} ms, all {config.training.num_steps}: {duration(seen.total_s)}",
        "memory": f"{seen.device_bytes / 2**20:.0f} MiB before activations",
        "disk": f"{seen.checkpoint_bytes / 2**20:.1f} MiB a checkpoint, {seen.num_kept} stay",
        "would go to": trial_uri,
    }
    return finish(arguments, "dry run, nothing was kept", rows, "the same command without --dry-run")


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
    return finish(arguments, "exported", rows, f"tendon evaluate --bundle-uri {shlex.quote(arguments.bundle_uri)}")


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

    given = (arguments.file, arguments.bundle_uri, arguments.overrides, arguments.format)
    digest, notes = import_weights(*given, force=arguments.force)
    for note in () if arguments.quiet else notes:
        sys.stderr.write(f"note: {note}\n")
    rows = {"bundle": arguments.bundle_uri, "digest": digest}
    return finish(arguments, "imported", rows, f"tendon evaluate --bundle-uri {shlex.quote(arguments.bundle_uri)}")


def _export_weights(arguments: Namespace) -> int:
    from tendon.export.foreign import export_weights

    refuse_existing(arguments.output, f"{arguments.output}.parity.json", force=arguments.force)
    with writing(arguments.output):
        record = export_weights(policy_at(arguments.source_uri), arguments.output, arguments.format)
    rows = {"file": arguments.output, "parity": f"largest difference of an action {record.max_abs_difference:g}"}
    return finish(arguments, "exported", rows, "")


def _inspect_weights(arguments: Namespace) -> int:
    from tendon.weights.address import bring
    from tendon.weights.inspect import draw, inspect_weights

    uri = policy_at(arguments.file)
    if open_store(uri).head("pretrained_model/policy.json") is not None:
        uri = join(uri, "pretrained_model")
    with tempfile.TemporaryDirectory(prefix="tendon-inspect-") as scratch:
        found = inspect_weights(bring(uri, Path(scratch)), arguments.format)
        return tell(arguments, draw(found), weights=found)


def evaluate(arguments: Namespace) -> int:
    """Roll a bundle out."""
    from tendon.evaluate import benchmark_results, lerobot_info
    from tendon.evaluate.confidence import describe_rate
    from tendon.evaluate.table import SUCCESS_RULE

    made = lerobot_info.files_in(arguments.eval_info) if arguments.eval_info else []
    made += benchmark_results.files_in(arguments.results) if arguments.results else []
    refuse_existing(*made, force=arguments.force)
    perturb = ",".join(word.partition("=")[2] for word in arguments.overrides if word.startswith("perturb="))
    words = [word for word in arguments.overrides if not word.startswith("perturb=")]
    bundle_uri, overrides = steps.bundle_of(arguments.bundle_uri, words)
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
        following = "the same command without --worker, when all are done"
        return finish(arguments, "evaluated a share", {"episodes": played}, following)
    if perturb:
        card, uri = steps.robustness_card(**asked, perturb=perturb)
        found = {arm.name: arm.unsupported or f"{arm.successes}/{arm.n}, {100 * arm.difference:+.0f} points "
                 f"({100 * arm.difference_95.low:+.0f} to {100 * arm.difference_95.high:+.0f}), {arm.verdict}"
                 for arm in card.arms}  # fmt: skip
        clean = describe_rate(card.successes, card.n, card.crashed, card.block)
        rows = {"clean": clean, **found, "card": card.sentence(), "page": join(uri, "card.html")}
        return finish(arguments, "evaluated", rows, "")
    table = steps.evaluate(**asked)
    rows = {
        "rate": steps.rate_of(table),
        "success": table.summary.get("success_rule", SUCCESS_RULE),
        "table": table.uri,
    }
    if arguments.eval_info:
        rows["lerobot"] = lerobot_info.in_lerobots_words(table)
        rows["eval_info"] = str(lerobot_info.write_eval_info(table, arguments.eval_info))
    if arguments.results:
        env = config.env
        rows["results"] = str(benchmark_results.write_results(table.rows, env.simulator, env.task, arguments.results))
    return finish(arguments, "evaluated", rows, "")


def compare(arguments: Namespace) -> int:
    """Bundles on the same fresh seeds: two by the gate's verdict, more with the error held over all pairs."""
    from tendon.report.comparison import split_bundles

    if arguments.output:
        pages = [str(Path(arguments.output) / name) for name in ("compare.json", "compare.html")]
        refuse_existing(*pages, force=arguments.force)
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
    return finish(arguments, "compared", rows, "")


def curate(arguments: Namespace) -> int:
    """Rank demonstrations, and write the sweep of two trials that decides whether the worst stay out."""
    folder = Path(arguments.output)
    refuse_existing(str(folder / "sweep.json"), force=arguments.force)
    words = shlex.join(arguments.overrides)
    curation = steps.curate(
        source_uri=arguments.source_uri,
        store_uri=arguments.store_uri,
        dataset_name=arguments.dataset_name,
        config=" ".join(arguments.overrides),
        folds=arguments.folds,
        leave_out=arguments.leave_out,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "curation.json").write_text(curation.to_json() + "\n", encoding="utf-8")
    rows: dict[str, object] = {"rule": curation.rule}
    for one in curation.episodes[:5]:
        rows[one.episode_id] = (
            f"score {one.score:.1f}{', left out: ' + '; '.join(one.reasons) if one.left_out else ', kept'}"
        )
    rows["ranking"] = str(folder / "curation.json")
    following = ""
    if curation.left_out:
        sweep = folder / "sweep.json"
        sweep.write_text(json.dumps(curation.sweep(), indent=1) + "\n", encoding="utf-8")
        rows["sweep"] = str(sweep)
        source = f"--source-uri {shlex.quote(arguments.source_uri)} --store-uri {shlex.quote(arguments.store_uri)}"
        named = f"--dataset-name {shlex.quote(arguments.dataset_name)} --sweep {shlex.quote(str(sweep))}"
        following = f"tendon run {words} {source} {named}"
    print(end_card("curated", list(rows.items()), following))
    return 0


def select(arguments: Namespace) -> int:
    """Rank the trials of a run again from what the run recorded."""
    result = steps.select(run_uri=arguments.run_uri)
    following = f"tendon confirm --run-uri {shlex.quote(arguments.run_uri)}" if result.winner else ""
    return finish(arguments, "selected", {"winner": result.winner or "none"}, following)


def confirm(arguments: Namespace) -> int:
    """The winner on fresh seeds."""
    result = steps.confirm(run_uri=arguments.run_uri)
    following = f"tendon report --run-uri {shlex.quote(arguments.run_uri)}"
    return finish(arguments, "confirmed", {"verdict": result.verdict}, following)


def robustness(arguments: Namespace) -> int:
    """The winner of a run under its perturbations."""
    sentence = steps.robustness(run_uri=arguments.run_uri)
    return finish(
        arguments, "perturbed", {"card": sentence}, f"tendon report --run-uri {shlex.quote(arguments.run_uri)}"
    )


def report(arguments: Namespace) -> int:
    """The page of a run."""
    result = steps.report(run_uri=arguments.run_uri)
    rows = {"report": result.report_uri, "record": result.record_uri}
    return finish(arguments, "reported", rows, _promotion(arguments.run_uri))


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
    return finish(arguments, "promoted", {"why": result.reason}, "")


def init(arguments: Namespace) -> int:
    """A folder for one's own demonstrations; on a terminal, what no option says is asked for."""
    from tendon.project import commands_of, make_project

    def ask(question: str, default: str) -> str:
        return input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default

    options = ("source", "simulator", "task", "name", "policy", "steps", "store_uri", "force")
    given: dict[str, Any] = {name: getattr(arguments, name) for name in options}
    made = make_project(
        arguments.folder, **given, ask=ask if sys.stdin.isatty() and not wants_json(arguments) else None
    )
    rows = {"folder": arguments.folder, "episodes": len(made.info.episodes), "simulator": made.simulator}
    return finish(
        arguments, "made", rows, commands_of(made)[1][1], commands=[command for _, command in commands_of(made)]
    )


def demo_data(arguments: Namespace) -> int:
    """Record a scripted expert."""
    from tendon.config.compose import compose
    from tendon.config.feature_map import FeatureMap
    from tendon.evaluate.demo_files import write_demos
    from tendon.evaluate.experts import ExpertSettings
    from tendon.logs import Progress

    env = compose([*arguments.overrides, "data.uri=unused"]).env
    images = bool(FeatureMap.of(env).read_cameras) if arguments.images is None else arguments.images
    settings = ExpertSettings(env, arguments.episodes, arguments.seed, arguments.noise, images)
    with Progress("demo-data", arguments.episodes, "episodes") as progress:
        made = write_demos(settings, arguments.output, arguments.format, progress.follow, force=arguments.force)
    rows = {arguments.format: made, "episodes": arguments.episodes}
    following = f"tendon run env={env.name} --source-uri {shlex.quote(made)}"
    if arguments.format == "shards":
        following = f"tendon train policy=bc env={env.name} data.uri={shlex.quote(made)} training.offline_steps=2000"
    return finish(arguments, "recorded", rows, following)


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
    return finish(arguments, "exported", rows, "")


def sweep(arguments: Namespace) -> int:
    """The trials of a sweep file."""
    from tendon.config.sweep import expand, parse_sweep

    if arguments.config:
        return _write_experiments(arguments)
    trials = expand(parse_sweep(load_sweep(arguments.sweep)), "")
    lines = [f"{trial.name:<50} {' '.join(trial.overrides)}" for trial in trials]
    return tell(arguments, "\n".join(lines), trials=trials)


def _write_experiments(arguments: Namespace) -> int:
    """Robomimic's hyperparameter helper: a JSON for each experiment, and a script."""
    paths = list(load_generator(arguments.sweep, arguments.config, arguments.script).generate(arguments.command))
    return tell(arguments, "\n".join(map(str, paths)), files=paths)


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
    listed = simulators.list_sims()
    lines = [
        f"{sim.name:<12} {'installed' if sim.installed else 'not installed':<14} {sim.needs or 'nothing to install'}"
        for sim in listed
    ]
    return tell(arguments, "\n".join(lines), simulators=listed)


def doctor(arguments: Namespace) -> int:
    """Check this machine."""
    from tendon.doctor import exit_code, render, run_checks

    checks = run_checks(store_uri=arguments.store_uri, kfp_host=arguments.kfp_host)
    tell(arguments, render(checks), checks=checks)
    return exit_code(checks)
