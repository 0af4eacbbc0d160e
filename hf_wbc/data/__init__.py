"""From archives to batches: sources, checks, crop in um, split, Hub folders, pixels, augmentation."""
