"""For a policy that exists: its success rate, and whether it beats another one. Compiled by compile.py."""

from kfp import dsl

from components.measure.component import measure
from pipelines.line import JOB, at_the_end
from pipelines.parameters import with_parameters
from pipelines.resources import Place


@dsl.pipeline(name="evaluate-pipeline")
@with_parameters
def evaluate_pipeline(
    bundle_uri: str,
    against_uri: str,
    store_uri: str,
    changes: str,
    confirm_episodes: int,
    image_data: str,
    image_sim: str,
    node_selector: dict,
    node_tolerations: list,
    notify_when: str,
):
    """Roll an existing policy bundle out on fresh seeds; beside another bundle, say which one is better, or that it cannot be told."""
    place = Place(image_data, image_data, image_sim, node_selector, node_tolerations)
    with dsl.ExitHandler(at_the_end(place, store_uri, notify_when), name="line"):
        place.put(
            measure(
                bundle_uri=bundle_uri,
                against_uri=against_uri,
                store_uri=store_uri,
                config=changes,
                episodes=confirm_episodes,
                job_id=JOB,
            ),
            "sim",
        )
