"""Find nucleated cells in fields of view and whole slides."""
