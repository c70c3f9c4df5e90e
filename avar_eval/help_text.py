"""Help of the command lines: options in groups, values by names that a person reads, examples. Plain text, so light."""

import re
import shutil
from collections.abc import Callable
from typing import Any, Final, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

_Command = TypeVar("_Command")

_GROUPS: Final = (
    "Arguments", "Options", "Model and prompt", "Data", "Attention", "What answers owe to images", "Sampling", "Judge",
    "Machine", "vLLM", "Endpoint", "Output", "Help",
)  # fmt: skip
"""In the order in which help shows them; others stand after the command's own options."""

_GROUP_OF: Final = {
    **dict.fromkeys(("help", "version", "install_completion", "show_completion"), "Help"),
    **dict.fromkeys(("output", "figure", "no_title", "form", "as_json"), "Output"),
    **dict.fromkeys(("judge", "judge_url", "judge_key_env", "judge_rate"), "Judge"),
    "include_path": "Data",
}
"""Of options that say nothing of it themselves."""

_TYPE: Final = re.compile(r"<(?:list\[)?([^>\]]+?)(?: range)?\]?>", re.IGNORECASE)
_VALUES: Final = {"str": "TEXT", "path": "PATH", "int": "N", "float": "X"}
"""What help calls a value of each of typer's types, which stand there as <str> or <list[Path]>."""


def help_width() -> int:
    """Columns of help: the terminal's, at most 80; click's own would not go below 50."""
    return max(30, min(80, shutil.get_terminal_size().columns) - 2)


def examples(*lines: str) -> Callable[[_Command], _Command]:
    """Command lines for the end of a command's help."""

    def with_examples(command: _Command) -> _Command:
        command.examples = lines  # type: ignore[attr-defined]
        return command

    return with_examples


class _GroupedHelp:
    def make_context(self: Any, *positional: Any, **settings: Any) -> Any:
        """The command's context. Raises BadParameter for a value that no option takes, in words of ours."""
        try:
            return super().make_context(*positional, **settings)  # type: ignore[misc]
        except typer.BadParameter as error:
            if error.__cause__ is not None:  # pydantic's, where typer reads values with it
                from pydantic import ValidationError

                from avar_eval.in_words import in_words

                if isinstance(error.__cause__, ValidationError):
                    error.message = in_words(error.__cause__)
            raise

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:
        """Commands, arguments, the command's own options, then the groups that commands share."""
        if isinstance(self, TyperGroup):
            self.format_commands(ctx, formatter)
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is not None:
                names = _TYPE.sub(lambda found: _VALUES.get(found[1].lower(), found[1]), record[0])
                groups.setdefault(_group_of(param), []).append((names, record[1]))
        for title in sorted(groups, key=_place_of):
            with formatter.section(title):
                formatter.write_dl(groups[title], col_max=min(30, formatter.width // 3))

    def format_epilog(self: Any, ctx: Any, formatter: Any) -> None:
        """Examples as they are typed, never wrapped."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{' ' * formatter.current_indent}{line}\n")


def _group_of(param: Any) -> str:
    if param.param_type_name == "argument":
        return "Arguments"
    return getattr(param, "rich_help_panel", None) or _GROUP_OF.get(param.name, "Options")


def _place_of(group: str) -> int:
    return _GROUPS.index(group) if group in _GROUPS else _GROUPS.index("Options")


class HelpfulCommand(_GroupedHelp, TyperCommand):
    """A command with grouped help."""


class HelpfulGroup(_GroupedHelp, TyperGroup):
    """A program, or a group of its commands, with grouped help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Each command with the whole first sentence of its help."""
        commands = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        listed = [(name, command.get_short_help_str(10_000)) for name, command in commands if not command.hidden]
        if listed:
            with formatter.section("Commands"):
                formatter.write_dl(listed)
