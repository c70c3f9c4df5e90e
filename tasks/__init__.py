"""One folder a benchmark: an lmms-eval YAML, and a module for how a row becomes a prompt and a response is judged."""
