"""The paper's bands of the Visual Attention Score."""

from typing import Literal

Band = Literal["narrow", "wide", "panoramic"]


def vas_band(vas: float) -> Band:
    """narrow below 10, wide from 10 to 15, panoramic above 15 (arXiv 2603.03825, Figure 1)."""
    if vas < 10:
        return "narrow"
    return "wide" if vas <= 15 else "panoramic"
