"""The DAG: demonstrations in, a policy with a defended success rate and its report out. Compiled by compile.py."""

from types import SimpleNamespace

from kfp import dsl

from pipelines.parameters import with_parameters
from pipelines.training_dag import RunParameters, exit_task, training_dag


@dsl.pipeline(name="policy-pipeline")
@with_parameters
def policy_pipeline(form: SimpleNamespace) -> None:
    """Turn robot demonstrations into a policy whose success rate can be defended.

    Convert the demonstrations, compute their statistics, train, export and evaluate every trial of a sweep, select the
    winner, confirm it on fresh seeds beside the champion, report, and promote if asked. At the end, also of a failed run,
    the report is written and whoever wants to know is told.
    """
    with dsl.ExitHandler(exit_task(form), name="run"):
        training_dag(RunParameters(form, promote=form.gate_promote))
