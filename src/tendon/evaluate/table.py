"""A bundle on a block of seeds: rolled out once, kept as a committed table, found again by whoever asks the same question.

In: bundle URI, environment, seeds. Out: an Evaluation (rows, summary, clips) under ``<evaluations>/<block>-<digest>/``.
Called by steps.evaluate_trials, steps.confirm and ``tendon compare``.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tendon import fork_server
from tendon.config.digest import digest, running_image
from tendon.config.numerics import module_numerics, rollout_numerics
from tendon.config.schema import EnvConfig, EvalConfig, PolicyConfig
from tendon.errors import DataError, TendonError
from tendon.evaluate.adapters import sim_numerics
from tendon.evaluate.confidence import wilson
from tendon.storage import join, open_store
from tendon.storage.json_values import to_json
from tendon.storage.trees import has_tree, put_tree

if TYPE_CHECKING:
    from tendon.evaluate.actor import BatchCheck
    from tendon.evaluate.kept_rows import KeptRows
    from tendon.evaluate.rollout import EpisodeResult
    from tendon.evaluate.seed_check import SeedCheck

log = logging.getLogger(__name__)

SUCCESS_RULE = "any success in the episode, by the simulator's own rule; the first one ends it"


@dataclass(frozen=True)
class Evaluation:
    """The table of one bundle on one block of seeds."""

    uri: str
    summary: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    reused: bool
    played: int = 0  # episodes that were rolled out for it just now

    @property
    def outcomes(self) -> dict[int, bool | None]:
        """Success per seed; None where the simulator crashed."""
        return {row["seed"]: None if row["status"] == "crashed" else row["status"] == "success" for row in self.rows}


def evaluate_bundle(
    bundle_uri: str, env: EnvConfig, eval: EvalConfig, *, block: str, seeds: Sequence[int], evaluations_uri: str
) -> Evaluation:
    """Roll the bundle out on ``seeds``, or return the table that is there already; what is finished of it is not rolled out again."""
    question = _Question(bundle_uri, env, eval, block, seeds, evaluations_uri)
    if has_tree(open_store(evaluations_uri), question.name):
        log.info("evaluate: found finished in %s", question.uri)
        return load_evaluation(question.uri, reused=True)
    with fork_server.nearby(), tempfile.TemporaryDirectory() as folder:
        played = _make_table(Path(folder), question)
        put_tree(open_store(evaluations_uri), question.name, Path(folder))
    return replace(load_evaluation(question.uri), played=played)


def evaluate_share(
    bundle_uri: str,
    env: EnvConfig,
    eval: EvalConfig,
    *,
    block: str,
    seeds: Sequence[int],
    evaluations_uri: str,
    share: int,
    shares: int,
) -> int:
    """Roll out one machine's share of the seeds; ``evaluate_bundle`` makes the table of them afterwards. How many there are."""
    question = _Question(bundle_uri, env, eval, block, seeds, evaluations_uri)
    if has_tree(open_store(evaluations_uri), question.name):
        return 0
    with fork_server.nearby():
        return len(_roll_out(question, share, shares).results)


class _Question:
    """What is asked: a bundle, a task and seeds, and where its answer and the rows of it are."""

    def __init__(
        self,
        bundle_uri: str,
        env: EnvConfig,
        eval: EvalConfig,
        block: str,
        seeds: Sequence[int],
        evaluations_uri: str,
    ) -> None:
        from tendon.export.bundle import bundle_digest

        self.bundle_uri, self.env, self.eval, self.block, self.seeds = bundle_uri, env, eval, block, seeds
        self.policy_digest = bundle_digest(bundle_uri)
        policy = policy_config(bundle_uri)
        self.name = f"{block}-{question_digest(self.policy_digest, policy, env, eval, seeds)}"
        self.uri = join(evaluations_uri, self.name)
        # the number of guests decides in which row of a batch an episode is, and so the last bits of its actions
        prefix = digest(
            self.policy_digest, env.identity, seeds[0], max(1, eval.batch_size), rollout_versions(policy, env)
        )
        self.rows_uri = join(evaluations_uri, "rows", prefix)


def question_digest(
    policy_digest: str, policy: PolicyConfig, env: EnvConfig, eval: EvalConfig, seeds: Sequence[int]
) -> str:
    """What a table is found by: everything that decides it, and the versions of the code that makes it."""
    return digest(policy_digest, env.identity, eval.videos, [seeds[0], len(seeds)], rollout_versions(policy, env))


