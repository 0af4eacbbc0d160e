"""Source only: cross-entropy on the labelled sources, which everything else has to beat.

With --logit-adjustment and --lineage as for every method.
"""

from hf_wbc.adaptation.method import Method


class SourceOnly(Method):
    paper = "Menon et al. 2021, arXiv:2007.07314 (--logit-adjustment)"
    family = "generalisation"
    limitations = "the target's cells look unlike every source's, which is the rule."


METHOD = SourceOnly
