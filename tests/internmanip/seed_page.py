"""What the documentation of GRManipulation's training page lists: every key with its value, and its snippets. Facts, for tests."""

from __future__ import annotations

# policy and dataset, training, learning rate, fine-tuning, LoRA, data loading, miscellaneous
VISIBLE = {
    "policy": "", "dataset_path": "genmanip-demo", "data_config": "genmanip-v1", "output_dir": "",
    "batch_size": 16, "gradient_accumulation_steps": 1, "max_steps": 10000, "save_steps": 500, "num_gpus": 1,
    "resume_from_checkpoint": False, "learning_rate": 1e-4, "weight_decay": 1e-5, "warmup_ratio": 0.05,
    "base_model_path": "", "tune_llm": False, "tune_visual": True, "tune_projector": True, "tune_diffusion_model": True,
    "use_pretrained_model": False, "lora_rank": 0, "lora_alpha": 16, "lora_dropout": 0.1, "embodiment_tag": "gr1",
    "video_backend": "torchcodec", "dataloader_num_workers": 8, "augsteps": 4, "report_to": "wandb",
}  # fmt: skip
# the blocks that the page hides
HIDDEN = {
    "optim": "adamw_torch", "adam_beta1": 0.95, "adam_beta2": 0.999, "adam_epsilon": 1e-8, "weight_decay": 1e-5,
    "save_strategy": "steps", "save_steps": 500, "save_total_limit": 20, "resume_from_checkpoint": None,
    "gradient_checkpointing": False, "bf16": True, "tf32": True, "dataloader_pin_memory": False,
    "dataloader_persistent_workers": True, "ddp_bucket_cap_mb": 100, "dataloader_num_workers": 4, "logging_steps": 10.0,
    "output_dir": "./checkpoints", "report_to": "wandb",
}  # fmt: skip

CUSTOM = '''
from grmanipulation.configs.dataset.data_config import BaseDataConfig
from grmanipulation.dataset.base import ModalityConfig
from grmanipulation.dataset.transform.concat import ConcatTransform
from grmanipulation.dataset.transform.state_action import (
    StateActionToTensor, StateActionTransform
)

class CustomDataConfig(BaseDataConfig):
    """Custom data configuration for your dataset."""

    state_keys = ["state.joint_positions"]
    action_keys = ["action.joint_velocities"]
    observation_indices = [0]
    action_indices = list(range(16))

    def modality_config(self) -> dict[str, ModalityConfig]:
        state_modality = ModalityConfig(
            delta_indices=self.observation_indices,
            modality_keys=self.state_keys,
        )
        action_modality = ModalityConfig(
            delta_indices=self.action_indices,
            modality_keys=self.action_keys,
        )
        return {
            "state": state_modality,
            "action": action_modality,
        }

    def transform(self) -> "ComposedModalityTransform":
        transforms = [
            StateActionToTensor(apply_to=self.state_keys),
            StateActionTransform(
                apply_to=self.state_keys,
                normalization_modes={
                    "state.joint_positions": "mean_std",
                },
            ),
            StateActionToTensor(apply_to=self.action_keys),
            StateActionTransform(
                apply_to=self.action_keys,
                normalization_modes={
                    "action.joint_velocities": "mean_std",
                }
            ),
            ConcatTransform(
                state_concat_order=self.state_keys,
                action_concat_order=self.action_keys,
            )
        ]
        return transforms
'''
REGISTER = """
from grmanipulation.configs.dataset.data_config import DATA_CONFIG_MAP

data_config = "calvin"
data_config_cls = DATA_CONFIG_MAP[data_config]
modality_configs = data_config_cls.modality_config()
transforms = data_config_cls.transform()
"""
LOAD = """
from grmanipulation.dataset.base import LeRobotSingleDataset
from grmanipulation.dataset.embodiment_tags import EmbodimentTag

embodiment_tag = EmbodimentTag(config.embodiment_tag)

train_dataset = LeRobotSingleDataset(
    dataset_path=config.dataset_path,
    embodiment_tags=embodiment_tag,
    modality_configs=modality_configs,
    transform=transforms,
)
"""
MODEL = """
model = model_cls.from_pretrained(
    pretrained_model_name_or_path="path/to/pretrained/model",
    tune_llm=True,  # backbone's LLM
    tune_visual=True,  # backbone's vision tower
    tune_projector=True,  # action head's projector
    tune_diffusion_model=True,  # action head's DiT
)
"""


def ours(snippet: str) -> str:
    """The snippet with our package's name in place of theirs; nothing else of it changes."""
    lines = [
        "from tendon.internmanip import" + line.partition(" import")[2]
        if line.startswith("from grmanipulation.")
        else line
        for line in snippet.splitlines()
    ]
    return "\n".join(lines)
