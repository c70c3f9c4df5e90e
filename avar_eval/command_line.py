"""What the command lines share beside how a model is asked: paths, errors as one message, Ctrl-C. Light."""

import contextlib
import errno
import inspect
import io
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import cached_property, wraps
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import typer
from typer.core import TyperCommand

from avar_eval import __version__
from avar_eval.errors import AvarError, UsageError
from avar_eval.help_text import HelpfulCommand, HelpfulGroup, help_width
from avar_eval.terminal import note, say, tame_libraries

_CANNOT_WRITE: Final = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_PATH_ERRNOS: Final = (
    errno.ENAMETOOLONG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOSPC, errno.EDQUOT, errno.EIO
)  # fmt: skip
"""What is wrong with a place that the user has named, whoever finds it; a file that is missing may be our fault."""


def _include(folders: list[Path] | None) -> list[Path]:
    from avar_eval.tasks.folders import include_folders

    named = [Path(os.path.expanduser(folder)) for folder in folders or []]  # Path.expanduser raises for unknown users
    include_folders(named)
    return named


IncludeOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--include-path",
        callback=_include,
        help="Folder with tasks of your own, more than once if need be; also from AVAR_INCLUDE_PATH.",
    ),
]
JudgeOption = Annotated[
    str | None, typer.Option("--judge", help="A model that judges beside the rules, by its name at --judge-url.")
]
JudgeUrlOption = Annotated[
    str | None, typer.Option(help="Its OpenAI-compatible endpoint, such as http://localhost:8000/v1.")
]
JudgeKeyOption = Annotated[
    str | None, typer.Option(help="Environment variable with its key.", show_default="OPENAI_API_KEY, if it is set")
]
JudgeRateOption = Annotated[float, typer.Option(min=0.01, help="Requests a second to the judge, at most.")]


def _print_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        say(f"{context.find_root().info_name} {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
]


def new_app(help: str, program: bool = True) -> typer.Typer:
    """A command line of ours: plain help in groups, `~` in paths, and errors for `run_app` to print.

    program: with --version and completion for shells, which a group of commands within a program has not.
    """
    app = _App(
        cls=_Group,
        no_args_is_help=True,
        add_completion=program,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "terminal_width": help_width()},
        help=help,
    )
    if program:
        app.callback()(_program)
    return app


def _program(version: VersionOption = False) -> None: ...


def main_command(command: "Command") -> "Command":
    """What a program does without a sub-command: this command, whose options the program has too."""

    def called(context: typer.Context, version: bool, **values: Any) -> None:
        if context.invoked_subcommand is None:
            command(**values)

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("context", kind, annotation=typer.Context),
        *inspect.signature(command).parameters.values(),
        inspect.Parameter("version", kind, annotation=VersionOption, default=False),
    ]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    called.__doc__ = command.__doc__
    called.examples = getattr(command, "examples", ())  # type: ignore[attr-defined]
    return called


Command = Callable[..., None]


