"""`avar-eval sweep`: one model under a grid of steerings, each paired with the unsteered model on the same rows."""
