"""The processes of a training: a child of the step, torchrun's ranks, the nodes of a TrainJob."""
