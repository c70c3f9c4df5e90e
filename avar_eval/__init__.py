"""avar-eval: score vision-language reasoning models and measure where they look."""

__version__ = "0.1.0"
