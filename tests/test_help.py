"""Help of every command of the three programs: short and long, in groups, narrow too, with examples that work."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from avar_eval import __version__
from avar_eval.cli import app as avar_eval_app
from avar_eval.leaderboard.cli import app as leaderboard_app
from avar_eval.recipes.cli import app as avar_train_app

PROGRAMS = {"avar-eval": avar_eval_app, "avar-train": avar_train_app, "avar-leaderboard": leaderboard_app}


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command: ("avar-eval",), ("avar-eval", "data", "fetch")."""
    waiting: list[tuple[tuple[str, ...], Any]] = [
        ((program,), typer.main.get_command(app)) for program, app in PROGRAMS.items()
    ]
    for words, command in waiting:
        yield words
        if isinstance(command, TyperGroup):
            waiting += [((*words, name), one) for name, one in command.commands.items()]


def help_of(words: tuple[str, ...], flag: str = "--help") -> str:
    result = CliRunner().invoke(PROGRAMS[words[0]], [*words[1:], flag], prog_name=words[0], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def parse(line: str) -> None:
    """Read a command line as the program would, without running it. Raises for what it does not know."""
    program, *arguments = shlex.split(line)
    command: Any = typer.main.get_command(PROGRAMS[program])
    context = command.make_context(program, arguments)
    while isinstance(command, TyperGroup) and (rest := [*context._protected_args, *context.args]):
        name, command, rest = command.resolve_command(context, rest)
        assert command is not None
        context = command.make_context(name, rest, parent=context)


LEAVES = [words for words in commands() if words not in [("avar-train",), ("avar-leaderboard",), ("avar-eval", "data")]]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_help_is_short_and_long_and_names_values_for_people(words: tuple[str, ...]) -> None:
    text = help_of(words)
    assert text == help_of(words, "-h")
    assert not re.search(r"<\w+|list\[", text), "a type of Python's"
    assert "\nHelp:\n" in text


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_examples_of_every_command_are_command_lines_of_it(words: tuple[str, ...]) -> None:
    lines = help_of(words).partition("\nExamples:\n")[2].splitlines()
    assert lines
    for line in map(str.strip, lines):
        assert shlex.split(line)[: len(words)] == list(words) or words == ("avar-eval", "run"), line
        parse(line)


def test_a_line_that_is_no_example_is_told_from_one() -> None:
    for line in ("avar-eval look avar-tiny --promt x", "avar-leaderboard curve", "avar-eval lok"):
        with pytest.raises(Exception, match=r"No such|Missing"):
            parse(line)


@pytest.mark.parametrize(
    ("words", "groups"),
    {
        ("avar-eval", "run"): ["Options", "Model and prompt", "Data", "Attention", "Sampling", "Judge", "Machine",
                               "vLLM", "Endpoint", "Output", "Help", "Examples"],
        ("avar-eval", "look"): ["Arguments", "Options", "Model and prompt", "Sampling", "Machine", "Output", "Help",
                                "Examples"],
        ("avar-leaderboard",): ["Commands", "Help"],
    }.items(),
    ids=str,
)  # fmt: skip
def test_options_stand_in_groups(words: tuple[str, ...], groups: list[str]) -> None:
    found = re.findall(r"^(\w[\w ]+):$", help_of(words), re.MULTILINE)
    assert [group for group in found if group in groups] == groups


def test_help_fits_a_narrow_terminal() -> None:
    for words in (["-h"], ["look", "-h"], ["run", "-h"]):
        command = [sys.executable, "-m", "avar_eval", *words]
        done = subprocess.run(command, env=os.environ | {"COLUMNS": "40"}, capture_output=True, text=True, check=True)
        body = done.stdout.partition("\nExamples:\n")[0]
        assert "…" not in body.replace("image=…", "")
        assert "..." not in body.replace("ARGS]...", "")
        long = [line for line in body.splitlines() if len(line) > 40 and " " in line.strip()]
        assert not [line for line in long if not line.strip().startswith("-")], long


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_says_its_version_and_completes(program: str) -> None:
    command = str(Path(sys.executable).with_name(program))
    assert subprocess.check_output([command, "--version"], text=True) == f"{program} {__version__}\n"
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    asked = {variable: "complete_bash", "COMP_WORDS": f"{program} ", "COMP_CWORD": "1"}
    offered = subprocess.run([command], env=os.environ | asked, capture_output=True, text=True, check=False).stdout
    names = [words[1] for words in commands() if words[0] == program and len(words) == 2]
    assert set(names) <= set(offered.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    {
        "avar-eval --model avar-t": {"avar-tiny"},
        "avar-eval run --tasks shapes,mathvis": {"shapes,mathvista", "shapes,mathvision"},
        "avar-eval look avar-ti": {"avar-tiny"},
        "avar-eval run --protocol vlm": {"vlmevalkit", "vlmevalkit-cot"},
        "avar-train sft tiny_b": {"tiny_base_sft"},
        "avar-train ablation tiny_s": {"tiny_signals"},
    }.items(),
)
def test_names_are_completed(line: str, offered: set[str]) -> None:
    words = line.split()
    asked = {
        f"_{words[0].upper().replace('-', '_')}_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    command = [str(Path(sys.executable).with_name(words[0]))]
    done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, check=False)
    assert offered <= set(done.stdout.split()), done.stderr
    assert all(name.startswith(words[-1]) for name in done.stdout.split())