def rollout_versions(policy: PolicyConfig, env: EnvConfig) -> dict[str, Any]:
    """The versions of the code that decides how an episode ends."""
    return {**rollout_numerics(policy), **sim_numerics(env), **module_numerics("tendon.evaluate.actor")}


def policy_config(bundle_uri: str) -> PolicyConfig:
    """The policy's part of the configuration that a bundle, or a checkpoint, was made with."""
    from tendon.policies.spec import PolicySpec
    from tendon.train.state.checkpoint import policy_file

    text = policy_file(bundle_uri, "policy.json")
    return PolicySpec.from_json(json.loads(text), join(bundle_uri, "policy.json")).config


def load_evaluation(uri: str, *, reused: bool = False) -> Evaluation:
    """The committed table at ``uri``."""
    store = open_store(uri)
    rows = tuple(json.loads(line) for line in store.read("episodes.jsonl").splitlines())
    return Evaluation(uri, json.loads(store.read("summary.json")), rows, reused)


def summarise(
    rows: list[dict[str, Any]], *, block: str, env: EnvConfig, seeds: Sequence[int], wall_s: float
) -> dict[str, Any]:
    """The numbers of a table. A crash is not a failure: it leaves n and is shown beside it."""
    counts = {status: sum(row["status"] == status for row in rows) for status in ("success", "failure", "crashed")}
    n = counts["success"] + counts["failure"]
    counted = [row for row in rows if row["status"] != "crashed"]
    return {
        "block": block,
        "env": asdict(env),
        "seeds": {"first": seeds[0], "count": len(seeds)},
        "n": n,
        "successes": counts["success"],
        "failures": counts["failure"],
        "crashed": counts["crashed"],
        "success_rate": counts["success"] / n,
        "success_rule": SUCCESS_RULE,
        "interval_95": list(wilson(counts["success"], n)),
        "mean_sum_reward": sum(row["sum_reward"] for row in counted) / n,
        "mean_steps": sum(row["steps"] for row in counted) / n,
        "robomimic": robomimic_names(counted, wall_s),
        "wall_s": wall_s,
        "steps_per_s": sum(row["steps"] for row in rows) / max(wall_s, 1e-9),
    }


def robomimic_names(counted: list[dict[str, Any]], wall_s: float) -> dict[str, float]:
    """The same numbers under the names robomimic logs them by; times in minutes, as there."""
    n = max(1, len(counted))
    successes = sum(row["status"] == "success" for row in counted)
    return {
        "Return": sum(row["sum_reward"] for row in counted) / n,
        "Horizon": sum(row["steps"] for row in counted) / n,
        "Success_Rate": successes / n,
        "Num_Success": float(successes),
        "Time_Episode": wall_s / 60,
    }


@dataclass(frozen=True)
class _Rolled:
    """Results of a share, seconds that they took, and how the policy was asked."""

    results: list[EpisodeResult]
    wall_s: float
    check: BatchCheck | None
    seed_checks: list[SeedCheck]
    rows: KeptRows
    played: int
    clips: dict[int, bytes]  # by position among the seeds


def _roll_out(question: _Question, share: int = 0, shares: int = 1, *, films: bool = False) -> _Rolled:
    """Play what is left of a share, and keep each episode as it ends; ``films``: clips are made on the way."""
    from tendon.evaluate import sims
    from tendon.evaluate.filming import Filming
    from tendon.evaluate.kept_rows import KeptRows
    from tendon.evaluate.rollout import Work, evaluate_policy
    from tendon.export.bundle import load_policy
    from tendon.logs import Progress

    env, eval, seeds = question.env, question.eval, question.seeds
    rows = KeptRows(open_store(question.rows_uri), seeds)
    finished, check = rows.load(), rows.load_check()
    work = Work(finished, share, shares, check, rows.save)
    mine = work.mine(len(seeds), max(1, eval.batch_size))
    done = [index for index in mine if index in finished]
    if done:
        log.info("evaluate: %d of %d episodes were finished before", len(done), len(mine))
    results, wall_s = [finished[index] for index in done], 0.0
    checks = [check] if check is not None else []
    seed_checks: list[SeedCheck] = []

    def checked(found: BatchCheck) -> None:
        rows.save_check(found)
        checks.append(found)

    filming = None
    if len(done) < len(mine):
        if films and eval.videos and sims.can_draw(env.simulator):
            filming = Filming(eval.videos, {index: result.status for index, result in finished.items()})
        policy, _ = load_policy(question.bundle_uri)
        started = time.monotonic()
        with Progress(f"evaluate {question.block}", len(mine), "episodes") as progress:
            results = evaluate_policy(
                policy, env, eval, seeds, progress.follow, checked, seed_checks.append, work=work, filming=filming
            )
        wall_s = time.monotonic() - started
    wall_s += sum(finished[index].wall_s for index in done) / max(1, eval.batch_size)
    clips = filming.clips if filming is not None else {}
    return _Rolled(results, wall_s, checks[0] if checks else None, seed_checks, rows, len(mine) - len(done), clips)


