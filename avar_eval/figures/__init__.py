"""How every picture of the product looks and how it is saved: `file` (light), `style` and `score_axis` (matplotlib)."""
