"""All that answers need, imported by the one thread that loads the model, before any is given.

These libraries take seconds, and threads that import them at the same time can meet half a module.
"""

from hf_wbc.evaluation import differential
from hf_wbc.inference.predictor import Predictor
from hf_wbc.plots import cell_map
from hf_wbc.toy import archives

__all__ = [
    "Predictor",
    "archives",
    "cell_map",
    "cell_warnings",
    "deletion",
    "differential",
    "fit",
    "laboratories",
    "model_tables",
    "model_words",
    "whereabouts",
]
