"""Memory of training pi0 and GR00T: the estimate beside what torch's allocator counts, and a 3 B preset with LoRA."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.rows import Skip, row

FRONT, STATE = "observation.images.front", "observation.state"
MID = (
    "vision_width=144", "vision_layers=4", "vision_feedforward=400", "image_size=112", "text_width=256", "text_layers=6",
    "text_feedforward=768", "text_head_dim=32", "vocab_size=4096",
)  # fmt: skip
MID_OF = {
    "pi0": ("expert_width=128", "expert_feedforward=384", "text_heads=8"),
    "gr00t_n1_5": (
        "hidden_size=256", "input_embedding_dim=256", "diffusion_heads=8", "diffusion_layers=6", "vl_heads=8", "text_heads=8",
        "text_kv_heads=4", "image_token_id=4095",
    ),
}  # fmt: skip
LORA = (
    "policy.lora_rank=16", "policy.tune_llm=true", "policy.tune_visual=true", "policy.gradient_checkpointing=true",
    "policy.base_model_path=weights", f"policy.base_sha256={'0' * 64}", "policy.base_dtype=bfloat16", "training.batch_size=1",
)  # fmt: skip


def features() -> dict[str, Any]:
    from tendon.data.features import Feature

    return {
        STATE: Feature(STATE, "state", (8,), "float32"),
        FRONT: Feature(FRONT, "image", (224, 224, 3), "uint8"),
        "task": Feature("task", "text", (), "int64"),
        "action": Feature("action", "action", (7,), "float32"),
    }


def config_of(name: str, *overrides: str) -> Any:
    from tendon.config.compose import compose

    return compose(["data.uri=x", f"policy={name}", "training.batch_size=4", *overrides])


def measured(config: Any) -> int:
    """Bytes at the fullest moment of two updates, by the allocator of the CPU."""
    import torch

    from tendon.policies.registry import make_policy
    from tendon.train.loop.memory_estimate import UPDATES, _batch
    from tendon.train.loop.optimizer import make_optimizer, recompute, training_mode

    policy = make_policy(config.policy, features())
    policy.set_texts(("push the block",))
    training_mode(policy)
    recompute(policy.checkpointed_units())
    batch = _batch(policy, config.training.batch_size)
    optimizer = make_optimizer(config.training, policy)
    held = sum(one.numel() * one.element_size() for one in (*policy.parameters(), *policy.buffers()))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        for step in range(UPDATES):
            optimizer.zero_grad(set_to_none=True)
            loss = policy.loss(batch, None, step).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for p in policy.parameters() if p.requires_grad], 1.0)
            del loss
            optimizer.step()
    events = profile.profiler.kineto_results.events()
    changes = sorted((one.start_ns(), one.nbytes()) for one in events if one.name() == "[memory]")
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return held + peak


def worst_share(name: str, *overrides: str) -> float:
    """How far the estimate is from the measurement, as a share of it."""
    from tendon.train.loop.memory_estimate import estimate_memory

    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise Skip(str(error)) from None
    config = config_of(name, *overrides)
    real = measured(config)
    return abs(estimate_memory(config, features()).total - real) / real


def lora_gib(name: str) -> float:
    from tendon.train.loop.memory_estimate import GIB, estimate_memory

    try:
        import peft  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise Skip(str(error)) from None
    parts = estimate_memory(config_of(name, *LORA), features())
    print(f"{name}\n{parts.describe()}")
    return parts.total / GIB


def _rows() -> None:
    for name in ("pi0", "gr00t_n1_5"):
        for size in ("tiny", "mid"):
            preset = f"{name}_tiny"
            more = [f"policy.{one}" for one in (*MID, *MID_OF[name])] if size == "mid" else []
            for label, flag in (("", ()), ("-recomputed", ("policy.gradient_checkpointing=true",))):
                what = f"estimate of the memory of training {name}, {size}{label}, beside the allocator's: share that it is off"

                @row("bench", f"internmanip-memory-{name}-{size}{label}", what, "<= 0.1")
                def measure(preset: str = preset, more: tuple[str, ...] = (*more, *flag)) -> float:
                    return worst_share(preset, *more)

        what = f"GiB that one update of {name} with LoRA takes by the estimate, base in bfloat16, batch of 1"

        @row("bench", f"internmanip-lora-memory-{name}", what, "<= 24 GiB")
        def lora(name: str = name) -> float:
            return lora_gib(name)


_rows()
