"""Import everything that predictions need, once, in the thread that loads the model.

These libraries take seconds to import. Two threads that import one at the same time can see a
partially initialized module, so the loading thread imports them all before the first request.
"""

import hf_wbc.app.domains_tab
import hf_wbc.evaluation.differential
import hf_wbc.finder.detect_cells
import hf_wbc.hub.model_card
import hf_wbc.inference.cell_prediction
import hf_wbc.inference.saliency
import hf_wbc.plots.cell_map
import hf_wbc.toy.archives  # noqa: F401
from hf_wbc.inference.predictor import Predictor

__all__ = ["Predictor"]
