"""The component of the step ``train``; the work is in tendon.steps.train_trial."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["train"], install_kfp_package=False)
def train(
    run_uri: str,
    trial: str,
    dataset_uri: str,
    gpu_count: str,
    gpu_type: str,
    image: str,
    nodes: int,
    node_gpus: str,
    queue: str,
    checkpoint: dsl.Output[dsl.Model],
) -> str:
    """Train one trial, continuing an earlier attempt; a failure is an outcome, not the end of its siblings.

    Args:
        run_uri: The run that plan made.
        trial: Name of the trial.
        dataset_uri: The converted dataset, with statistics.
        gpu_count: GPUs of this pod, as text; its limit.
        gpu_type: Resource name of a GPU.
        image: The image of the pods of a TrainJob.
        nodes: More than 1: train as a TrainJob on so many nodes, and only wait here.
        node_gpus: GPUs of each of its nodes, as text.
        queue: Its Kueue queue; empty means none.
        checkpoint: Where the checkpoint is and how training went.

    Returns:
        The trial's outcome as JSON.
    """
    import json

    from tendon import errors, logs, steps

    logs.setup("train")
    with errors.reported("train"):
        if nodes > 1:
            outcome = steps.train_on_nodes(
                run_uri=run_uri,
                trial=trial,
                dataset_uri=dataset_uri,
                image=image,
                nodes=nodes,
                gpus=node_gpus,
                gpu_type=gpu_type,
                queue=queue,
            )
        else:
            outcome = steps.train_trial(run_uri=run_uri, trial=trial, dataset_uri=dataset_uri)
    fields = json.loads(outcome)
    checkpoint.metadata |= {name: fields[name] for name in ("trial", "run_key", "status", "checkpoint_uri")}
    with open(checkpoint.path, "w", encoding="utf-8") as file:
        file.write(outcome)
    return outcome
