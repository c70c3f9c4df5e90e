"""Count where each option of how a model is asked is declared: `python tests/declarations.py` prints it.

A declaration is a name with a type: a field of a class, a parameter of a function, or a typer option, which is one.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from avar_eval.fields import declared
from avar_eval.models.backend_options import OPTIONS
from avar_eval.models.decoding import Decoding
from avar_eval.run.asking import Asking

ROOT = Path(__file__).parents[1]
FOLDERS = ("avar_eval", "recipes", "leaderboard")


def shared_fields() -> dict[str, str]:
    """The options by name, with the class that declares them."""
    kinds = (Asking, Decoding, *OPTIONS.values())
    return {name: kind.__name__ for kind in kinds for name, field in declared(kind).items() if field.option}


def modules() -> Iterator[Path]:
    """All modules, once: avar_eval/ holds links to the folders beside it."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if folder != "avar_eval" or path.relative_to(ROOT).parts[1] not in ("tasks", *FOLDERS):
                yield path


def declarations(tree: ast.AST, scope: str = "") -> Iterator[tuple[str, str, str]]:
    """Name, type and place (function or class) of everything that a module declares with a type."""
    for node in ast.iter_child_nodes(tree):
        inner = f"{scope}.{node.name}" if isinstance(node, ast.ClassDef | ast.FunctionDef) else scope
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{scope}.{node.name}"
            arguments = node.args
            for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                if one.annotation is not None:
                    yield one.arg, ast.unparse(one.annotation), inner.strip(".")
        if isinstance(node, ast.AnnAssign) and isinstance(tree, ast.ClassDef) and isinstance(node.target, ast.Name):
            yield node.target.id, ast.unparse(node.annotation), scope.strip(".")
        yield from declarations(node, inner)


@dataclass(frozen=True)
class Declaration:
    """place: module, class and function. kind: the type, as it is written."""

    name: str
    place: str
    kind: str


def all_declarations() -> list[Declaration]:
    """Every declaration of a name that is an option of how a model is asked, wherever and whatever it means there."""
    shared = shared_fields()
    return [
        Declaration(name, f"{path.relative_to(ROOT)}:{place}", " ".join(kind.split()))
        for path in modules()
        for name, kind, place in declarations(ast.parse(path.read_text(encoding="utf-8")))
        if name in shared
    ]


def spelled_out(least: int = 3) -> dict[str, list[str]]:
    """The places that declare so many of the options or more, with their names."""
    by_place: dict[str, list[str]] = defaultdict(list)
    for one in all_declarations():
        by_place[one.place].append(one.name)
    return {place: names for place, names in by_place.items() if len(names) >= least}


def options_of_commands() -> list[Declaration]:
    """Options of command lines that are written out and have the name of a shared one."""
    return [one for one in all_declarations() if "typer.Option" in one.kind or "typer.Argument" in one.kind]


if __name__ == "__main__":
    print(f"{len(shared_fields())} options, declared by {len(set(shared_fields().values()))} classes")
    print("written out as options of a command once more:")
    for one in options_of_commands():
        print(f"    {one.name}: {one.place}")
    print("places that declare three or more names of options:")
    for place, names in spelled_out().items():
        print(f"    {place}: {', '.join(names)}")
