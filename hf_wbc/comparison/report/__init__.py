"""The comparison as one HTML file that loads nothing, for hematologists and reviewers."""

from hf_wbc.comparison.report.page import render

__all__ = ["render"]
