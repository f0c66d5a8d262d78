"""For a schedule: look at the demonstrations; if they are new, train a challenger and let the gate decide. Compiled by compile.py."""

from types import SimpleNamespace

from kfp import dsl

from pipelines.parameters import with_parameters
from pipelines.training_dag import RunParameters, exit_task, training_dag


@dsl.pipeline(name="retrain-pipeline")
@with_parameters
def retrain_pipeline(form: SimpleNamespace) -> None:
    """Train a challenger when the demonstrations changed, and promote it if the gate agrees.

    Unchanged demonstrations end the run at plan, which is eight small pods, unless data_force is on. The champion is
    replaced only by a challenger that is better on the same fresh seeds.
    """
    with dsl.ExitHandler(exit_task(form, remember=True), name="run"):
        training_dag(RunParameters(form, promote=True, only_new=True, force=form.data_force))
