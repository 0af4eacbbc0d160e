"""Grids of runs, and what their records say when they are laid side by side."""
