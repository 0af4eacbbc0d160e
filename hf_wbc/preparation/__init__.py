"""Turn a source's archive into a prepared folder: list, check, deduplicate, split, crop, write."""
