"""How a robomimic configuration trains: windows, loop, checkpoints, data, rollouts; called by robomimic.py."""

from __future__ import annotations

from tendon.config.foreign.robomimic_reader import Reader

LEARNING_RATE = "algo.optim_params.policy.learning_rate."


def read_windows(read: Reader, name: str) -> None:
    """The couplings of windows and nets."""
    seq_length, frame_stack = int(read("train.seq_length")), int(read("train.frame_stack"))
    if name == "bc_rnn":
        horizon = int(read("algo.rnn.horizon"))
        if horizon != seq_length:
            why = "the state starts anew every horizon steps in a rollout: training must see as many steps"
            fix = f'"train": {{"seq_length": {horizon}}}'
            read.refuse(f"algo.rnn.horizon is {horizon}, train.seq_length {seq_length}", why, fix)
        if frame_stack != 1:
            why = "a recurrent net remembers; stacked frames would lengthen its sequences"
            read.refuse(f"train.frame_stack is {frame_stack} with algo.rnn", why, '"frame_stack": 1')
    elif name == "bc_transformer":
        context = int(read("algo.transformer.context_length"))
        if frame_stack != context:
            why = "the net takes exactly so many observations; upstream fails, or trains on the oldest of them"
            fix = f'"train": {{"frame_stack": {context}}}'
            read.refuse(f"train.frame_stack is {frame_stack}, algo.transformer.context_length {context}", why, fix)
        wanted = context if read("algo.transformer.pred_future_acs") else 1
        if seq_length < wanted:
            why = "pred_future_acs predicts so many actions"
            read.refuse(f"train.seq_length is {seq_length}, needed are {wanted}", why, f'"seq_length": {wanted}')
        elif seq_length > wanted:
            read.note(f"train.seq_length={seq_length} has no effect: {wanted} is what the transformer trains on")
    else:
        if frame_stack != 1:
            why = "upstream's BC would then look at the oldest frame only"
            read.refuse(f"train.frame_stack is {frame_stack}", why, '"frame_stack": 1')
        if seq_length != 1:
            read.note(f"train.seq_length={seq_length} has no effect: {name} trains on single steps")
    for key, matters in (("pad_seq_length", seq_length > 1), ("pad_frame_stack", frame_stack > 1)):
        if matters and not read(f"train.{key}"):
            read.refuse(f"train.{key} is false", "windows are always padded with the first and the last step")


def read_training(read: Reader, steps_per_pass: int | None) -> int:
    """The keys of the loop; how many steps an epoch has."""
    steps = read("experiment.epoch_every_n_steps")
    if steps is None and steps_per_pass is None:
        why = "an epoch is then a pass over the data, whose length is not known here"
        read.refuse("experiment.epoch_every_n_steps is null", why, "give the dataset, or a number")
    steps, epochs = int(steps or steps_per_pass or 1), int(read("train.num_epochs"))
    put = read.overrides
    put["seed"] = int(read("train.seed"))
    put["device"] = "auto" if read("train.cuda") else "cpu"
    put["training.offline_steps"] = steps * epochs
    put["training.batch_size"] = int(read("train.batch_size"))
    put["training.log_freq"] = steps
    put["training.valid_freq"] = steps
    put["training.valid_batches"] = int(read("experiment.validation_epoch_every_n_steps") or 10)
    optimizer = read("algo.optim_params.policy.optimizer_type")
    if optimizer not in ("adam", "adamw"):
        why = "adam and adamw are known; upstream goes on without an optimiser"
        read.refuse(f"algo.optim_params.policy.optimizer_type is {optimizer!r}", why, '"adam"')
    put["training.optimizer"] = optimizer
    put["training.weight_decay"] = float(read("algo.optim_params.policy.regularization.L2"))
    put["training.grad_clip_norm"] = float(read("train.max_grad_norm") or 0.0)
    put["training.lr"] = float(read(f"{LEARNING_RATE}initial"))
    _schedule(read, steps, epochs)
    return steps


def _schedule(read: Reader, steps: int, epochs: int) -> None:
    kind, milestones = read(f"{LEARNING_RATE}scheduler_type"), [int(e) for e in read(f"{LEARNING_RATE}epoch_schedule")]
    factor, put = float(read(f"{LEARNING_RATE}decay_factor")), read.overrides
    put["training.lr_warmup_steps"], put["training.epoch_every_n_steps"] = 0, steps
    put["training.epoch_schedule"] = []  # not the policy's own
    if kind in ("multistep", "linear") and not milestones:
        put["training.lr_scheduler"] = "constant"
    elif kind == "linear" and len(milestones) == 1:
        put["training.lr_scheduler"], put["training.lr_end_factor"] = "linear", factor
        put["training.epoch_schedule"] = milestones
    elif kind == "multistep":
        put["training.lr_scheduler"], put["training.decay_factor"] = "multistep", factor
        put["training.epoch_schedule"] = milestones
    elif kind == "cosine":
        if not read(f"{LEARNING_RATE}step_every_batch") or read(f"{LEARNING_RATE}num_cycles") != 0.5:
            read.refuse("the cosine schedule has other than half a cycle per step", "half a cosine per update is known")
        put["training.lr_scheduler"], put["training.lr_end_factor"] = "cosine", 0.0
        put["training.lr_warmup_steps"] = int(read(f"{LEARNING_RATE}warmup_steps"))
    else:
        why = "steps by epoch, one linear fall and half a cosine are known"
        read.refuse(f"the learning rate follows {kind} at {milestones}", why)


