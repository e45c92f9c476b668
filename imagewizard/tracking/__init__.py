"""The history of a training run: rows, curves, panels, TensorBoard."""
