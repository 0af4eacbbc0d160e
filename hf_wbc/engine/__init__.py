"""Training engine: training loop, checkpoints, feature extraction and prediction.

The engine is independent of the adaptation method; no method is referred to by name.
"""