class _Group(HelpfulGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that `args` begin with. Raises UsageError for options before it, which it would not see."""
        name, command, rest = super().resolve_command(ctx, args)
        for param in self.params:
            source = ctx.get_parameter_source(param.name)
            if source is not None and source.name == "COMMANDLINE":
                whole = command.command if isinstance(command, DeferredCommand) else command
                known = {flag for one in whole.params for flag in one.opts} if whole else set()
                flag = next((flag for flag in param.opts if flag in known), max(param.opts, key=len))
                advice = (
                    f"write it after: {ctx.command_path} {name} … {flag}"
                    if flag in known
                    else f"`{ctx.command_path} {name}` has no such option"
                )
                raise UsageError(f"{flag} stands before `{name}`, which would not see it; {advice}")
        return name, command, rest


class _App(typer.Typer):
    def command(self, name: str | None = None, **settings: Any) -> Any:
        def registered(command: Command) -> Command:
            def described() -> None: ...

            described.__name__, described.__doc__ = command.__name__, command.__doc__
            settings["epilog"] = "\n".join(getattr(command, "examples", ()))
            deferred = type("Deferred", (DeferredCommand,), {"source": (command,), "registered": (name, settings)})
            super(_App, self).command(name, **settings | {"cls": deferred})(described)
            return command

        return registered

    def callback(self, **settings: Any) -> Any:
        def registered(command: Command) -> Command:
            epilog = "\n".join(getattr(command, "examples", ()))
            super(_App, self).callback(**dict[str, Any](cls=_Group, epilog=epilog) | settings)(with_home(command))
            return command

        return registered


class DeferredCommand(TyperCommand):
    """A command whose many options are made when it is called: the program's `--help` shows its first sentence only."""

    source: ClassVar[tuple[Command]]
    registered: ClassVar[tuple[str | None, dict[str, Any]]]

    @cached_property
    def command(self) -> Any:
        """The command with its options."""
        name, settings = self.registered
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name, **settings | {"cls": HelpfulCommand})(with_home(self.source[0]))
        return typer.main.get_command(app)

    def make_context(self, *positional: Any, **settings: Any) -> Any:
        """The command's own."""
        return self.command.make_context(*positional, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Run it, where it is a program's only command; a group runs the one of the context."""
        return self.command.invoke(ctx)


def with_home(command: Command) -> Command:
    """A command with `~` as the home folder in all paths that it gets: shells leave it alone in `--output=~/runs`."""

    def expanded(value: Any) -> Any:
        if isinstance(value, list):
            return [expanded(one) for one in value]
        # Path.expanduser raises for unknown users
        return Path(os.path.expanduser(value)) if isinstance(value, Path) else value

    @wraps(command)
    def run(*positional: Any, **values: Any) -> None:
        command(*positional, **{name: expanded(value) for name, value in values.items()})

    return run


class RunInterruptedError(AvarError):
    """Ctrl-C, with the exit code that shells expect of it.

    What to do: Run the same command again: what is finished is kept.
    """

    exit_code = 130


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C within this context is RunInterruptedError."""
    try:
        yield
    except KeyboardInterrupt:
        raise RunInterruptedError(
            "interrupted; what is finished is kept, run the same command again to go on"
        ) from None


def check_choice(option: str, value: str | None, known: tuple[str | None, ...]) -> None:
    if value not in known:
        raise UsageError(f"{option} takes {', '.join(name for name in known if name)}, not {value!r}")


_CHANGE_NOTHING: Final = ("--output", "--cluster", "--cluster-workers")


def command_text(arguments: list[str]) -> str:
    """The command line for the protocol, without where results land and are computed: that changes nothing in them.

    Nor does `run`, the long name of what `avar-eval` does without a command.
    """
    arguments = arguments[1:] if arguments[:1] == ["run"] else arguments
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in _CHANGE_NOTHING:
            skip = True
        elif argument.partition("=")[0] not in _CHANGE_NOTHING:
            kept.append(argument)
    return shlex.join(["avar-eval", *kept])


def own_command() -> list[str]:
    """The words of this process's command line, for whoever is to give it again."""
    path = Path(sys.argv[0])
    program = ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name]
    return [*program, *sys.argv[1:]]


def run_app(app: typer.Typer, name: str) -> None:
    """Run a typer app; an AvarError becomes one message on standard error and its exit code.

    So does a full disk behind standard output; a pipe that nobody reads any more ends the program quietly. A fault of
    ours ends with its traceback, which may quote anybody and is therefore printed as all else is.
    """
    tame_libraries()
    try:
        _run(app, name)
    except Exception as error:
        note("".join(traceback.format_exception(error)).rstrip("\n"))
        sys.exit(1)


def _run(app: typer.Typer, name: str) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows only ASCII shows "?" for "–"
    try:
        try:
            app(prog_name=name)
        finally:
            sys.stdout.flush()  # here, not at exit, where an error would print a traceback
    except AvarError as error:
        note(f"{name}: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is not None and error.errno in _PATH_ERRNOS:
            note(f"{name}: {str(error.filename)[:200]}: {error.strerror}")
            sys.exit(1)
        # Our own files' errors have names by now, and other people's name their file.
        if error.filename is not None or error.errno not in _CANNOT_WRITE:
            raise
        if error.errno != errno.EPIPE:
            note(f"{name}: cannot write to standard output: {error.strerror}")
        # What is still in the buffer would fail once more at exit, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
