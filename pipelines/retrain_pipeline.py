"""For a schedule: look at the demonstrations; if they are new, train a challenger and let the gate decide. Compiled by compile.py."""

from kfp import dsl

from components.check.component import check
from pipelines.line import JOB, Wanted, at_the_end, training_line
from pipelines.parameters import with_parameters
from pipelines.resources import Place


@dsl.pipeline(name="retrain-pipeline")
@with_parameters
def retrain_pipeline(
    source_uri: str,
    store_uri: str,
    dataset_name: str,
    convert_workers: int,
    config: str,
    sweep: list,
    episodes: int,
    confirm_episodes: int,
    champion: str,
    force: bool,
    gpu_count: str,
    gpu_type: str,
    image_data: str,
    image_train: str,
    image_sim: str,
    node_selector: dict,
    node_tolerations: list,
    trainjob_nodes: int,
    trainjob_gpus: str,
    trainjob_queue: str,
    notify_when: str,
):
    """Train a challenger when the demonstrations changed, and promote it if the gate agrees.

    Unchanged demonstrations end the run at once and cost one small pod, unless force is on. The champion is replaced only
    by a challenger that is better on the same fresh seeds.
    """
    place = Place(image_data, image_train, image_sim, node_selector, node_tolerations, gpu_count, gpu_type)
    with dsl.ExitHandler(at_the_end(place, store_uri, notify_when, remember=True), name="line"):
        checked = place.put(
            check(
                source_uri=source_uri,
                store_uri=store_uri,
                dataset_name=dataset_name,
                champion=champion,
                force=force,
                job_id=JOB,
            ),
            "data",
        )
        with dsl.If(checked.outputs["Output"] == "yes", name="new-data"):
            training_line(
                Wanted(
                    source_uri=source_uri,
                    store_uri=store_uri,
                    dataset_name=dataset_name,
                    convert_workers=convert_workers,
                    config=config,
                    sweep=sweep,
                    episodes=episodes,
                    confirm_episodes=confirm_episodes,
                    champion=champion,
                    promote=True,
                    trainjob_nodes=trainjob_nodes,
                    trainjob_gpus=trainjob_gpus,
                    trainjob_queue=trainjob_queue,
                ),
                place,
            )
