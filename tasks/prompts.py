"""Instructions that more than one benchmark puts at the end of its prompt."""

from typing import Final

THINKING: Final = "First think inside <think> </think> tags, then give the final answer inside <answer> </answer> tags."
"""The instruction of the R1 family of models: reasoning and answer in tags of their own."""
