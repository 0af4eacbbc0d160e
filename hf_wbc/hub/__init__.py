"""Publishing on the Hub or in a folder: what goes there, how it gets there, cards and Spaces."""
