"""Run by robomimic 0.3.0's interpreter: its own policies on fixed inputs -> <folder>/<case>.npz, and .pth files for the importer.

make.py FOLDER [CASE ...]. Small nets keep their weights in the file; image nets are filled by ``fill`` from a seed.
Each file holds meta (JSON: config, versions), in/<key>, action, out/<name>, weights/<name>, grad (a checksum of gradients).
"""

import contextlib
import io
import json
import sys
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import robomimic
import robomimic.utils.obs_utils as ObsUtils
import torch
from robomimic.algo import algo_factory
from robomimic.config import config_factory

A, B = 3, 3
LOW = OrderedDict(object=[5], robot0_eef_pos=[3])
IMAGE = [3, 40, 40]


def fill(name, shape):
    """Weights that depend on the name alone; the reader of the golden file makes the same ones."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        return np.abs(values) * 0.5 + 0.5
    fan = int(np.prod(shape[1:])) if len(shape) > 1 else 10
    return values / np.sqrt(max(fan, 1))


def gmm(c):
    c.algo.gmm.enabled = True
    c.algo.gmm.num_modes = 3


def rnn(c, **extra):
    c.algo.rnn.enabled, c.algo.rnn.hidden_dim, c.train.seq_length, c.algo.rnn.horizon = True, 9, 4, 4
    c.algo.actor_layer_dims = [7]
    for key, value in extra.items():
        setattr(c.algo.rnn, key, value)


def transformer(c, **extra):
    t = c.algo.transformer
    t.enabled, t.embed_dim, t.num_layers, t.num_heads, t.context_length = True, 16, 2, 2, 4
    c.train.frame_stack = 4
    for key, value in extra.items():
        setattr(t, key, value)


def vae(c, **prior):
    c.algo.vae.enabled = True
    c.algo.vae.latent_dim, c.algo.vae.kl_weight = 4, 0.5
    c.algo.vae.encoder_layer_dims = c.algo.vae.decoder_layer_dims = c.algo.vae.prior_layer_dims = (8, 6)
    for key, value in prior.items():
        setattr(c.algo.vae.prior, key, value)


def losses(c):
    c.algo.loss.l2_weight, c.algo.loss.l1_weight, c.algo.loss.cos_weight = 0.5, 2.0, 3.0


def gaussian(c, **extra):
    c.algo.gaussian.enabled = True
    for key, value in extra.items():
        setattr(c.algo.gaussian, key, value)


def rgb(c, backbone="ResNet18Conv", crop=None):
    c.observation.modalities.obs.rgb = ["agentview_image"]
    c.observation.encoder.rgb.core_kwargs.feature_dimension = 6
    c.observation.encoder.rgb.core_kwargs.backbone_class = backbone
    c.observation.encoder.rgb.core_kwargs.backbone_kwargs = {"pretrained": False, "input_coord_conv": False}
    c.observation.encoder.rgb.core_kwargs.pool_class = "SpatialSoftmax"
    c.observation.encoder.rgb.core_kwargs.pool_kwargs = {
        "num_kp": 4,
        "learnable_temperature": False,
        "temperature": 1.0,
        "noise_std": 0.0,
        "output_variance": False,
    }
    if crop:
        c.observation.encoder.rgb.obs_randomizer_class = "CropRandomizer"
        c.observation.encoder.rgb.obs_randomizer_kwargs = {
            "crop_height": crop,
            "crop_width": crop,
            "num_crops": 1,
            "pos_enc": False,
        }


def depth(c):
    rgb(c)
    c.observation.modalities.obs.rgb = []
    c.observation.modalities.obs.depth = ["agentview_depth"]
    c.observation.encoder.depth.core_class = "VisualCore"
    c.observation.encoder.depth.core_kwargs = json.loads(json.dumps(c.observation.encoder.rgb.core_kwargs))


def goal(c):
    c.observation.modalities.goal.low_dim = ["object"]


CASES = {
    "bc": lambda c: losses(c),
    "bc_gaussian": lambda c: gaussian(c),
    "bc_gaussian_exp": lambda c: gaussian(c, std_activation="exp"),
    "bc_gmm": gmm,
    "bc_goal": goal,
    "bc_vae": vae,
    "bc_vae_learned": lambda c: vae(c, learn=True),
    "bc_vae_conditioned": lambda c: vae(c, learn=True, is_conditioned=True),
    "bc_rnn": lambda c: rnn(c),
    "bc_rnn_gru": lambda c: rnn(c, rnn_type="GRU"),
    "bc_rnn_gmm": lambda c: (rnn(c), gmm(c)),
    "bc_rnn_open": lambda c: rnn(c, open_loop=True),
    "bc_rnn_goal": lambda c: (rnn(c), goal(c)),
    "bc_transformer": lambda c: transformer(c),
    "bc_transformer_all": lambda c: transformer(c, supervise_all_steps=True, activation="geglu"),
    "bc_transformer_gmm": lambda c: (transformer(c), gmm(c)),
    "bc_transformer_gmm_all": lambda c: (transformer(c, supervise_all_steps=True), gmm(c)),
    "bc_transformer_embedding": lambda c: transformer(c, nn_parameter_for_timesteps=False),
    "bc_transformer_sines": lambda c: transformer(c, nn_parameter_for_timesteps=False, sinusoidal_embedding=True),
    "image_bc_gmm": lambda c: (rgb(c), gmm(c)),
    "image_bc_crop": lambda c: rgb(c, crop=36),
    "image_bc_resnet34": lambda c: rgb(c),
    "image_bc_rnn_gmm": lambda c: (rgb(c), rnn(c), gmm(c)),
    "image_bc_transformer_gmm": lambda c: (rgb(c, crop=36), transformer(c), gmm(c)),
    "image_bc_depth": depth,
}


def configured(case):
    c = config_factory("bc")
    with c.values_unlocked():
        c.observation.modalities.obs.low_dim = list(LOW)
        c.algo.actor_layer_dims = [8, 6]
        CASES[case](c)
    c.lock()
    shapes = OrderedDict((key, list(shape)) for key, shape in LOW.items())
    if c.observation.modalities.obs.rgb:
        shapes["agentview_image"] = IMAGE
    if c.observation.modalities.obs.depth:
        shapes["agentview_depth"] = [1, *IMAGE[1:]]
    return c, OrderedDict(sorted(shapes.items()))


def make(case, folder):
    torch.manual_seed(zlib.crc32(case.encode()))
    c, shapes = configured(case)
    ObsUtils.initialize_obs_utils_with_config(c)
    with resnet34() if case == "image_bc_resnet34" else contextlib.nullcontext():
        model = algo_factory("bc", c, shapes, A, torch.device("cpu"))
    image = case.startswith("image")
    state = model.nets.state_dict()
    with torch.no_grad():
        for name, value in state.items():
            if (
                image
                and value.dtype == torch.float32
                and not name.endswith(("pos_x", "pos_y", "temperature", "attention.mask"))
            ):
                # the same tensor has two names in a VisualCore: one filling per storage
                value.copy_(torch.from_numpy(fill(first_name(state, name), tuple(value.shape))))
            elif value.dtype == torch.float32 and value.dim() and name.endswith("embed_timestep"):
                value.copy_(torch.randn_like(value) * 0.1)
    T = c.train.frame_stack - 1 + c.train.seq_length
    rng = np.random.default_rng(1)
    obs = {key: rng.standard_normal((B, T, *shape)).astype(np.float32) for key, shape in shapes.items()}
    for key in obs:
        if len(shapes[key]) == 3:
            obs[key] = rng.integers(0, 256, (B, T, *shapes[key]), np.uint8)
    action = np.tanh(rng.standard_normal((B, T, A))).astype(np.float32)
    batch = {"obs": {k: as_floats(v) for k, v in obs.items()}, "actions": torch.from_numpy(action)}
    goals = None
    if c.observation.modalities.goal.low_dim:
        goals = {"object": rng.standard_normal((B, 5)).astype(np.float32)}
        batch["goal_obs"] = {k: torch.from_numpy(v) for k, v in goals.items()}
    out = {}
    model.set_eval() if image else model.set_train()
    if not image:
        for module in model.nets.modules():  # numbers without chance
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    vae_noise = None
    if c.algo.vae.enabled:  # the latent's noise is what the next call of normal_ gives
        torch.manual_seed(5)
        vae_noise = torch.empty(B, 4).normal_().numpy()
        torch.manual_seed(5)
    prepared = model.process_batch_for_training(batch)
    if image and c.algo.gmm.enabled and not c.algo.transformer.enabled:
        model.nets["policy"].low_noise_eval = False  # the loss of the predicted std, as in training
    with torch.no_grad() if image else contextlib.nullcontext():
        predictions = model._forward_training(prepared)
        found = model._compute_losses(predictions, prepared)
    for name, value in found.items():
        out[f"loss/{name}"] = value.detach().numpy()
    for name in ("log_probs", "actions", "kl_loss", "reconstruction_loss"):
        if torch.is_tensor(predictions.get(name)):
            out[f"prediction/{name}"] = predictions[name].detach().numpy()
    if not image:
        found["action_loss"].backward()
        out["grad_norm"] = np.sqrt(
            sum(float(p.grad.square().sum()) for p in model.nets.parameters() if p.grad is not None)
        )
    # Actions of consecutive steps, one episode; mixtures: mean, std and logits of each step instead of a draw.
    model.set_eval()
    model.reset()
    steps, T_act = 11, c.train.frame_stack
    arrays = {key: rng.standard_normal((steps, *shape)).astype(np.float32) for key, shape in shapes.items()}
    for key in arrays:
        if len(shapes[key]) == 3:
            arrays[key] = rng.integers(0, 256, (steps, *shapes[key]), np.uint8)
    stochastic = c.algo.gmm.enabled or c.algo.vae.enabled
    acted = []
    for step in range(steps):

        def window(values, step=step):
            if T_act == 1:
                return values[step][None]
            return np.stack([values[max(0, step - T_act + 1 + i)] for i in range(T_act)])[None]

        now = {key: as_floats(window(values)) for key, values in arrays.items()}
        g = None if goals is None else {key: torch.from_numpy(value[:1]) for key, value in goals.items()}
        with torch.no_grad():
            if c.algo.gmm.enabled:
                acted.append(mixture_mean(model, c, now, g))
            elif not stochastic:
                acted.append(model.get_action(now, g).numpy()[0])
    out |= {f"episode/{key}": value for key, value in arrays.items()}
    if acted:
        out["episode_actions"] = np.stack(acted)
    if vae_noise is not None:
        out["vae_noise"] = vae_noise
        latent = torch.from_numpy(vae_noise[:1])
        now = {key: torch.from_numpy(values[:1]) for key, values in arrays.items()}
        with torch.no_grad():
            out["vae_decoded"] = model.nets["policy"]._vae.decode(conditions=now, z=latent)["action"].numpy()
    if goals is not None:
        out |= {f"goal/{key}": value for key, value in goals.items()}
    meta = {
        "case": case,
        "robomimic": robomimic.__version__,
        "torch": torch.__version__,
        "config": json.loads(c.dump()),
    }
    meta |= {"shapes": shapes, "ac_dim": A, "names": list(state), "sizes": [list(v.shape) for v in state.values()]}
    out |= {f"in/{key}": value for key, value in obs.items()} | {"action": action}
    if not image:
        out |= {f"weights/{name}": value.numpy() for name, value in state.items()}
    out["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez_compressed(folder / f"{case}.npz", **out)


@contextlib.contextmanager
def resnet34():
    """The peer has no class for it; layers and names agree."""
    from torchvision import models

    small = models.resnet18
    models.resnet18 = models.resnet34
    yield
    models.resnet18 = small


def as_floats(values):
    """What robomimic makes of bytes before a net sees them (channels are first already)."""
    return torch.from_numpy(values.astype(np.float32) / 255 if values.dtype == np.uint8 else values)


def first_name(state, name):
    """The first name under which this storage stands in the state dict."""
    pointer = state[name].data_ptr()
    return next(
        other for other, value in state.items() if value.data_ptr() == pointer and value.shape == state[name].shape
    )


def mixture_mean(model, c, obs, goals):
    """The most probable mode's mean: what our test compares without chance; keeps the RNN's state as get_action does."""
    policy = model.nets["policy"]
    if c.algo.rnn.enabled:
        if model._rnn_hidden_state is None or model._rnn_counter % model._rnn_horizon == 0:
            model._rnn_hidden_state = policy.get_rnn_init_state(batch_size=1, device=torch.device("cpu"))
        model._rnn_counter += 1
        sequence = {key: value[:, None] for key, value in obs.items()}
        dist, model._rnn_hidden_state = policy.forward_train(
            obs_dict=sequence, goal_dict=goals, rnn_init_state=model._rnn_hidden_state, return_state=True
        )
    else:
        dist = policy.forward_train(obs_dict=obs, goal_dict=goals)
    mean, logits = dist.component_distribution.base_dist.loc, dist.mixture_distribution.logits
    if mean.dim() == 4:
        mean, logits = mean[:, -1], logits[:, -1]
    return mean[0, logits[0].argmax()].numpy()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for case in sys.argv[2:] or CASES:
        with contextlib.redirect_stdout(io.StringIO()):
            make(case, folder)
        print(case, (folder / f"{case}.npz").stat().st_size)
