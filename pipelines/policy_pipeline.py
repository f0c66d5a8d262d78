"""The DAG: demonstrations in, a policy with a defended success rate and its report out. Compiled by compile.py."""

from kfp import dsl

from pipelines.line import Wanted, at_the_end, training_line
from pipelines.parameters import with_parameters
from pipelines.resources import Place


@dsl.pipeline(name="policy-pipeline")
@with_parameters
def policy_pipeline(
    source_uri: str,
    store_uri: str,
    dataset_name: str,
    convert_workers: int,
    config: str,
    sweep: list,
    episodes: int,
    confirm_episodes: int,
    champion: str,
    promote: bool,
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
    """Turn robot demonstrations into a policy whose success rate can be defended.

    Convert the demonstrations, compute their statistics, train, export and evaluate every trial of a sweep, select the
    winner, confirm it on fresh seeds beside the champion, report, and promote if asked. At the end, also of a failed run,
    the report is written and whoever wants to know is told.
    """
    place = Place(image_data, image_train, image_sim, node_selector, node_tolerations, gpu_count, gpu_type)
    with dsl.ExitHandler(at_the_end(place, store_uri, notify_when), name="line"):
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
                promote=promote,
                trainjob_nodes=trainjob_nodes,
                trainjob_gpus=trainjob_gpus,
                trainjob_queue=trainjob_queue,
            ),
            place,
        )
