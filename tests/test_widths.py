"""What commands print is whole on terminals of 40 to 200 columns: no number is cut, no column is lost."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invented_results import invented_results, with_run_id
from runs import MODEL, Finished
from typer.testing import CliRunner
from whole_tables import WIDTHS

from avar_eval.cli import app as avar_eval_app
from avar_eval.leaderboard.cli import app as leaderboard_app
from avar_eval.recipes.cli import app as avar_train_app

PROGRAMS = {"avar-eval": avar_eval_app, "avar-train": avar_train_app, "avar-leaderboard": leaderboard_app}
NUMBER = re.compile(r"[-+]?\d[\d,.]*(?:[kM%]|e\d+)?")


@pytest.fixture(scope="module")
def folder(avar_eval: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the embedded model, a results.json of a model with a long name, and a training's checkpoints."""
    folder = tmp_path_factory.mktemp("widths")
    for name, more in (("a", ()), ("b", ("--steer", "image=0.15,system=0.4"))):
        short = ("--model", MODEL, "--tasks", "shapes,shapes_prior", "--limit", "4", "--max-new-tokens", "24")
        done = avar_eval(*short, *more, "--output", str(folder / name))
        assert done.code == 0, done.stderr
    for number, step in enumerate((None, 0, 1000)):
        content = invented_results()
        content["protocol"]["model"] = "some-organisation/a-model-with-a-rather-long-name-72b-instruct"
        content["protocol"]["name"] = str(number)
        if step is not None:
            training = {"run": "mine", "started": "2026-01-01T00:00:00+00:00", "step": step}
            content["protocol"]["training"] = training
        (folder / f"{number}.json").write_text(json.dumps(with_run_id(content)))
    return folder


COMMANDS = (
    "avar-eval models",
    "avar-eval models avar-tiny",
    "avar-eval tasks",
    "avar-eval protocols",
    "avar-eval protocols vlmevalkit",
    "avar-eval protocols diff vlmevalkit lmms-eval",
    "avar-eval power --paper",
    "avar-eval score {folder}/a",
    "avar-eval compare {folder}/a {folder}/b",
    "avar-eval profile {folder}/a {folder}/b --output {folder}/profile",
    "avar-eval correlate --paper --output {folder}/correlate",
    "avar-train recipes",
    "avar-leaderboard show",
    "avar-leaderboard check",
    "avar-leaderboard history",
    "avar-leaderboard curve mine --output {folder}/curve.png",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_prints_is_whole_at_every_width(
    command: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *arguments = command.format(folder=folder).split()
    if program == "avar-leaderboard":
        for number in range(3):
            shown("avar-leaderboard", ["add", str(folder / f"{number}.json")])
    whole = shown(program, arguments)
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, for rich
    monkeypatch.setenv("NO_COLOR", "1")
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        text = re.sub(r"\x1b\[[0-9;]*m", "", shown(program, arguments))
        missing = set(numbers(whole)) - set(numbers(text))
        # a name is folded where it is longer than its column, with the digits in it
        joined = re.sub(r"\s", "", text)
        lost = [number for number in missing if number not in joined]
        assert not lost, f"{width} columns: {lost}\n{text}"
        assert text.count("…") <= whole.count("…"), text
        for letter in sorted(set(whole) - set(" \n\t")):
            assert text.count(letter) >= min(whole.count(letter), 1), f"{width}: {letter!r} is gone"


def numbers(text: str) -> list[str]:
    return [found.rstrip(".,") for found in NUMBER.findall(text)]


def shown(program: str, arguments: list[str]) -> str:
    result: Any = CliRunner().invoke(PROGRAMS[program], arguments, prog_name=program, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return str(result.stdout)
