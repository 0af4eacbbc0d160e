"""How good a model is: metrics, intervals, selection rules; plain numbers in, plain numbers out."""
