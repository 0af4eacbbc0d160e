"""Predict with a saved model: single cells, folders, runtimes, saliency, reference sets."""
