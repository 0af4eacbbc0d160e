"""Few labels of a new laboratory: which cells to label, what they bring, and what they prove."""
