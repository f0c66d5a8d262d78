"""An imitation of the package, for tests of sources of masks."""
