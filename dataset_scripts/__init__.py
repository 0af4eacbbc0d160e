"""One file per source: its facts, label map, known faults, and how its archive is walked."""
