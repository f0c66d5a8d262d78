"""What MineStudio's own RocketPolicy makes of seeded weights and windows: for make.py and ``make parity PEER=minestudio``."""

import numpy as np
import seeded
import torch
from peer import ActionTransformer, BehaviorCloneCallback, CameraHierarchicalMapping, RocketPolicy

CLASSES = {"buttons": slice(None, None, 67), "camera": slice(None)}


def make(**arguments) -> RocketPolicy:
    """With seeded weights."""
    policy = RocketPolicy(**arguments)
    with torch.no_grad():
        for name, tensor in policy.state_dict().items():
            tensor.copy_(torch.from_numpy(seeded.weights(name, tuple(tensor.shape))))
    return policy.eval()


def classes_of(arrays: dict) -> dict:
    """Its classes of buttons and camera, as its reader computes them."""
    transformer = ActionTransformer(
        camera_binsize=2, camera_maxval=10, camera_mu=10, camera_quantization_scheme="mu_law"
    )
    mapping = CameraHierarchicalMapping(n_camera_bins=11)
    rows, steps = arrays["camera"].shape[:2]
    env = {name: arrays["buttons"].reshape(rows * steps, -1)[:, i] for i, name in enumerate(seeded.BUTTONS)}
    env["camera"] = arrays["camera"].reshape(rows * steps, 2).astype(np.float64)
    agent = mapping.from_factored(transformer.env2policy(env))
    return {key: torch.from_numpy(np.asarray(each)).reshape(rows, steps, 1).long() for key, each in agent.items()}


def batch_of(arrays: dict) -> dict:
    """As its loader gives it."""
    tensors = {key: torch.from_numpy(each) for key, each in arrays.items()}
    return {
        "image": tensors["image"],
        "segmentation": {"obj_id": tensors["obj_id"], "obj_mask": tensors["obj_mask"]},
        "agent_action": classes_of(arrays),
        "mask": tensors["mask"],
    }


def run(policy, windows: list, first=None) -> dict:
    """Log-probabilities and losses of windows in a row, the memory behind them, gradient norms of the last one."""
    made, memory = {}, None
    objective = BehaviorCloneCallback(weight=0.01)
    for i, arrays in enumerate(windows):
        batch = batch_of(arrays)
        policy.first = (
            torch.zeros(batch["mask"].shape, dtype=torch.bool) if first is None else torch.from_numpy(first[i])
        )
        last = i + 1 == len(windows)
        with torch.set_grad_enabled(last):
            latents, memory = policy(batch, None if memory is None else [one.detach() for one in memory])
            numbers = objective(batch, i, "train", latents, policy)
        for head, some in CLASSES.items():
            made[f"{i}/{head}"] = latents["pi_logits"][head].detach()[:, :, 0, some].numpy()
            made[f"{i}/{head}_classes"] = batch["agent_action"][head].squeeze(-1).numpy()
        made |= {f"{i}/{key}": np.float64(float(each)) for key, each in numbers.items() if key != "bc_weight"}
    numbers["loss"].backward()
    for name, parameter in policy.named_parameters():
        if parameter.grad is not None:
            made[f"grad/{name}"] = np.float64(parameter.grad.double().norm())
    states = [memory[i::3] for i in range(3)]
    made["memory/valid"] = torch.stack([one.squeeze(1) for one in states[0]], 1).numpy()
    made |= {
        f"memory/{key}": torch.stack(each, 1).detach().numpy()
        for key, each in (("keys", states[1]), ("values", states[2]))
    }
    return made
