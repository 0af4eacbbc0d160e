"""The page in the browser: Gradio blocks that show what the predictor says, and compute nothing."""
