"""Running things: loop, checkpoint, resume, embedding, prediction. Knows no method by name."""
