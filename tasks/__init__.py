"""One folder a benchmark: an lmms-eval YAML and a small module (how a row becomes a prompt, how a response is judged)."""
