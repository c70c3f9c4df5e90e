"""`avar-eval doctor`: what measuring and steering give and cost on this machine, on one screen for an issue."""