def _make_table(folder: Path, question: _Question) -> int:
    """Write the table into a folder; how many episodes had to be rolled out."""
    env, eval, seeds = question.env, question.eval, question.seeds
    rolled = _roll_out(question, films=True)
    results = rolled.results
    crashed = [result for result in results if result.status == "crashed"]
    if len(crashed) > min(eval.max_crashed * len(results), len(results) - 1):  # a rate needs one episode
        rolled.rows.forget(index for index, result in enumerate(results) if result.status == "crashed")
        raise DataError(
            f"the simulator crashed in {len(crashed)} of {len(results)} episodes",
            where=f"{env.simulator}/{env.task}, seeds {', '.join(str(r.seed) for r in crashed[:5])}{' ...' if len(crashed) > 5 else ''}",
            why=crashed[0].error.strip().splitlines()[-1] if crashed[0].error.strip() else "it gave no reason",
            fix=f"repair the simulator, or raise eval.max_crashed (now {eval.max_crashed:g}) if these seeds may be left out",
        )
    clips = _clips(folder, env, eval, results, rolled.clips)
    rows = [result.row() | {"video": clips.get(result.seed, "")} for result in results]
    (folder / "episodes.jsonl").write_text("".join(to_json(row) + "\n" for row in rows))
    summary = summarise(rows, block=question.block, env=env, seeds=seeds, wall_s=rolled.wall_s)
    summary |= {"policy_digest": question.policy_digest, "image": running_image()}
    summary["seeds_note"] = _seeds_note(results, rolled.seed_checks)
    summary["batches"] = rolled.check.to_json() if rolled.check else None  # None: no episode came to its first action
    (folder / "summary.json").write_text(to_json(summary, indent=1))
    return rolled.played


def _seeds_note(results: list[EpisodeResult], checks: list[SeedCheck]) -> str:
    """What is wrong with how the simulator takes its seeds; empty: nothing was seen."""
    from tendon.evaluate.seed_check import begins_alike

    starts = {result.seed: result.start for result in results if result.start}
    note = "; ".join(filter(None, [*(check.note for check in checks), begins_alike(starts)]))
    if note:
        log.warning("evaluate: %s; a comparison on common seeds is then no fairer than one on different ones", note)
    return note


def _clips(
    folder: Path, env: EnvConfig, eval: EvalConfig, results: list[EpisodeResult], filmed: dict[int, bytes]
) -> dict[int, str]:
    """Videos of the first few successes and failures; none where nothing can draw.

    What no guest filmed while it played (an earlier attempt's, or a simulator's that cannot be put into a state) is
    played again from its actions.
    """
    from tendon.evaluate.rollout import drawing_guest, render_episode
    from tendon.evaluate.video import encode_clip

    clips: dict[int, str] = {}
    chosen = [
        index
        for status in ("success", "failure")
        for index in [index for index, result in enumerate(results) if result.status == status][: eval.videos]
    ]
    if not chosen:
        return clips
    (folder / "videos").mkdir()

    def keep(index: int, mp4: bytes) -> None:
        seed = results[index].seed
        clips[seed] = f"videos/seed_{seed}.mp4"
        (folder / clips[seed]).write_bytes(mp4)

    for index in filter(filmed.__contains__, chosen):
        keep(index, filmed[index])
    left = [index for index in chosen if index not in filmed]
    if not left:
        return clips
    try:
        with drawing_guest(env, eval) as guest:
            for index in left:
                result = results[index]
                replay = render_episode(guest, result.seed, result.actions, recorded=result.status, every=2)
                if replay.agrees:
                    keep(index, encode_clip(replay.frames, env.fps / 2))
                else:
                    log.warning("evaluate: clip of seed %d: %s", result.seed, replay.note)
    except TendonError as error:
        log.warning("evaluate: no clips: %s; %s", error.problems[0].why, error.problems[0].fix)
    return clips
