"""An imitation of the package, for tests of the adapter."""
