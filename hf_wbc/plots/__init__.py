"""Pictures from plain tables and arrays; each function returns a matplotlib figure."""
