"""What CONTRIBUTING.md says of the folders is so: which there are, and which of them each one may import."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| `([\w/]+)` \| `avar_eval\.(\w+)` \| .* \| ([\w, ]+) \|$", re.MULTILINE)
TABLE = {
    name: (ROOT / folder, set() if imported == "nothing" else set(imported.split(", ")))
    for folder, name, imported in ROW.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
}


def imported_parts(path: Path) -> Iterator[str]:
    """The first part below avar_eval of everything that a module imports from it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("avar_eval."))


def test_every_folder_is_in_the_table() -> None:
    ours = {path.parent.name for path in (ROOT / "avar_eval").glob("*/__init__.py")}
    assert set(TABLE) == ours | {"tasks", "recipes", "leaderboard"}


@pytest.mark.parametrize("name", TABLE)
def test_a_folder_imports_no_folder_but_those_in_the_table(name: str) -> None:
    folder, listed = TABLE[name]
    imported = {part for path in folder.rglob("*.py") for part in imported_parts(path)}
    assert imported & set(TABLE) - {name} <= listed
