"""`avar-eval ablate RUN`: what a finished run's answers owe to their images, measured afterwards."""
