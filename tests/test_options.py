"""What every command of the three programs does alike: `~` in paths, attention off, options before a sub-command."""

import inspect
import json
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from runs import MODEL, Finished, records_of
from typer.testing import CliRunner

from avar_eval.cli import app as avar_eval_app
from avar_eval.command_line import DeferredCommand, new_app
from avar_eval.errors import UsageError
from avar_eval.leaderboard.cli import app as leaderboard_app
from avar_eval.recipes.cli import app as avar_train_app
from avar_eval.run.asking import Asking, asking_fields
from avar_eval.run.options import As, asking_options

Run = Callable[..., Finished]
PROGRAMS = {"avar-eval": avar_eval_app, "avar-train": avar_train_app, "avar-leaderboard": leaderboard_app}


def commands(program: str, app: typer.Typer) -> Iterator[tuple[str, Callable[..., None]]]:
    """All commands of a program by name, those of groups within it too."""
    assert type(app) is type(new_app("")), f"{program} is made by new_app"
    if app.registered_callback and app.registered_callback.callback:
        yield program, app.registered_callback.callback
    for command in app.registered_commands:
        assert issubclass(command.cls, DeferredCommand)  # type: ignore[arg-type]
        (callback,) = command.cls.source  # type: ignore[union-attr]
        yield f"{program} {command.name or callback.__name__}", callback
    for group in app.registered_groups:
        assert group.typer_instance
        yield from commands(f"{program} {group.name}", group.typer_instance)


COMMANDS = dict(found for program, app in PROGRAMS.items() for found in commands(program, app))


def is_path(annotation: Any) -> bool:
    """Whether a parameter is a path, or several, or none."""
    parts = typing.get_args(annotation)
    return annotation is Path or any(is_path(part) for part in parts if not isinstance(part, str))


def path_parameters() -> list[tuple[str, str]]:
    """Every command and each of its parameters that is a path."""
    return [
        (command, parameter.name)
        for command, callback in COMMANDS.items()
        for parameter in inspect.signature(callback, eval_str=True).parameters.values()
        if is_path(parameter.annotation)
    ]


def test_the_paths_of_every_program_are_found() -> None:
    found = path_parameters()
    for command, name in (
        *((f"avar-eval {command}", "output") for command in ("correlate", "sweep", "profile", "watch", "look")),
        *((f"avar-train {command}", "output") for command in ("filter", "ladder")),
        *((f"avar-leaderboard {command}", "output") for command in ("curve", "export")),
        ("avar-eval", "output"),
        ("avar-eval", "include_path"),
        ("avar-eval data fetch", "data_dir"),
        ("avar-leaderboard add", "runs"),
    ):
        assert (command, name) in found
    assert len(found) >= 35


