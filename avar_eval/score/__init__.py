"""Judging without generating: `avar-eval score`, of a run's records (`records`) or of any responses (`responses`)."""
