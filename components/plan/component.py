"""The component of the step ``plan``; the work is in tendon.steps.plan."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], install_kfp_package=False)
def plan(
    source_uri: str,
    store_uri: str,
    dataset_name: str,
    convert_workers: int,
    evaluate_workers: int,
    config: str,
    sweep: list,
    episodes: int,
    confirm_episodes: int,
    champion: str,
    promote: bool,
    trials_per_pod: int,
    trial_retries: int,
    gate_floor: float,
    gate_margin: float,
    gate_alpha: float,
    gate_test: str,
    budget_gpu_hours: float,
    budget_gpu_hour_price: float,
    budget_cpu_hour_price: float,
    halving: bool,
    perturb: str,
    nodes: int,
    only_new: bool,
    force: bool,
    asked_cpu_data: str,
    asked_cpu_train: str,
    asked_cpu_sim: str,
    asked_memory_data: str,
    asked_memory_train: str,
    asked_memory_sim: str,
    train_image: str,
    sim_image: str,
    trust: str,
    job_id: str,
    trial_table: dsl.Output[dsl.Artifact],
    run_uri: dsl.OutputPath(str),
    store: dsl.OutputPath(str),
    dataset_uri: dsl.OutputPath(str),
    source_digest: dsl.OutputPath(str),
    conversion: dsl.OutputPath(dict),
    first_share: dsl.OutputPath(str),
    extra_shares: dsl.OutputPath(list),
    extra_needed: dsl.OutputPath(str),
    evaluation_shares: dsl.OutputPath(list),
    evaluation_shared: dsl.OutputPath(str),
    work: dsl.OutputPath(str),
    reason: dsl.OutputPath(str),
    cpu_data: dsl.OutputPath(str),
    cpu_train: dsl.OutputPath(str),
    cpu_sim: dsl.OutputPath(str),
    memory_data: dsl.OutputPath(str),
    memory_train: dsl.OutputPath(str),
    memory_sim: dsl.OutputPath(str),
    cpu_train_pod: dsl.OutputPath(str),
    memory_train_pod: dsl.OutputPath(str),
    memory_train_limit: dsl.OutputPath(str),
    cpu_node: dsl.OutputPath(str),
    memory_node: dsl.OutputPath(str),
) -> list:
    """Turn the parameters into trials; find every configuration error before anything expensive starts.

    Args:
        source_uri: Where the demonstrations are.
        store_uri: Where everything is kept; empty means a folder beside the pipeline root.
        dataset_name: Name of the converted dataset.
        convert_workers: How many pods share the conversion.
        evaluate_workers: How many pods share the rollouts of each group of trials.
        config: Hydra overrides, separated by spaces.
        sweep: List of {key, name, group, values, value_names}; empty means one trial.
        episodes: Rollouts per trial on the selection seeds.
        confirm_episodes: Rollouts of the winner on fresh seeds.
        champion: Name of the champion pointer.
        promote: Whether the winner may become the champion.
        trials_per_pod: Trials that one pod works through.
        trial_retries: How often a trial whose process was killed is started again.
        gate_floor: What the interval of a first champion begins at, at least.
        gate_margin: By how much a challenger must be better than the champion.
        gate_alpha: Chance that any challenger that is not better ever replaces one champion.
        gate_test: fixed or anytime.
        budget_gpu_hours: After so many GPU hours trainings save and stop; 0 means any number.
        budget_gpu_hour_price: For the forecast; 0 means none.
        budget_cpu_hour_price: For the forecast; 0 means none.
        halving: Trials are pruned at rungs.
        perturb: Perturbations that the winner is played under, "standard" or names and commas; empty means none.
        nodes: On how many nodes a trial trains; with more than 1 the pod of train only waits.
        only_new: Nothing to do when the demonstrations are those that were trained on last.
        force: Work in any case.
        asked_cpu_data: CPUs of convert and stats; empty means what plan finds fitting, as for the others.
        asked_cpu_train: CPUs of train and export.
        asked_cpu_sim: CPUs of evaluate and conclude.
        asked_memory_data: Memory of convert and stats.
        asked_memory_train: Memory of train and export.
        asked_memory_sim: Memory of evaluate and conclude.
        train_image: The image of train; an online phase of a policy plays in it.
        sim_image: The image that has the simulators.
        trust: Sha256s of Python files that may run, separated by commas; empty means none.
        job_id: The engine's own name of this run; finish finds the run by it.
        trial_table: The trials as JSON.
        run_uri: Where this run keeps its plan, selection, confirmation, record and report.
        store: The store that is used.
        dataset_uri: Where the converted dataset is or will be.
        source_digest: Digest of the demonstrations.
        conversion: Options of the conversion that the configuration sets under data.
        first_share: The share of the conversion that there always is: 0/2.
        extra_shares: The others, one pod each: 1/2.
        extra_needed: yes when there are any, else no.
        evaluation_shares: One {trials, run_uri, share} per pod that rolls out a share of the seeds; share is K/N.
        evaluation_shared: yes when several pods share them, else no.
        work: no when there is nothing to do; shared when several pods share conversion or evaluation, else yes.
        reason: Why.
        cpu_data: CPUs of convert and stats, as asked or sized.
        cpu_train: CPUs of train and export.
        cpu_sim: CPUs of evaluate and conclude.
        memory_data: Memory of convert and stats.
        memory_train: Memory of train and export.
        memory_sim: Memory of evaluate and conclude.
        cpu_train_pod: CPUs of the pod of train: those of train, or next to none when it waits for nodes.
        memory_train_pod: Memory that it asks for.
        memory_train_limit: Memory that it may use.
        cpu_node: CPUs of each node of a TrainJob.
        memory_node: Memory of each node.

    Returns:
        One {trials, run_uri, dataset_uri} per group of trials, which share a pod; trials is a JSON list of names.
    """
    import json

    from tendon import errors, logs, steps

    def whole(text: str) -> float:  # kfp hands every number inside a list over as a float
        value = float(text)
        return int(value) if value.is_integer() and abs(value) < 1e15 else value

    logs.setup("plan")
    with errors.reported("plan"):
        steps.allow(trust)
        result = steps.plan(
            source_uri=source_uri,
            store_uri=store_uri,
            dataset_name=dataset_name,
            convert_workers=convert_workers,
            evaluate_workers=evaluate_workers,
            config=config,
            sweep=json.loads(json.dumps(sweep), parse_float=whole),
            episodes=episodes,
            confirm_episodes=confirm_episodes,
            champion=champion,
            promote=promote,
            trials_per_pod=trials_per_pod,
            trial_retries=trial_retries,
            gate_floor=gate_floor,
            gate_margin=gate_margin,
            gate_alpha=gate_alpha,
            gate_test=gate_test,
            budget_gpu_hours=budget_gpu_hours,
            budget_gpu_hour_price=budget_gpu_hour_price,
            budget_cpu_hour_price=budget_cpu_hour_price,
            halving=halving,
            perturb=perturb,
            only_new=only_new,
            force=force,
            train_image=train_image,
            sim_image=sim_image,
            artifact_uri=trial_table.uri,
            job_id=job_id,
        )
    values = {run_uri: result.run_uri, store: result.store_uri, dataset_uri: result.dataset_uri}
    values |= {source_digest: result.source_digest, conversion: json.dumps(result.conversion)}
    values |= {first_share: (result.shares or ["0/1"])[0], extra_shares: json.dumps(result.shares[1:])}
    values |= {extra_needed: "yes" if len(result.shares) > 1 else "no"}
    shares = [
        {"trials": json.dumps(group), "run_uri": result.run_uri, "share": share}
        for group, share in result.evaluation_shares
    ]
    values |= {evaluation_shares: json.dumps(shares), evaluation_shared: "yes" if shares else "no"}
    with_shares = "shared" if shares or len(result.shares) > 1 else "yes"
    values |= {work: with_shares if result.work else "no", reason: result.reason}
    values |= {cpu_data: asked_cpu_data or result.resources["cpu_data"]}
    values |= {cpu_train: asked_cpu_train or result.resources["cpu_train"]}
    values |= {cpu_sim: asked_cpu_sim or result.resources["cpu_sim"]}
    values |= {memory_data: asked_memory_data or result.resources["memory_data"]}
    values |= {memory_train: asked_memory_train or result.resources["memory_train"]}
    values |= {memory_sim: asked_memory_sim or result.resources["memory_sim"]}
    values |= {cpu_train_pod: result.resources["cpu_waiting"] if nodes > 1 else values[cpu_train]}
    values |= {memory_train_pod: result.resources["memory_waiting"] if nodes > 1 else values[memory_train]}
    values |= {memory_train_limit: result.resources["limit_waiting"] if nodes > 1 else values[memory_train]}
    values |= {cpu_node: asked_cpu_train or result.resources["cpu_node"]}
    values |= {memory_node: asked_memory_train or result.resources["memory_node"]}
    values |= {trial_table.path: json.dumps(result.trials, indent=1)}
    for path, value in values.items():
        with open(path, "w", encoding="utf-8") as file:
            file.write(value)
    return [
        {"trials": json.dumps(group), "run_uri": result.run_uri, "dataset_uri": result.dataset_uri}
        for group in result.groups
    ]
