import numpy as np
import pytest

from tendon.sim.adapters.reach import Adapter
from tendon.sim.protocol import Refused


def made(**change):
    adapter = Adapter()
    adapter.make(**{"task": "Reach", "options": {}, "fps": 10.0, "cameras": (), "size": (32, 32), **change})
    return adapter


def run(adapter, seed, actions=None, noise=0.0, steps=60):
    adapter.reset(seed)
    adapter.reset_expert(seed, noise)
    taken = []
    for index in range(steps):
        action = adapter.expert() if actions is None else actions[min(index, len(actions) - 1)]
        taken.append(action)
        if adapter.step(action)[2]:
            return True, taken
    return False, taken


def test_the_expert_succeeds_with_bounded_actions():
    adapter = made()
    for seed in range(1, 101):
        success, actions = run(adapter, seed, noise=0.2)
        assert success
        assert 3 <= len(actions) <= 40
        assert np.abs(actions).max() <= 1


def test_the_actions_of_one_seed_do_not_solve_another():
    adapter = made()
    _, actions = run(adapter, 1)
    assert run(adapter, 1, actions)[0]
    assert sum(run(adapter, seed, actions)[0] for seed in range(2, 42)) <= 4


def test_standing_still_does_not_solve_it():
    assert not any(run(made(), seed, [np.zeros(2)])[0] for seed in range(1, 21))


def test_the_seed_is_the_episode():
    one, other = made(), made()
    run(other, 9)
    assert all((one.reset(4)[key] == other.reset(4)[key]).all() for key in one.reset(4))
    assert (one.reset(4)["agent_pos"] != one.reset(5)["agent_pos"]).any()


def test_frames_show_mass_and_target():
    adapter = made(cameras=("top",), size=(48, 64))
    observation = adapter.reset(3)
    image = observation["top_image"]
    assert image.shape == (48, 64, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) == 4
    for _ in range(8):
        moved = adapter.step(adapter.target - adapter.position)[0]["top_image"]
    assert (moved != image).any()


@pytest.mark.parametrize("change", [{"task": "Grasp"}, {"options": {"speed": 2}}, {"cameras": ("side",)}])
def test_what_it_does_not_have_is_refused(change):
    with pytest.raises(Refused):
        made(**change)
