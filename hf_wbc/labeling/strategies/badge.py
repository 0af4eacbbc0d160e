"""Cells whose labels would change the head most, and in different directions.

Ash et al. 2020, "Deep batch active learning by diverse, uncertain gradient lower bounds" (BADGE),
arXiv:1906.03671. The gradient of the head for the predicted class is the outer product of the
probabilities' error and the features. Its k-means++ draw needs inner products only, so no gradient
is stored.
"""

import numpy as np

from hf_wbc.labeling.strategies import Ids, PoolView

__all__ = ["choose"]


def choose(view: PoolView, num: int, rng: np.random.Generator) -> Ids:
    """Draw cells by k-means++ among the gradients."""
    features = view.embedding[view.candidates]
    errors = view.probabilities[view.candidates].copy()
    errors[np.arange(len(errors)), errors.argmax(1)] -= 1
    squares = np.einsum("ij,ij->i", features, features) * np.einsum("ij,ij->i", errors, errors)
    chosen = [int(squares.argmax())]
    nearest = squares.copy()
    for _ in range(num - 1):
        last = chosen[-1]
        inner = (features @ features[last]) * (errors @ errors[last])
        np.minimum(nearest, np.maximum(squares + squares[last] - 2 * inner, 0), out=nearest)
        nearest[chosen] = 0
        weights = nearest.astype(np.float64)
        if not weights.any():  # all remaining cells are alike
            weights[np.setdiff1d(np.arange(len(weights)), chosen)] = 1
        chosen.append(int(rng.choice(len(weights), p=weights / weights.sum())))
    return view.candidates[chosen]
