"""Source only: cross-entropy on the labeled sources, the baseline for all other methods.

`--logit-adjustment` and `--lineage` apply as for every method.
"""

from hf_wbc.adaptation.method import Method


class SourceOnly(Method):
    """Supervised training on the sources."""

    paper = "Menon et al. 2021, arXiv:2007.07314 (--logit-adjustment)"
    family = "generalization"
    limitations = (
        "the target's cells do not look like those of any source, which is the usual case."
    )


METHOD = SourceOnly
