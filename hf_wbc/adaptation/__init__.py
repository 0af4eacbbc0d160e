"""Training methods: one file each, named as the method; files with a leading underscore are shared.

A method file ends in `METHOD = ItsClass`. Adding one is adding a file here and a test.
"""

from hf_wbc.adaptation.method import (
    LossTerms,
    Method,
    Needs,
    TrainingInfo,
    load_method,
    method_names,
)

__all__ = ["LossTerms", "Method", "Needs", "TrainingInfo", "load_method", "method_names"]
