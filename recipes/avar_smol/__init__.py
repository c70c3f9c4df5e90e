"""How `avar-smol` learns to see: its lessons, its tower's first steps, its training."""
