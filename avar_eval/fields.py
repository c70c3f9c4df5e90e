"""Fields that say once what they take, for pydantic, which checks values, and for a command line.

A dataclass derived from `Checked` declares them as `limit: Annotated[int | None, Option("...", least=1)] = None`.
Light: importing pydantic would double the time of `--help`, so it is imported when the first value is checked.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from types import NoneType
from typing import Annotated, Any, ClassVar, Final, Literal, cast, get_args, get_origin, get_type_hints

THE_MODELS: Final = "the model's"
"""Shown as the default of what a model's registry entry may say."""


@dataclass(frozen=True)
class Option:
    """What a field takes, and what a command line says of it.

    help: one sentence. shown: its default in words, where that is no value. least, most: the ends of its range, both
    included; above: a lower end that is not. choices: of a text. read: makes the value of a text, or of several where
    the option is repeated. flags: its names on the command line (None: made from the field's name). metavar: what help
    calls its value. envvar: an environment variable that gives it.
    """

    help: str
    shown: str | None = None
    least: float | None = None
    above: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    read: Callable[[Any], Any] | None = None
    flags: tuple[str, ...] | None = None
    metavar: str | None = None
    repeated: bool = False
    envvar: str | None = None


@dataclass(frozen=True)
class Declared:
    """A field as it was declared. type: without None and without what `Annotated` adds. default: `MISSING` for none."""

    name: str
    type: Any
    default: Any
    option: Option | None


class Checked:
    """A frozen dataclass whose values are checked when it is made. Raises pydantic's ValidationError.

    imported_later: modules of types that only a check needs, by the types' names.
    """

    imported_later: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(cast(Any, self))}
        for name, value in _checker(type(self)).model_validate(given):
            object.__setattr__(self, name, value)


def check_value(kind: type[Checked], name: str, value: object) -> None:
    """Raise pydantic's ValidationError for a value that this field of the class never takes, whatever others hold."""
    checker = _checker(kind)
    checker.__pydantic_validator__.validate_assignment(checker.model_construct(), name, value)


_declared: dict[type[Any], dict[str, Declared]] = {}
_checkers: dict[type[Any], Any] = {}


def declared(kind: type[Any]) -> dict[str, Declared]:
    """The fields of a class by their names, in order."""
    if kind not in _declared:
        _declared[kind] = _read_fields(kind)
    return _declared[kind]


def _read_fields(kind: type[Any]) -> dict[str, Declared]:
    hints = get_type_hints(kind, localns=dict.fromkeys(kind.imported_later, object), include_extras=True)
    found = {}
    for field in fields(cast(Any, kind)):
        hint, option = hints[field.name], None
        if hasattr(hint, "__metadata__"):
            option = next((extra for extra in hint.__metadata__ if isinstance(extra, Option)), None)
            hint = hint.__origin__
        kinds = [one for one in get_args(hint) if one is not NoneType]
        found[field.name] = Declared(
            field.name,
            kinds[0] if NoneType in get_args(hint) and len(kinds) == 1 else hint,
            field.default if field.default_factory is MISSING else field.default_factory(),
            option,
        )
    return found


def choices(field: Declared) -> tuple[str, ...]:
    """The texts that a field takes; none if it is not one of several texts."""
    if get_origin(field.type) is Literal:
        return get_args(field.type)
    return field.option.choices if field.option else ()


def _checker(kind: type[Any]) -> Any:
    """A pydantic model with the fields of the class, made once."""
    if kind in _checkers:
        return _checkers[kind]
    from pydantic import BeforeValidator, ConfigDict, Field, create_model

    later = {name: getattr(importlib.import_module(module), name) for name, module in kind.imported_later.items()}
    hints = get_type_hints(kind, localns=later, include_extras=True)
    made: dict[str, Any] = {}
    for name, field in declared(kind).items():
        hint = hints[name]
        if (option := field.option) is not None:
            hint = _annotated(hint, Field(ge=option.least, gt=option.above, le=option.most))
            if option.read is not None:
                hint = _annotated(hint, BeforeValidator(option.read))
        made[name] = (hint, ... if field.default is MISSING else field.default)
    config = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
    _checkers[kind] = create_model(kind.__name__, __config__=config, **made)
    return _checkers[kind]


def _annotated(hint: Any, extra: Any) -> Any:
    return Annotated[hint, extra]
