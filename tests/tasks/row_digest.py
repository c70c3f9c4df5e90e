"""What pins the rows of an embedded benchmark."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any


def row_digest(questions: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 over everything that a row holds, pixels included."""
    total = hashlib.sha256()
    for row in questions:
        fields = {name: value for name, value in row.items() if name != "image"}
        total.update(json.dumps(fields, sort_keys=True).encode())
        total.update(row["image"].tobytes())
    return total.hexdigest()
