"""Episodes that are unlike the others in a way that a recording fault explains: ``find_faults(trajectories)``."""

from tendon.data.quality.faults import find_faults
from tendon.data.quality.trajectory import Trajectory, trajectory_of

__all__ = ["Trajectory", "find_faults", "trajectory_of"]
