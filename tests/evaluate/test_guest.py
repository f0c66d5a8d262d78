import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tendon import trust
from tendon.errors import ConfigError, MissingDependency
from tendon.evaluate.guest import Guest, GuestCrash


def gone(pid, within_s=5.0):
    """Whether the process ends in time (a zombie that nobody waits for has ended)."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def until_trouble(guest, seed):
    guest.reset(seed)
    for _ in range(5):
        guest.step(np.zeros(2))


def test_an_episode_over_the_pipe_equals_one_in_this_process(reach):
    from tendon.sim.adapters.reach import Adapter

    here = Adapter()
    here.make("Reach", {}, 10.0, (), (84, 84))
    expected = [here.reset(3)["agent_pos"]] + [here.step([0.5, -0.2])[0]["agent_pos"] for _ in range(4)]
    with Guest(reach) as guest:
        assert guest.action_dim == 2
        got = [guest.reset(3)["agent_pos"]]
        got += [guest.step(np.array([0.5, -0.2])).observation["agent_pos"] for _ in range(4)]
    assert np.array_equal(expected, got)


def test_a_simulator_that_prints_does_not_hurt_the_stream(troubled):
    with Guest(troubled({})) as guest:
        until_trouble(guest, 1)
        assert "hello on stderr" in guest.tail()
        assert "step 4" in guest.tail()


def test_images_come_through_shared_memory(reach):
    env = replace(reach, observation=("agent_pos", "top_image"), options={"image_size": 20})
    with Guest(env) as guest:
        image = guest.reset(1)["top_image"]
        assert image.shape == (20, 20, 3)
        kept = image.copy()
        guest.step(np.ones(2))
        assert (image == kept).all()  # a copy: the next step does not paint over it
        assert guest.render(50, 40).shape == (40, 50, 3)


@pytest.mark.parametrize(
    ("how", "why"),
    [("exit", "exit status 7"), ("segfault", "SIGSEGV"), ("raise", "ValueError: joint 3 exploded"), ("hang", "0.3 s")],
)
def test_trouble_is_a_crash_that_says_why_and_the_guest_can_be_replaced(troubled, how, why):
    guest = Guest(troubled({"7": how}), step_timeout_s=0.3)
    guest.start()
    with pytest.raises(GuestCrash) as caught:
        until_trouble(guest, 7)
    assert why in caught.value.why
    assert ("joint 3" if how == "raise" else "step 2") in caught.value.tail
    if how == "exit":
        assert "GLFW error: out of luck" in str(caught.value)
    first = guest.pid
    guest.replace()
    assert guest.pid != first
    assert gone(first)
    until_trouble(guest, 8)
    guest.close()


def test_killing_a_guest_kills_what_it_started(troubled):
    guest = Guest(troubled({"7": "child and hang"}), step_timeout_s=0.5)
    guest.start()
    with pytest.raises(GuestCrash) as caught:
        until_trouble(guest, 7)
    child = int(caught.value.tail.split()[-1])
    assert gone(child)
    guest.close()


@pytest.mark.parametrize("how", ["idle", "hang", "hang holding the lock", "child and hang"])
def test_no_guest_outlives_a_killed_host(troubled, how):
    env = troubled({"7": how})
    host = (
        "import sys, threading, numpy as np\n"
        "from tendon.config.schema import EnvConfig\n"
        "from tendon.evaluate.guest import Guest\n"
        f"guest = Guest({env!r}, step_timeout_s=100)\n"
        "starter = threading.Thread(target=guest.start); starter.start(); starter.join()\n"  # not tied to a thread
        "guest.reset(7); guest.step(np.zeros(2)); guest.step(np.zeros(2))\n"
        "print(guest.pid, flush=True)\n"
        "guest.step(np.zeros(2))\n"
        "threading.Event().wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", host], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    time.sleep(0.3)
    assert not gone(pid, within_s=0.05)
    members = [int(line) for line in subprocess.check_output(["pgrep", "-g", str(pid)], text=True).split()]
    assert len(members) == (2 if how == "child and hang" else 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert all(gone(member) for member in members)


def test_nothing_leaks(reach):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Guest(reach) as guest:
            guest.reset(1)
    guest = Guest(reach)
    guest.start()
    guest.kill()
    guest.replace()
    guest.close()
    guest.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"task": "Grasp"}, "no task 'Grasp'"),
        ({"options": {"speed": 3}}, "speed"),
        ({"simulator": "reech"}, "env.simulator=reach"),
        ({"simulator": "/nowhere/mine.py"}, "/nowhere/mine.py"),
    ],
)
def test_what_does_not_exist_is_a_configuration_error(reach, change, says):
    guest = Guest(replace(reach, **change))
    with pytest.raises(ConfigError) as caught:
        guest.start()
    guest.close()
    assert says in str(caught.value)


def test_a_file_without_an_adapter_and_one_that_cannot_import(reach, tmp_path, monkeypatch):
    path = tmp_path / "mine.py"
    path.write_text("x = 1\n")
    monkeypatch.setenv(trust.VARIABLE, trust.sha256_of(path))
    guest = Guest(replace(reach, simulator=str(path)))
    with pytest.raises(ConfigError, match="no class Adapter"):
        guest.start()
    guest.close()
    path.write_text("import a_simulator_that_is_not_here\n")
    monkeypatch.setenv(trust.VARIABLE, trust.sha256_of(path))
    guest = Guest(replace(reach, simulator=str(path)))
    with pytest.raises(MissingDependency, match="a_simulator_that_is_not_here"):
        guest.start()
    guest.close()


def test_make_reset_and_step_are_enough_for_an_adapter(reach, tmp_path, monkeypatch):
    path = tmp_path / "small.py"
    path.write_text(
        "import numpy as np\n"
        "class Adapter:\n"
        "    def make(self, task, options, fps, cameras, size): return {'action_dim': 1}\n"
        "    def reset(self, seed): self.x = float(seed); return {'x': np.array([self.x])}\n"
        "    def step(self, action): self.x += action[0]; return {'x': np.array([self.x])}, 0.0, self.x > 10, False\n"
    )
    monkeypatch.setenv(trust.VARIABLE, trust.sha256_of(path))
    with Guest(replace(reach, simulator=str(path))) as guest:
        assert guest.reset(4)["x"] == 4
        assert guest.step(np.array([7.0])).success
        with pytest.raises(ConfigError, match="scripted expert"):
            guest.reset_expert(4, 0.0)
        with pytest.raises(ConfigError, match="cannot draw"):
            guest.render(8, 8)
