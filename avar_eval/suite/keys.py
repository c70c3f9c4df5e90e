"""What a suite's file may say: the options of `avar-eval run`, by the names that the command line has for them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from avar_eval.endpoint.url import check_url
from avar_eval.errors import UsageError
from avar_eval.fields import check_value, declared
from avar_eval.in_words import option_in_words
from avar_eval.judge.model import JudgeModel, judge_from_options
from avar_eval.models.backend_options import OPTIONS, BackendName
from avar_eval.models.decoding import Decoding, check_temperature
from avar_eval.protocols.protocol import find_protocol
from avar_eval.run.asking import Asking, AskingField, asking_fields, check_data_dir, check_field_choice

OF_SUITE: Final = ("models", "tasks", "steerings", "seeds", "slurm")
OF_MODEL: Final = ("model", "name", "tasks", "steerings", "seeds")
OF_RUN: Final = ("attention", "judge", "judge-url", "judge-key-env", "judge-rate", "include-path")
"""Options of `avar-eval run` that do not say how a model is asked."""
_TEXTS: Final = ("judge", "judge-url", "judge-key-env")


@cache
def asking_keys() -> dict[str, str]:
    """The options of how a model is asked: a key of the file -> the name of `Asking.of`."""
    return {
        max(field.flags, key=len).removeprefix("--"): name for name, field in asking_fields().items() if name != "model"
    }


def option_key(key: Any) -> str:
    """A key as the command line writes it: `max_new_tokens` is `max-new-tokens`, too."""
    return str(key).replace("_", "-")


def option_value(key: str, value: Any) -> Any:
    """A value as the command line would give it, where YAML reads it otherwise: `off` is a text and not False.

    So is 1e-6, which YAML 1.1 takes for a text, a number. A mapping, as `vllm` takes one, is a list of KEY=VALUE.
    Raises UsageError for what the option never takes, whatever the others are.
    """
    read = _as_given(key, value)
    _check(key, read)
    return read


def _as_given(key: str, value: Any) -> Any:
    field = _field(key)
    if isinstance(value, str) and (key == "judge-rate" or (field and field.declared.type in (int, float))):
        return _number(key, value, float if field is None else field.declared.type)
    if isinstance(value, bool) and (field is None or field.declared.type is not bool):
        return "on" if value else "off"
    if isinstance(value, Mapping) and key not in OF_RUN:
        return [f"{name}={_text(inner)}" for name, inner in value.items()]
    if value is None:
        raise UsageError(f"{key} has no value")
    if key in _TEXTS and not isinstance(value, str):
        raise UsageError(f"{key} is a text, not {value!r}")
    if key == "judge-rate" and not isinstance(value, int | float):
        raise UsageError(f"{key} is a number, not {value!r}")
    folders = value if isinstance(value, list) else [value]
    if key == "include-path" and not all(isinstance(folder, str) for folder in folders):
        raise UsageError(f"{key} is a folder or a list of folders, not {value!r}")
    return value


def _check(key: str, value: Any) -> None:
    """Raise UsageError for what the option never takes."""
    if (field := _field(key)) is not None:
        kinds = (Asking, Decoding, *OPTIONS.values())
        kind = next(of for of in kinds if field.declared in declared(of).values())
        try:
            check_value(kind, field.declared.name, value)
        except ValidationError as error:
            raise UsageError(option_in_words(error, key)) from None
        if field.option.choices:
            check_field_choice(field.declared, value)
    match key:
        case "temperature":
            check_temperature(value)
        case "data-dir":
            check_data_dir(Path(value).expanduser())
        case "protocol":
            find_protocol(value)
        case "api-url" | "judge-url":
            try:
                check_url(value)
            except ValueError as error:
                raise UsageError(f"{key}: {error}") from error
        case "judge-rate" if not 0 < value < math.inf:
            raise UsageError(f"judge-rate takes requests a second, above 0, not {value}")
        case "attention" if value not in ("on", "off"):
            raise UsageError(f"attention takes on, off, not {value!r}")


def _number(key: str, text: str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{key}: a {'whole ' if kind is int else ''}number is wanted, not {text!r}") from None


def words(key: str, value: Any) -> list[str]:
    """The option as words of a command line."""
    flag, field = f"--{key}", _field(key)
    if isinstance(value, bool):
        return [flag] if value else []
    if isinstance(value, list | tuple):
        if (field is not None and field.option.repeated) or key == "include-path":
            return [word for one in value for word in (flag, str(one))]
        return [flag, ",".join(map(_text, value))]
    return [flag, _text(value)]


def _field(key: str) -> AskingField | None:
    return asking_fields()[asking_keys()[key]] if key in asking_keys() else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and float(short := f"{value:g}") == value:
        return short
    return str(value)


@dataclass(frozen=True)
class Options:
    """Options of one run. values: by key, in the order of `avar-eval run --help` when they are words."""

    values: Mapping[str, Any]

    def over(self, own: Mapping[str, Any]) -> "Options":
        """These, where `own` does not say otherwise."""
        return Options({**self.values, **own})

    def of_backend(self, backend: BackendName) -> "Options":
        """Without those that only other backends have; an endpoint has nothing that a cluster could compute."""
        own = declared(OPTIONS[backend]).values()
        foreign = [
            key
            for key in self.values
            if (field := _field(key)) is not None and field.part == "backend_options" and field.declared not in own
        ]
        foreign += ["cluster", "cluster-workers"] if backend == "api" else []
        return Options({key: value for key, value in self.values.items() if key not in foreign})

    def asked(self) -> dict[str, Any]:
        """For `Asking.of`."""
        given = {asking_keys()[key]: value for key, value in self.values.items() if key in asking_keys()}
        return given | ({"attention_samples": 0} if self.values.get("attention") == "off" else {})

    def judge(self) -> JudgeModel | None:
        """The judge model that is named."""
        model, url, key_env = (self.values.get(key) for key in ("judge", "judge-url", "judge-key-env"))
        return judge_from_options(model, url, key_env, float(self.values.get("judge-rate", 10.0)))

    def command_words(self) -> Sequence[str]:
        """For the command line."""
        known = [*asking_keys(), *OF_RUN]
        return [word for key in known if key in self.values for word in words(key, self.values[key])]
