"""The test set of WBCBench 2026, without labels: a target only."""

from dataset_scripts._wbcbench import UNLABELED, build

SOURCE = build("wbcbench_26_test", "the test set without labels", UNLABELED)
