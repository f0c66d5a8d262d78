from tests.promises.conftest import tendon, trained

__all__ = ["tendon", "trained"]
