"""Pods, seconds and kilobytes of runs on a simulated engine, which repeats what a real one was recorded to do."""

import json
import math
from pathlib import Path

import pytest
import yaml

from pipelines.engine_size import MOST_KB, RunShape, kilobytes_of, pods_of, run_shape
from tendon.runs.limits import MOST_GROUPS, groups_that_fit
from tests.pipelines import simulated_engine
from tests.pipelines.simulated_engine import COMPILED, SimulatedRun, table

RECORDED = json.loads(Path(__file__).with_name("recorded_run.json").read_text(encoding="utf-8"))
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SPECS = {
    name: next(yaml.load_all((COMPILED / f"{name}_pipeline.yaml").read_text(encoding="utf-8"), LOADER))
    for name in ("policy", "retrain", "evaluate")
}
trains = pytest.mark.parametrize("name", ["policy", "retrain"])


def test_the_simulated_engine_does_what_was_recorded():
    run = SimulatedRun.of(RECORDED["spec"], RunShape())
    recorded_names = [name for _, _, name in RECORDED["pods"]]
    assert run.names == recorded_names
    assert len(run.pods) == 29
    assert run.end_s == pytest.approx(316, abs=3)
    for (simulated_s, name), (recorded_s, _, _) in zip(run.pods, RECORDED["pods"], strict=True):
        assert simulated_s == pytest.approx(recorded_s, abs=12), name


def test_the_recorded_size_of_a_run_is_met():
    assert pods_of(RECORDED["spec"], RunShape()) == 29
    assert kilobytes_of(RECORDED["spec"], RunShape(items={"trials": 0})) == pytest.approx(123, abs=5)
    each = [kilobytes_of(RECORDED["spec"], RunShape(items={"trials": count})) for count in (8, 9)]
    assert each[1] - each[0] == pytest.approx(24, abs=0.1)


@trains
def test_a_default_run_takes_at_most_23_pods_and_an_unchanged_repeat_at_most_9(name):
    assert pods_of(SPECS[name]) == 22, "29 before, then 23"
    assert pods_of(SPECS[name], run_shape(work=False)) == 8, "27 before"


@trains
@pytest.mark.parametrize(
    "shape", [run_shape(), run_shape(5), run_shape(workers=4), run_shape(work=False), run_shape(cached=("convert",))]
)
def test_both_ways_to_count_agree(name, shape):
    assert len(SimulatedRun.of(SPECS[name], shape).pods) == pods_of(SPECS[name], shape)


@trains
def test_the_largest_run_leaves_a_tenth_of_the_object_free(name):
    assert kilobytes_of(SPECS[name], run_shape(MOST_GROUPS, workers=4)) < MOST_KB
    assert kilobytes_of(SPECS[name], run_shape(MOST_GROUPS)) < 0.9 * MOST_KB


@trains
def test_every_run_of_the_table_fits_and_150_trials_work_both_ways(name):
    rows = {what: (pods, seconds, kilobytes) for what, pods, seconds, kilobytes in table(SPECS[name], MOST_GROUPS)}
    assert all(kilobytes < MOST_KB for _, _, kilobytes in rows.values())
    assert rows["default"][1] < 230, "316 s before"
    assert rows["repeat"][1] < 80
    shared, batched = rows["150 trials, 5 a pod"], rows["150 trials, in batches"]
    assert shared[0] < batched[0] / 4, "a pod of five trials costs as much as a pod of one"


def test_an_extra_worker_costs_its_pods_and_one_worker_none():
    one, two, three = (pods_of(SPECS["policy"], run_shape(workers=count)) for count in (1, 2, 3))
    drivers = 4  # of what is shared: for conversion and for evaluation a pipeline and a condition
    assert (two - one, three - two) == (drivers + 4, 3)


def test_the_table_is_printed(capsys):
    simulated_engine.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines][:2] == ["default", "repeat"]
    assert len(lines) == 8


def test_a_rung_adds_few_pods():
    """A loop, and per group a driver and two steps; then who goes on: prune."""
    sweep = next(yaml.load_all((COMPILED / "sweep_pipeline.yaml").read_text(encoding="utf-8"), LOADER))

    def shape(first, second, third, trials, shares=1):
        items = {"first rung": first, "second rung": second, "third rung": third, "trials": trials}
        return RunShape(items | {"evaluations": shares * trials}, frozenset({"more than one worker"}))

    def pods(*groups, **shares):
        return pods_of(sweep, shape(*groups, **shares))

    assert pods(9, 4, 2, 1) - pods(8, 4, 2, 1) == 5
    assert pods(8, 4, 2, 1, shares=3) - pods(8, 4, 2, 1) == 2 * 3
    whole = pods_of(SPECS["policy"], run_shape(16))
    assert pods(16, 8, 4, 3) < 1.6 * whole, "most trials end after five pods of seven"
    assert kilobytes_of(sweep, shape(16, 8, 4, 3)) < 0.9 * MOST_KB
    most = groups_that_fit(halving=True)
    left = [math.ceil(most * share) for share in (1 / 2, 3 / 8, 3 / 16)]
    assert 0.8 * MOST_KB < kilobytes_of(sweep, shape(most, *left)) < 0.92 * MOST_KB, "as many groups as plan allows"


@trains
def test_an_evaluation_of_one_worker_costs_nothing_and_another_one_its_pods(name):
    one, two, three = (pods_of(SPECS[name], run_shape(4, evaluators=count)) for count in (1, 2, 3))
    assert (two - one, three - two) == (4 + 1 + 4 * 2 * 3, 4 * 3)
    limit = groups_that_fit(8)
    assert limit < MOST_GROUPS, "before: a run of many evaluators could outgrow the engine's object"
    assert kilobytes_of(SPECS[name], run_shape(limit, evaluators=8)) < 0.92 * MOST_KB
