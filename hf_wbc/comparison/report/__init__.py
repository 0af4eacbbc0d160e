"""Self-contained HTML report of a comparison, for hematologists and reviewers.

It loads no external resources.
"""

from hf_wbc.comparison.report.page import render

__all__ = ["render"]
