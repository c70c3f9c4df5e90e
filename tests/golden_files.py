"""Texts that must not change unnoticed: `tests/golden/NAME.txt`, written anew where AVAR_WRITE_GOLDEN is set."""

import os
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def check_golden(name: str, texts: Iterable[str]) -> None:
    """Compare texts with the file of that name."""
    path = FOLDER / f"{name}.txt"
    written = "\n=====\n".join(texts) + "\n"
    if os.environ.get("AVAR_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(written, encoding="utf-8")
    assert written == path.read_text(encoding="utf-8")
