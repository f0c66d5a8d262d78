"""A crane on a rail: the trolley must stop above the mark. A simulator that tendon runs as a guest; numpy only."""

import numpy as np

NUMERICS = 1  # raise it when the same seed and actions give other numbers
REACH_M, RADIUS_M, SLOW = 1.0, 0.05, 0.2  # half the rail; how near and how slow "stopped above the mark" is
FORCE, DRAG = 4.0, 1.0  # m/s^2 at action 1; braking, 1/s


class Adapter:
    def make(self, task, options, fps, cameras, size):
        if task != "Crane":
            raise ValueError(f"no task {task}: env.task=Crane")
        self.dt, self.cameras, self.size = 1.0 / fps, cameras, size
        return {"action_dim": 1, "cameras": ["side"], "instruction": "stop above the mark"}

    def reset(self, seed):  # the same seed is the same episode, whatever ran before
        rng = np.random.default_rng(seed)
        self.position, self.mark = rng.uniform(-REACH_M, -0.2), rng.uniform(0.2, REACH_M)
        if rng.random() < 0.5:
            self.position, self.mark = self.mark, self.position
        self.velocity = 0.0
        return self.observe()

    def step(self, action):
        for _ in range(10):
            self.velocity += self.dt / 10 * (FORCE * float(np.clip(action[0], -1, 1)) - DRAG * self.velocity)
            self.position += self.dt / 10 * self.velocity
        stopped = abs(self.mark - self.position) < RADIUS_M and abs(self.velocity) < SLOW
        return self.observe(), float(stopped), stopped, abs(self.position) > 2 * REACH_M  # reward, success, done

    def render(self, width, height, camera):
        frame = np.full((height, width, 3), 245, np.uint8)
        for place, colour, half in ((self.mark, (0, 158, 115), 2), (self.position, (0, 114, 178), 3)):
            column = int(np.clip((place / REACH_M + 1) / 2, 0, 1) * (width - 1))
            frame[height // 3 : 2 * height // 3, max(0, column - half) : column + half + 1] = colour
        return frame

    def observe(self):
        seen = {"trolley": np.array([self.position, self.velocity]), "mark": np.array([self.mark])}
        return seen | {f"{name}_image": self.render(self.size[1], self.size[0], name) for name in self.cameras}
