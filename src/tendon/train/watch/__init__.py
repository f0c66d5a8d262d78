"""Who looks on: heartbeat, loss monitor, metrics log, trackers and callbacks. None of them changes a number."""
