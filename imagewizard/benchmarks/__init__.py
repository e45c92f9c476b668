"""Benchmarks of the pipeline, the models and the training."""
