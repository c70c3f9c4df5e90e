"""MathVerse's only rule without a judge model: `--quick_match`.

evaluation/score_answer_s2.py of ZrrSkywalker/MathVerse compares the extracted answer with the gold one as strings when
called so; by default it asks a language model. Published MathVerse scores are the language model's, and are not
reproduced by this rule: a gold "8.246" is not matched by "8.246 units".
"""

from collections.abc import Mapping
from typing import Any


def official_verdict(row: Mapping[str, Any], extraction: str | None) -> bool:
    """Whether an extracted answer is the gold one to the letter; both without surrounding white space."""
    return extraction is not None and extraction.strip() == row["answer"].strip()
