"""The border at which other people's text comes to the terminal: nothing of it is obeyed there, no key passes."""

import ast
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from avar_eval.console import InertConsole
from avar_eval.keys import keep_secret
from avar_eval.terminal import inert, note, say

ROOT = Path(__file__).parents[1]
COMMANDS = [
    "\x1b]0;renamed\x07",
    "\x1b[2J",
    "\x9b31m",
    "a\x08b",
    "\r over",
    "\u202egnp.exe",
    "\u2066x",
    "\x7f",
    "\ud83d",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_terminal_obeys_is_written_out(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert inert(f"a\t{command}\nb").isprintable() is False  # tab and line end stay
    assert inert(command).isprintable()
    assert json.loads(inert(json.dumps([command], ensure_ascii=False))) == [command]
    say(command)
    note(command)
    screen = io.StringIO()
    console = InertConsole(file=screen, force_terminal=True, width=60, markup=False)
    table = Table("name")
    table.add_row(f"<{command}>")
    console.print(table)
    console.print(command)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err, screen.getvalue()):
        assert command not in text
        assert "\\u" in text or "\x08" in command or "\r" in command  # rich drops these two itself


def test_letters_of_all_writings_stay() -> None:
    text = "Grüße, 你好, שלום, नमस्ते, 👩\u200d🔬\n\t½ × ±"
    assert inert(text) == text


def test_a_key_is_masked_in_whatever_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    keep_secret("sk-of-the-terminal")
    say("it is sk-of-the-terminal")
    note("it is sk%2Dof%2dthe-terminal")
    assert capsys.readouterr() == ("it is ***\n", "it is ***\n")


PROGRAM = """
import logging, sys, warnings
import typer
from avar_eval.command_line import new_app, run_app
from avar_eval.keys import keep_secret
keep_secret("sk-of-the-terminal")
app = new_app("", program=False)
@app.command()
def main() -> None:
    logging.getLogger("transformers").warning("a model of type %s", "\\x1b]0;renamed\\x07 sk-of-the-terminal")
    logging.getLogger("transformers").warning("%d of %s", "x \\x1b[2J")
    try:
        raise KeyError("sk-of-the-terminal \\x1b[2J")
    except KeyError:
        logging.getLogger("transformers").exception("it failed")
    warnings.warn("tensor \\x1b[2J sk-of-the-terminal")
    raise ValueError("row \\x1b[31m sk-of-the-terminal")
run_app(app, "program")
"""


def test_logs_warnings_and_tracebacks_are_inert() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True)
    assert done.returncode == 1
    assert b"Traceback" in done.stderr
    assert done.stderr.count(b"***") == 4
    assert b"\x1b" not in done.stderr
    assert b"sk-of-the-terminal" not in done.stderr.replace(b'raise ValueError("row', b"")


@pytest.mark.parametrize("folder", ["avar_eval", "tasks", "recipes", "leaderboard"])
def test_nothing_is_printed_beside_the_border(folder: str) -> None:
    found = []
    for path in (ROOT / folder).rglob("*.py"):
        if path.name == "terminal.py" or "avar_tiny" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("print", "Console", "typer.echo", "sys.stdout.write", "sys.stderr.write"):
                found.append(f"{path}:{node.lineno}")
    assert not found, "print with `say` and `note` of avar_eval.terminal"