def read_saving(read: Reader, steps: int) -> None:
    """When checkpoints are made and rollouts happen, and who is told; ``steps`` is those of an epoch."""
    put, at = read.overrides, "experiment.save."
    every, epochs = read(f"{at}every_n_epochs"), int(read("train.num_epochs"))
    put["training.save_checkpoint"] = bool(read(f"{at}enabled"))
    put["training.save_freq"] = steps * int(every or epochs)
    rolls_out = bool(read("experiment.rollout.enabled"))
    if rolls_out:
        put["training.eval_freq"] = steps * int(read("experiment.rollout.rate"))
        if read("experiment.rollout.warmstart"):
            read.note("experiment.rollout.warmstart has no effect: rollouts begin at the first multiple of rate")
    if read(f"{at}enabled"):
        put["save.every_n_seconds"] = float(read(f"{at}every_n_seconds") or 0.0)
        put["save.epochs"] = [int(epoch) for epoch in read(f"{at}epochs")]
        put["save.on_best_validation"] = bool(read(f"{at}on_best_validation") and read("experiment.validate"))
        for rule in ("on_best_rollout_return", "on_best_rollout_success_rate"):
            put[f"save.{rule}"] = bool(read(at + rule) and rolls_out)
    put["track.tensorboard"] = False
    if read("experiment.logging.log_tb"):
        read.note(
            "experiment.logging.log_tb: metrics.jsonl is always written; track.tensorboard=true writes events too"
        )
    if read("experiment.logging.log_wandb"):
        put["wandb.enable"], put["wandb.project"] = True, str(read("experiment.logging.wandb_proj_name"))
    if "experiment.mse" in read.given or any(key.startswith("experiment.mse.") for key in read.given):
        read.note("experiment.mse has no effect (upstream's own template has it, and upstream refuses it)")
    if read("experiment.ckpt_path"):
        read.overrides["policy.init_from"] = str(read("experiment.ckpt_path"))  # its weights alone, as upstream


def read_data(read: Reader, splits: tuple[str, ...]) -> None:
    """Which episodes are trained on and which are held out."""
    put, data = read.overrides, read("train.data")
    if isinstance(data, (list, tuple)):
        read.refuse("train.data is a list", "one dataset is trained on at a time", "convert and name one file")
    if read("train.goal_mode") == "last":
        read.note(
            "train.goal_mode last: the goal is the last observation, upstream takes the one after the last action"
        )
    else:
        read.refuse_unless("train.goal_mode", None, "the goal is the last step of an episode")
    chosen, held_out = read("train.hdf5_filter_key"), read("train.hdf5_validation_filter_key")
    if not read("experiment.validate"):
        put["data.split"], put["data.valid_split"] = chosen or "all", "none"
        return
    if not held_out:
        pair = (f"{chosen}_train", f"{chosen}_valid") if chosen else ("train", "valid")
        read.note(
            f"validation: the masks {pair[0]} and {pair[1]} are used, as v0.1 and v0.2 do (v0.3 asks for both keys)"
        )
        chosen, held_out = pair
    elif not chosen:
        why = "training would include the episodes it is validated on"
        read.refuse("train.hdf5_filter_key is null with a validation filter key", why, '"hdf5_filter_key": "train"')
    missing = [key for key in (chosen, held_out) if splits and key not in splits]
    if missing:
        why = f"the file has {', '.join(splits)}"
        read.refuse(f"the dataset has no mask {', '.join(missing)}", why, '"validate": false, or add the masks')
    put["data.split"], put["data.valid_split"] = chosen, held_out


def read_rollouts(read: Reader) -> None:
    """How many episodes are played, and how long."""
    put = read.overrides
    put["eval.n_episodes"] = max(1, int(read("experiment.rollout.n")))
    put["env.episode_length"] = int(read("experiment.rollout.horizon"))
    for key in ("experiment.env", "experiment.additional_envs"):
        read.refuse_unless(key, None, "the environment is chosen by env=NAME")
    if any(key.startswith("experiment.env_meta_update_dict.") for key in read.given):
        read.refuse("experiment.env_meta_update_dict is set", "the environment's options are env.options")
    if not read("experiment.rollout.terminate_on_success"):
        read.note("experiment.rollout.terminate_on_success=false: episodes end at success here")
    names = f"train.output_dir={read('train.output_dir')!r} and experiment.name={read('experiment.name')!r}"
    read.note(f"{names} name no folder: a trial is kept in STORE/trials/KEY, the store is --store-uri")
