"""hf_wbc: white blood cell classification that survives the change of laboratory."""

__version__ = "0.1.0"