@pytest.mark.parametrize(("command", "name"), path_parameters(), ids=lambda value: str(value).replace(" ", "-"))
def test_home_is_meant_in_every_path(command: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command is registered once more with its own parameters, and says what it got."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("avar_eval.tasks.folders.include_folders", lambda folders: None)
    got: dict[str, Any] = {}
    signature = inspect.signature(COMMANDS[command], eval_str=True)

    def recorder(**values: Any) -> None:
        got.update(values)

    recorder.__signature__ = signature  # type: ignore[attr-defined]
    recorder.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
    app = new_app("One command.", program=False)
    app.command("one")(recorder)
    arguments: list[str] = []
    for parameter in typer.main.get_command(app).command.params:  # type: ignore[attr-defined]
        given = "~/x" if parameter.name == name else parameter.required and {"form": "csv"}.get(parameter.name, "1")
        if given and parameter.param_type_name == "argument":
            arguments.append(given)
        elif given:
            flag = max(parameter.opts, key=len)
            arguments.append(f"{flag}={given}")
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert got[name] in (tmp_path / "x", [tmp_path / "x"]), got[name]


def test_home_is_meant_by_the_commands_themselves(avar_eval: Run, tmp_path: Path) -> None:
    done = avar_eval("correlate", "--paper", "--output=~/paper", HOME=str(tmp_path))
    assert done.code == 0, done.stderr
    assert (tmp_path / "paper" / "correlate.json").is_file()
    done = avar_eval("--model=~/no-such-model", "--tasks", "shapes", HOME=str(tmp_path))
    assert f"there is no model folder '{tmp_path / 'no-such-model'}'" in done.stderr


MAIN = typer.main.get_command(avar_eval_app)
# those that answer at once are told apart: the completion of shells would be installed for whoever tests
AT_ONCE = ("install_completion", "show_completion")
OPTIONS = [
    one for one in MAIN.params if one.param_type_name == "option" and not one.is_eager and one.name not in AT_ONCE
]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_no_option_before_a_sub_command_is_swallowed(option: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avar_eval.tasks.folders.include_folders", lambda folders: None)
    for name, command in MAIN.commands.items():  # type: ignore[attr-defined]
        for flag in option.opts:
            given = [flag] if option.is_flag else [flag, "1"]
            result = CliRunner().invoke(avar_eval_app, [*given, name, "--help"], prog_name="avar-eval")
            assert isinstance(result.exception, UsageError), f"{flag} before {name}: {result.output}"
            known = {flag for one in getattr(command, "command", command).params for flag in one.opts}
            shown = next((one for one in option.opts if one in known), max(option.opts, key=len))
            advice = f"write it after: avar-eval {name} … {shown}" if shown in known else "has no such option"
            assert f"{shown} stands before `{name}`, which would not see it" in str(result.exception)
            assert advice in str(result.exception)


def test_a_variable_before_a_sub_command_is_no_option(avar_eval: Run, tmp_path: Path) -> None:
    assert avar_eval("models", AVAR_DATA_DIR=str(tmp_path)).code == 0


@pytest.mark.parametrize("off", [["--attention", "off"], ["--attention-samples", "0"]])
def test_attention_is_off_the_same_way_everywhere(off: list[str]) -> None:
    parameters = {name: inspect.signature(command).parameters for name, command in COMMANDS.items()}
    having = [name for name in parameters if "attention_samples" in parameters[name]]
    assert having == ["avar-eval", "avar-eval run", "avar-eval sweep", "avar-eval watch"]
    assert all("attention" in parameters[name] for name in having)
    asked: list[Asking] = []
    app = new_app("One command.", program=False)

    @app.command()
    @asking_options("model", "attention_samples", model=As(argument="MODEL"))
    def one(*, asking: Asking) -> None:
        asked.append(asking)

    for arguments in (off, []):
        result = CliRunner().invoke(app, [MODEL, *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert [asking.attention_samples for asking in asked] == [0, 200]
    assert "--attention takes on, off" in str(CliRunner().invoke(app, [MODEL, "--attention", "no"]).exception)


@pytest.mark.parametrize("off", [("--attention", "off"), ("--attention-samples", "0")])
def test_a_run_measures_nothing_where_attention_is_off(avar_eval: Run, tmp_path: Path, off: tuple[str, str]) -> None:
    short = ("--model", MODEL, "--tasks", "shapes", "--limit", "2", "--max-new-tokens", "4")
    done = avar_eval(*short, *off, "--output", str(tmp_path))
    assert done.code == 0, done.stderr
    assert [record["attention"] for record in records_of(tmp_path)] == [None, None]
    assert json.loads((tmp_path / "results.json").read_text())["protocol"]["attention"]["samples"] == 0


def test_every_command_has_the_options_as_they_were_declared() -> None:
    """Help, range and default of a shared option are those of its field, but where a command says otherwise."""
    fields = asking_fields()
    for name, field in fields.items():
        having = [
            parameter
            for command in COMMANDS.values()
            if (parameter := inspect.signature(command, eval_str=True).parameters.get(name))
        ]
        assert having, name
        for parameter in having:
            (option,) = typing.get_args(parameter.annotation)[1:]
            if isinstance(option, typer.models.OptionInfo):
                assert (option.min, option.max) == (
                    field.option.above if field.option.above is not None else field.option.least,
                    field.option.most,
                )


def test_every_command_that_asks_tasks_draws_and_shows_pictures_as_it_is_asked_to() -> None:
    """A new field of `Decoding` or `Asking` is an option of all of them."""
    for command in ("avar-eval", "avar-eval sweep", "avar-eval profile", "avar-eval watch"):
        names = set(inspect.signature(COMMANDS[command]).parameters)
        assert {name for name, field in asking_fields().items() if field.part == "decoding"} <= names
        assert {"limit", "batch_size", "system_prompt", "prompt_style", "image_max_pixels", "device", "dtype"} <= names
        assert "attn_implementation" in names
    assert "api_url" not in inspect.signature(COMMANDS["avar-eval sweep"]).parameters


@pytest.mark.parametrize(
    ("app", "arguments", "said"),
    [
        (avar_eval_app, ["--tasks", "shapes", "--limit", "x"], "'--limit': it is \"x\", not a whole number"),
        (avar_eval_app, ["--tasks", "shapes", "--limit", "0"], "'--limit': it is 0, not 1 or more"),
        (avar_eval_app, ["--tasks", "shapes", "--temperature", "hot"], "'--temperature': it is \"hot\", not a number"),
        (avar_eval_app, ["--tasks", "shapes", "--top-p", "7"], "'--top-p': it is 7, not 1 or less"),
        (avar_eval_app, ["power", "shapes", "--difference", "much"], "'--difference': it is \"much\", not a number"),
    ],
)
def test_a_value_that_no_option_takes_is_told_in_words(app: typer.Typer, arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
