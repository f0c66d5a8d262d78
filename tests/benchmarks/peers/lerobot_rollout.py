"""Run by lerobot's interpreter: its own rollout of a pretrained_model folder on PushT's key points.

lerobot_rollout.py FOLDER FIRST_SEED EPISODES BATCH OUT [NOISE] -> {"cpu_s", "wall_s"}; OUT: npz with success, steps and the
actions [episodes, steps, 2]; NOISE: npz with noise [episodes, chunks, horizon, 2], else the policy draws its own.
Environments, processors and loop are those of its lerobot_eval.py.
"""

import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["SDL_VIDEODRIVER"] = "dummy"

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs.configs import PushtEnv
from lerobot.envs.factory import make_env, make_env_pre_post_processors
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.scripts.lerobot_eval import rollout
from lerobot.utils.random_utils import set_seed


def main(folder, first, episodes, batch, out, noise=""):
    torch.set_num_threads(1)
    set_seed(first)
    config = PreTrainedConfig.from_pretrained(folder)
    policy = get_policy_class(config.type).from_pretrained(folder, strict=True).eval()
    before, after = make_pre_post_processors(config, pretrained_path=folder)
    env_config = PushtEnv(obs_type="environment_state_agent_pos")
    env = make_env(env_config, n_envs=batch, use_async_envs=False)["pusht"][0]
    env_before, env_after = make_env_pre_post_processors(env_cfg=env_config, policy_cfg=config)
    drawn = np.load(noise)["noise"] if noise else None
    select, at = policy.select_action, [0, 0]  # the first episode of the batch, the step

    def with_noise(observation):
        given = {}
        if drawn is not None and at[1] % config.n_action_steps == 0:
            given["noise"] = torch.from_numpy(drawn[at[0] : at[0] + batch, at[1] // config.n_action_steps])
        at[1] += 1
        return select(observation, **given)

    policy.select_action = with_noise
    success, steps, actions = [], [], []
    began, cpu = time.perf_counter(), time.process_time()
    for start in range(0, episodes, batch):
        at[:] = [start, 0]
        seeds = list(range(first + start, first + start + batch))
        found = rollout(env, policy, env_before, env_after, before, after, seeds=seeds)
        done = found["done"].numpy()
        ends = done.argmax(1)
        success += [bool(row[: end + 1].any()) for row, end in zip(found["success"].numpy(), ends, strict=True)]
        steps += (ends + 1).tolist()
        padded = np.zeros((batch, env_config.episode_length, 2), np.float32)
        padded[:, : done.shape[1]] = found["action"].numpy()
        actions.append(padded)
    spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - began}
    np.savez(
        out,
        success=np.array(success)[:episodes],
        steps=np.array(steps)[:episodes],
        actions=np.concatenate(actions)[:episodes],
    )
    return spent


if __name__ == "__main__":
    words = sys.argv[1:]
    answer = main(words[0], int(words[1]), int(words[2]), int(words[3]), *words[4:])
    sys.stdout.write(json.dumps(answer) + "\n")
