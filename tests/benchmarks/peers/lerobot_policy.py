"""Run by lerobot's interpreter: a pretrained_model folder acts, step by step, on observations and noise from a file.

lerobot_policy.py FOLDER INPUTS OUT -> OUT: npz with the actions [steps, B, D]; INPUTS: npz with observation.*, execute and,
for a policy that begins with noise, noise [chunks, B, horizon, D].
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors


def act(folder, inputs, out):
    torch.set_num_threads(1)
    config = PreTrainedConfig.from_pretrained(folder)
    policy = get_policy_class(config.type).from_pretrained(folder, strict=True)
    policy.eval()
    policy.reset()
    before, after = make_pre_post_processors(config, pretrained_path=folder)
    given = dict(np.load(inputs))
    keys = [key for key in given if key.startswith("observation")]
    actions = []
    for step in range(len(given[keys[0]])):
        observation = {}
        for key in keys:
            value = torch.from_numpy(given[key][step])
            observation[key] = value.movedim(-1, -3).float() / 255 if value.dtype == torch.uint8 else value
        seen = {key: value for key, value in before(observation).items() if key in keys}
        noise = {}
        if "noise" in given:
            noise["noise"] = torch.from_numpy(given["noise"][step // int(given["execute"])])
        with torch.no_grad():
            actions.append(after(policy.select_action(seen, **noise)).numpy())
    np.savez(out, actions=np.stack(actions))
    return {"steps": len(actions)}


print(json.dumps(act(*sys.argv[1:4])))
