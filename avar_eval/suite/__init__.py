"""Models × tasks in one command: `avar-eval suite SUITE.yaml`, a run of `avar-eval run` for each model."""
