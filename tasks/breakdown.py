"""Accuracy within the categories that a benchmark's authors report. Pure."""

from collections.abc import Sequence


def share_by(name: str, categories: Sequence[Sequence[str]], correct: Sequence[bool]) -> dict[str, float | None]:
    """`{name}/{category}` -> share of right rows; see `shares`."""
    return {f"{name}/{category}": share for category, share in shares(categories, correct).items()}


def shares(categories: Sequence[Sequence[str]], correct: Sequence[bool]) -> dict[str, float]:
    """Category -> share of right rows (0..1), in alphabetical order. categories: those of each row, none or several."""
    verdicts: dict[str, list[bool]] = {}
    for row_categories, right in zip(categories, correct, strict=True):
        for category in row_categories:
            verdicts.setdefault(category, []).append(right)
    return {category: sum(found) / len(found) for category, found in sorted(verdicts.items())}
