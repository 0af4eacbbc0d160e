"""From archives to batches: sources, checks, crops in um, splits, Hub folders, pixels."""
