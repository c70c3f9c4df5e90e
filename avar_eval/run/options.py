"""Options of the command line, made from the fields of `Asking`. Light.

A command names the fields that it takes, or those that it does not, and states only what it adds; it gets one object:

    @asking_options(*option_names("transformers", without=("steering", "backend")), model=As(argument="MODEL"))
    def sweep(*, asking: Asking, tasks: ..., output: ...) -> None:
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_origin

import typer

from avar_eval.completion import COMPLETED
from avar_eval.errors import UsageError
from avar_eval.fields import declared
from avar_eval.models.backend_options import OPTIONS, BackendName
from avar_eval.run.asking import Asking, AskingField, asking_fields, check_data_dir, check_field_choice

Command = Callable[..., None]


@dataclass(frozen=True)
class As:
    """How a command has a field otherwise: its help, default, what is shown as its default, or its names.

    argument: as a positional argument with that name in the help. required: whether it must be given. made: of a
    folder that the command makes, and that need not be there.
    """

    help: str | None = None
    default: Any = None
    shown: str | None = None
    flags: tuple[str, ...] | None = None
    argument: str | None = None
    required: bool | None = None
    made: bool = False


_AS_DECLARED: Final = As()
_ATTENTION: Final = Annotated[
    str,
    typer.Option(
        metavar="on|off", help="`on` measures where the model looks, `off` does not.", rich_help_panel="Attention"
    ),
]
_GROUPS: Final = {
    "Model and prompt": (
        "model", "system_prompt", "prompt_style", "protocol", "uniform_prompts", "image_min_pixels", "image_max_pixels"
    ),
    "Attention": ("attention_samples", "vas_queries", "steering"),
    "What answers owe to images": ("causal", "causal_samples", "knockout_windows"),
    "Data": ("limit", "data_dir", "allow_outside"),
    "Machine": ("device", "dtype", "backend", "batch_size", "cluster", "cluster_workers"),
}  # fmt: skip
"""Of the fields that no part says it of, as help shows them."""
_GROUPS_OF_BACKENDS: Final[dict[BackendName, str]] = {"transformers": "Machine", "vllm": "vLLM", "api": "Endpoint"}


def option_names(*backends: BackendName, without: Collection[str] = ()) -> tuple[str, ...]:
    """The names of all options of how a model is asked, but for these, with the options of these backends only."""
    own = {name for backend in backends for name in declared(OPTIONS[backend])}
    return tuple(
        name
        for name, field in asking_fields().items()
        if name not in without and (field.part != "backend_options" or field.declared.name in own)
    )


def asking_options(*names: str, **changed: As) -> Callable[[Command], Command]:
    """Give a command the options of these fields of `asking_fields()`, in this order, where its own parameter stands.

    That parameter is `asking: Asking`; or, in a command that asks several models, or none that is known yet,
    `asked: Mapping[str, Any]`, what was given for `Asking.of`. With `attention_samples` comes `--attention on|off`.
    """
    return lambda command: _WithOptions(command, names, changed)


class _WithOptions:
    """A command with its options; they are made when they are first asked for, which `--help` of a program does not."""

    def __init__(self, command: Command, names: tuple[str, ...], changed: Mapping[str, As]) -> None:
        self.__name__, self.__doc__, self.__module__ = command.__name__, command.__doc__, command.__module__
        self._command, self._names, self._changed = command, names, changed

    @cached_property
    def __signature__(self) -> inspect.Signature:
        own = list(inspect.signature(self._command, eval_str=True).parameters.values())
        place = next(index for index, one in enumerate(own) if one.name == self._target)
        made = [_parameter(name, self._changed.get(name, _AS_DECLARED)) for name in self._names]
        if "attention_samples" in self._names:
            made.insert(self._names.index("attention_samples"), _keyword("attention", _ATTENTION, "on"))
        context = [one for one in own if one.annotation is typer.Context]
        model = [one for one in made if one.name == "model"]
        before, after = (
            [one for one in part if one.annotation is not typer.Context] for part in (own[:place], own[place + 1 :])
        )
        options = [one for one in made if one.name != "model"]
        every = (*context, *model, *before, *options, *after)
        return inspect.Signature([one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in every])

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {one.name: one.annotation for one in self.__signature__.parameters.values()}

    @property
    def _target(self) -> str:
        """The parameter of the command that its options go to."""
        return "asking" if "asking" in inspect.signature(self._command).parameters else "asked"

    def __call__(self, **values: Any) -> None:
        given = {name: values.pop(name) for name in self._names}
        attention = values.pop("attention", "on")
        if attention not in ("on", "off"):
            raise UsageError(f"--attention takes on, off, not {attention!r}")
        if attention == "off":
            given["attention_samples"] = 0
        for name, value in given.items():
            if value is not None:
                check_field_choice(asking_fields()[name].declared, value)
            if name == "data_dir" and value is not None and not self._changed.get(name, _AS_DECLARED).made:
                check_data_dir(Path(value))
        self._command(**values, **{self._target: given if self._target == "asked" else Asking.of(**given)})


@cache  # many commands have the same options, and typing takes its time for each
def _parameter(name: str, changed: As) -> inspect.Parameter:
    field = asking_fields()[name]
    option = field.option
    default = field.default if changed.default is None else changed.default
    help_ = option.help if changed.help is None else changed.help
    bounds: dict[str, Any] = {} if field.declared.type is str else {"min": option.least, "max": option.most}
    if option.above is not None:
        bounds["min"] = option.above  # the value itself is refused when the field is checked
    shown: Any = changed.shown or field.shown
    show: dict[str, Any] = {} if shown is None or changed.default is not None else {"show_default": shown}
    kind = _command_line_type(field)
    no_default = field.declared.default is MISSING and field.part is None
    if no_default if changed.required is None else changed.required:
        default = inspect.Parameter.empty
    if changed.argument is not None:
        argument = typer.Argument(help=help_, metavar=changed.argument, autocompletion=COMPLETED.get(name))
        return _keyword(name, Annotated[kind, argument], default)
    more = {"help": help_, "envvar": option.envvar, "rich_help_panel": _group(name, field)} | bounds | show
    flags, completed = changed.flags or field.flags, COMPLETED.get(name)
    extra: Any = typer.Option(*flags, metavar=option.metavar, autocompletion=completed, **more)
    return _keyword(name, Annotated[kind | None if default is None else kind, extra], default)


def _group(name: str, field: AskingField) -> str | None:
    """The heading under which help shows an option; None: the command's own."""
    if field.part == "decoding":
        return "Sampling"
    if field.part == "backend_options":
        return next(
            group for of, group in _GROUPS_OF_BACKENDS.items() if field.declared in declared(OPTIONS[of]).values()
        )
    return next((group for group, names in _GROUPS.items() if name in names), None)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _command_line_type(field: AskingField) -> Any:
    """What typer reads; texts that become something else are read when the field is checked."""
    if field.option.repeated:
        return list[str]
    if field.option.read is not None or get_origin(field.declared.type) is Literal:
        return str
    return field.declared.type
