"""The labeled images of WBCBench 2026: phase 1, and the training and evaluation sets of phase 2."""

from dataset_scripts._wbcbench import LABELED, build

SOURCE = build("wbcbench_26", "the labeled images", LABELED)
