"""Plots of tables and arrays; each function returns a matplotlib figure."""
