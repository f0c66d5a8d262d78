"""The DAG: demonstrations in, a policy with a defended success rate and its report out. Compiled by compile.py.

Data passes as URI strings plus small manifests: a declared input artifact would be copied whole into every pod.
"""

from kfp import dsl

from components.confirm.component import confirm
from components.convert.component import convert
from components.evaluate.component import evaluate
from components.export.component import export
from components.plan.component import plan
from components.promote.component import promote as move_champion
from components.report.component import report
from components.select.component import select
from components.stats.component import stats
from components.train.component import train
from pipelines.parameters import with_parameters
from pipelines.resources import PARALLEL_TRIALS, sized


@dsl.pipeline(name="policy-pipeline")
@with_parameters
def policy_pipeline(
    source_uri: str,
    store_uri: str,
    dataset_name: str,
    config: str,
    sweep: list,
    episodes: int,
    confirm_episodes: int,
    champion: str,
    promote: bool,
):
    """Turn robot demonstrations into a policy whose success rate can be defended.

    Convert the demonstrations, compute their statistics, train, export and evaluate every trial of a sweep, select the
    winner, confirm it on fresh seeds beside the champion, report, and promote if asked.
    """
    planned = sized(
        plan(
            source_uri=source_uri,
            store_uri=store_uri,
            dataset_name=dataset_name,
            config=config,
            sweep=sweep,
            episodes=episodes,
            confirm_episodes=confirm_episodes,
            champion=champion,
            promote=promote,
        )
    )
    run_uri = planned.outputs["run_uri"]
    converted = sized(
        convert(
            source_uri=source_uri,
            source_digest=planned.outputs["source_digest"],
            store_uri=planned.outputs["store"],
            dataset_name=dataset_name,
            dataset_uri=planned.outputs["dataset_uri"],
            skip_episodes=planned.outputs["skip_episodes"],
        )
    )
    described = sized(stats(dataset_uri=converted.outputs["dataset_uri"], digest=converted.outputs["digest"]))

    with dsl.ParallelFor(items=planned.outputs["Output"], name="trials", parallelism=PARALLEL_TRIALS) as item:
        # All from the item: see the return value of components/plan.
        trained = sized(train(run_uri=item.run_uri, trial=item.trial, dataset_uri=item.dataset_uri)).after(described)
        exported = sized(export(run_uri=item.run_uri, outcome=trained.outputs["Output"]))
        evaluated = sized(evaluate(run_uri=item.run_uri, outcome=exported.outputs["Output"]))

    selected = sized(select(run_uri=run_uri, outcomes=dsl.Collected(evaluated.outputs["Output"])))
    confirmed = sized(confirm(run_uri=run_uri)).after(selected)
    reported = sized(report(run_uri=run_uri)).after(confirmed)
    sized(move_champion(run_uri=run_uri)).after(reported)
