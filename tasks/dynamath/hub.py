"""The hub's rows in the form that `--data-dir` has: the picture in the column `image`, the variant in `variant`."""

from collections import Counter
from typing import Any


def with_variants(rows: Any) -> Any:
    """The n-th row of a question is its variant n: the ten splits come one after the other, each asks every question.

    `image` names a file; `decoded_image` is that picture: it takes the name's place.
    """
    seen: Counter[str] = Counter()
    variants = []
    for question in rows["id"]:
        seen[question] += 1
        variants.append(seen[question])
    return rows.add_column("variant", variants).remove_columns("image").rename_column("decoded_image", "image")
