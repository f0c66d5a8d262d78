"""The component of the step ``plan``; the work is in tendon.steps.plan."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], install_kfp_package=False)
def plan(
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
    job_id: str,
    trial_table: dsl.Output[dsl.Artifact],
    run_uri: dsl.OutputPath(str),
    store: dsl.OutputPath(str),
    dataset_uri: dsl.OutputPath(str),
    source_digest: dsl.OutputPath(str),
    conversion: dsl.OutputPath(dict),
    shares: dsl.OutputPath(list),
) -> list:
    """Turn the parameters into trials; find every configuration error before anything expensive starts.

    Args:
        source_uri: Where the demonstrations are.
        store_uri: Where everything is kept; empty means a folder beside the pipeline root.
        dataset_name: Name of the converted dataset.
        convert_workers: How many pods share the conversion.
        config: Hydra overrides, separated by spaces.
        sweep: List of {key, name, group, values, value_names}; empty means one trial.
        episodes: Rollouts per trial on the selection seeds.
        confirm_episodes: Rollouts of the winner on fresh seeds.
        champion: Name of the champion pointer.
        promote: Whether the winner may become the champion.
        job_id: The engine's own name of this run; finish finds the run by it.
        trial_table: The trials as JSON.
        run_uri: Where this run keeps its plan, selection, confirmation, record and report.
        store: The store that is used.
        dataset_uri: Where the converted dataset is or will be.
        source_digest: Digest of the demonstrations.
        conversion: Options of the conversion that the configuration sets under data.
        shares: The shares of the conversion, one pod each: 0/2, 1/2.

    Returns:
        One {trial, run_uri, dataset_uri} per trial: all that the steps inside the fan-out need, because kfp's local
        engine hands the item itself to whatever asks there for an output of a step outside.
    """
    import json

    from tendon import errors, logs, steps

    def whole(text: str) -> float:  # kfp hands every number inside a list over as a float
        value = float(text)
        return int(value) if value.is_integer() and abs(value) < 1e15 else value

    logs.setup("plan")
    with errors.reported("plan"):
        result = steps.plan(
            source_uri=source_uri,
            store_uri=store_uri,
            dataset_name=dataset_name,
            convert_workers=convert_workers,
            config=config,
            sweep=json.loads(json.dumps(sweep), parse_float=whole),
            episodes=episodes,
            confirm_episodes=confirm_episodes,
            champion=champion,
            promote=promote,
            artifact_uri=trial_table.uri,
            job_id=job_id,
        )
    values = {run_uri: result.run_uri, store: result.store_uri, dataset_uri: result.dataset_uri}
    values |= {source_digest: result.source_digest, conversion: json.dumps(result.conversion)}
    values |= {shares: json.dumps(result.shares)}
    values |= {trial_table.path: json.dumps(result.trials, indent=1)}
    for path, value in values.items():
        with open(path, "w", encoding="utf-8") as file:
            file.write(value)
    return [
        {"trial": trial["name"], "run_uri": result.run_uri, "dataset_uri": result.dataset_uri}
        for trial in result.trials
    ]
