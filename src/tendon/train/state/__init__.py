"""What a training leaves in the store: snapshots, checkpoints, the rules that keep them, the result."""
