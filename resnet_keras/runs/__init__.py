"""The folder of a training run: checkpoints, history, result."""
