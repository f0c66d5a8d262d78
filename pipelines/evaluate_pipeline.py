"""For a policy that exists: its success rate, and whether it beats another one. Compiled by compile.py."""

from types import SimpleNamespace

from kfp import dsl

from components.evaluate_bundle.component import evaluate_bundle
from pipelines.parameters import with_parameters
from pipelines.resources import Placement
from pipelines.training_dag import JOB, exit_task


@dsl.pipeline(name="evaluate-pipeline")
@with_parameters
def evaluate_pipeline(form: SimpleNamespace) -> None:
    """Roll an existing policy bundle out on fresh seeds; beside another bundle, say which one is better, or that it cannot be told."""
    sizes = {"cpu_sim": form.cluster_cpu_sim, "memory_sim": form.cluster_memory_sim}
    with dsl.ExitHandler(exit_task(form), name="run"):
        Placement(form, sizes).apply(
            evaluate_bundle(
                bundle_uri=form.evaluate_bundle_uri,
                baseline_uri=form.evaluate_baseline_uri,
                store_uri=form.data_store_uri,
                overrides=form.evaluate_overrides,
                episodes=form.evaluate_confirm_episodes,
                trust=form.trust,
                job_id=JOB,
            )
        )
