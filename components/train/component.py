"""The component of the step ``train``; the work is in tendon.steps.train_trials."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["train"], install_kfp_package=False)
def train(
    run_uri: str,
    trials: str,
    dataset_uri: str,
    gpu_type: str,
    image: str,
    nodes: int,
    node_gpus: str,
    queue: str,
    node_cpu: str,
    node_memory: str,
    trust: str,
    checkpoint: dsl.Output[dsl.Model],
) -> str:
    """Train a group of trials one after the other, continuing earlier attempts; a failure is an outcome, not the end of the others.

    Args:
        run_uri: The run that plan made.
        trials: Names of the trials, a JSON list.
        dataset_uri: The converted dataset, with statistics.
        gpu_type: Resource name of a GPU.
        image: The image of the pods of a TrainJob.
        nodes: More than 1: train as a TrainJob on so many nodes, and only wait here.
        node_gpus: GPUs of each of its nodes, as text.
        queue: Its Kueue queue; empty means none.
        node_cpu: CPUs of each of its nodes.
        node_memory: Memory of each of its nodes.
        trust: Sha256s of Python files that may run, separated by commas; empty means none.
        checkpoint: Where the checkpoints are and how training went.

    Returns:
        The outcomes of the trials, a JSON list.
    """
    import json

    from tendon import errors, logs, steps

    logs.setup("train")
    with errors.reported("train"):
        steps.allow(trust)
        names = json.loads(trials)
        if nodes > 1:
            ended = steps.train_trials_on_nodes(
                run_uri=run_uri,
                trials=names,
                dataset_uri=dataset_uri,
                image=image,
                nodes=nodes,
                gpus=node_gpus,
                gpu_type=gpu_type,
                queue=queue,
                cpu=node_cpu,
                memory=node_memory,
            )
        else:
            ended = steps.train_trials(run_uri=run_uri, trials=names, dataset_uri=dataset_uri)
    outcomes = [json.loads(outcome) for outcome in ended]
    for name in ("trial", "run_key", "status", "checkpoint_uri"):
        checkpoint.metadata[name] = ", ".join(str(outcome[name]) for outcome in outcomes)
    checkpoint.metadata["display_name"] = f"checkpoint {checkpoint.metadata['trial']}"
    text = json.dumps(outcomes)
    with open(checkpoint.path, "w", encoding="utf-8") as file:
        file.write(text)
    return text
