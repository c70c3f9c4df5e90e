"""How a model is asked, said once: its fields are the arguments of `avar_eval.evaluate` and options of every command.

Light: `avar-eval --help` shows these fields, and imports nothing heavy.
"""

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from avar_eval.cluster.address import check_cluster
from avar_eval.errors import UsageError, unknown_name
from avar_eval.fields import THE_MODELS, Checked, Declared, Option, choices, declared
from avar_eval.models.backend_options import OPTIONS, BackendName
from avar_eval.models.decoding import Decoding
from avar_eval.tasks.prompts import Style

if TYPE_CHECKING:
    from avar_eval.attention.steering import Steering


def _read_steering(given: object) -> object:
    """The steering of `--steer`'s text."""
    from avar_eval.attention.steering import parse_steering

    return parse_steering(given) if isinstance(given, str) else given


@dataclass(frozen=True, kw_only=True)
class Asking(Checked):
    """How a model is asked. None leaves a choice to the model's registry entry or to the machine.

    decoding: fields of `Decoding` that were chosen. backend_options: fields of `TransformersOptions`, `VllmOptions` or
    `ApiOptions` that were. attention_samples: rows a task whose attention is measured (None: all, 0: none).
    vas_queries: over which tokens of a question the results' VAS is. causal: what else is measured of `causal_samples`
    of these rows (`avar_eval.causal`). steering: what the model is steered by, if anything. name: what the model is
    called in results (None: as it was given). Raises UsageError for a value out of range.
    """

    imported_later: ClassVar[Mapping[str, str]] = {"Steering": "avar_eval.attention.steering"}

    model: Annotated[str, Option("Registered name, local folder or hub repository.", flags=("--model", "-m"))]
    limit: Annotated[int | None, Option("Ask only the first N questions of each task.", least=1)] = None
    batch_size: Annotated[int | None, Option("Questions a batch.", THE_MODELS, least=1)] = None
    decoding: Mapping[str, Any] = field(default_factory=dict)
    system_prompt: Annotated[str | None, Option("System turn.", THE_MODELS)] = None
    prompt_style: Annotated[Style | None, Option("thinking, direct, boxed or none.", THE_MODELS)] = None
    protocol: Annotated[
        str | None, Option("Ask as a published evaluation does: a name that `avar-eval protocols` lists.")
    ] = None
    uniform_prompts: Annotated[
        bool,
        Option(
            "Ask as though nothing were known of the model: its chat template's system turn, the question alone or in "
            "--prompt-style."
        ),
    ] = False
    image_min_pixels: Annotated[
        int | None, Option("Enlarge pictures of fewer pixels (width x height) to so many.", THE_MODELS, least=1)
    ] = None
    image_max_pixels: Annotated[
        int | None, Option("Make pictures of more pixels (width x height) smaller, to so many.", THE_MODELS, least=1)
    ] = None
    attention_samples: Annotated[
        int | None, Option("Questions a task whose attention is measured, 0 for none.", least=0)
    ] = 200
    vas_queries: Annotated[
        Literal["turn", "text"],
        Option(
            "Tokens of a question over which VAS is taken: its whole turn, template tokens among them, as the paper "
            "has it, or its text alone.",
            choices=("turn", "text"),
        ),
    ] = "turn"
    causal: Annotated[
        Literal["off", "fast", "full"],
        Option(
            "What answers owe to their images: `fast` needs no generation; `full` asks without the images and with "
            "another row's, too."
        ),
    ] = "fast"
    causal_samples: Annotated[
        int, Option("Questions a task, of those whose attention is measured, for --causal.", least=1)
    ] = 100
    knockout_windows: Annotated[
        int, Option("Runs of layers whose sight of the images is taken one at a time, 0 for none.", least=0)
    ] = 0
    steering: Annotated[
        "Steering | None",
        Option(
            "Steer attention: avar, vaf, pai, or strengths such as image=0.15,system=0.4, with "
            "mode=logit|log|prob|abs, rows=after-image|all|last, layers=8-14, heads=0+3 after further commas.",
            read=_read_steering,
            flags=("--steer",),
        ),
    ] = None
    data_dir: Annotated[
        Path | None, Option("Folder of benchmarks: BENCHMARK/rows.jsonl, instead of the hub.", envvar="AVAR_DATA_DIR")
    ] = None
    allow_outside: Annotated[
        bool, Option("Rows may name pictures outside of their folder, on all of this machine.")
    ] = False
    device: Annotated[str | None, Option("Such as cuda, cuda:1, cpu.", "what is there")] = None
    dtype: Annotated[
        str | None,
        Option(
            "float32, bfloat16 or float16.",
            "bfloat16 on a GPU, else float32",
            choices=("float32", "bfloat16", "float16"),
        ),
    ] = None
    cluster: Annotated[
        str | None,
        Option(
            "Let Ray's actors answer (extra ray): ray for this machine's GPUs, ray://HOST:PORT or ray://auto for a "
            "cluster.",
            shown="this process",
            read=check_cluster,
        ),
    ] = None
    cluster_workers: Annotated[
        int | None,
        Option("Copies of the model on the cluster.", shown="one for each GPU, without any one for 4 cores", least=1),
    ] = None
    backend: Annotated[BackendName | None, Option("transformers, vllm or api.", "the model's, mostly transformers")] = (
        None
    )
    backend_options: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None

    def __post_init__(self) -> None:
        from pydantic import ValidationError

        from avar_eval.in_words import in_words

        try:
            super().__post_init__()
        except ValidationError as error:
            raise UsageError(in_words(error)) from None
        if not self.model:  # as a path it would be the current folder
            raise UsageError("name a model; `avar-eval models` lists those that are registered")
        for name in self.decoding:
            if name not in declared(Decoding):
                raise unknown_name("decoding option", name, declared(Decoding))
        for given in declared(Asking).values():
            value = getattr(self, given.name)
            if given.option and given.option.choices and value is not None:
                check_field_choice(given, value)
        object.__setattr__(self, "model", os.path.expanduser(self.model))
        if self.data_dir is not None:
            object.__setattr__(self, "data_dir", Path(os.path.expanduser(self.data_dir)))
            check_data_dir(self.data_dir)

    @classmethod
    def of(cls, **given: Any) -> "Asking":
        """From all fields side by side, those of decoding and of backends too, named as on the command line.

        None is not given, but for a field whose value it is. Raises UsageError, with the nearest names, for an unknown
        one.
        """
        own: dict[str, Any] = {}
        parts: dict[str, dict[str, Any]] = {
            part: dict(given.get(part) or {}) for part in ("decoding", "backend_options")
        }
        for name, value in given.items():
            if name not in asking_fields() and name not in declared(Asking):
                raise unknown_name("argument", name, [*asking_fields(), *parts])
            place = asking_fields()[name].part if name in asking_fields() else None
            if place is None and name not in parts:
                own[name] = value
            elif place is not None and value is not None and value != []:  # [] is a repeated option that is not given
                parts[place][asking_fields()[name].declared.name] = value
        return cls(**own | parts)

    def with_decoding(self, **chosen: Any) -> "Asking":
        """The same with other decoding."""
        return replace(self, decoding={**self.decoding, **chosen})


@dataclass(frozen=True)
class AskingField:
    """A field of `Asking`, or of one of its parts: `decoding` or `backend_options`."""

    declared: Declared
    option: Option
    part: str | None
    flags: tuple[str, ...]

    @property
    def default(self) -> Any:
        """As `Asking.of` has it: None for a part's field, where what is not given may be the model's."""
        return None if self.part or self.declared.default is MISSING else self.declared.default

    @property
    def shown(self) -> str | None:
        """Its default in words, where `default` does not say it."""
        own = self.declared.default
        return self.option.shown or (str(own) if self.part and own not in (None, MISSING) else None)


@cache
def asking_fields() -> dict[str, AskingField]:
    """All that can be said of how a model is asked, by the names of `Asking.of`."""
    found = {
        name: AskingField(one, one.option, None, _flags(name, one.option))
        for name, one in declared(Asking).items()
        if one.option
    }
    found |= {
        name: AskingField(one, one.option, "decoding", _flags(name, one.option))
        for name, one in declared(Decoding).items()
        if one.option
    }
    for backend, kind in OPTIONS.items():
        for one in declared(kind).values():
            name = f"api_{one.name}" if backend == "api" else one.name
            if one.option and one.option.help:
                found[name] = AskingField(one, one.option, "backend_options", _flags(name, one.option))
    return found


def _flags(name: str, option: Option) -> tuple[str, ...]:
    return option.flags or (f"--{name.replace('_', '-')}",)


def check_data_dir(folder: Path) -> None:
    """Raise UsageError for a folder of benchmarks that is not there, also where no task needs it: it is a typo."""
    if not folder.is_dir():
        raise UsageError(f"--data-dir {str(folder)!r}: there is no such folder")


def check_field_choice(field: Declared, value: object) -> None:
    """Raise UsageError if the field takes certain texts, and this is none of them."""
    known = choices(field)
    if known and value not in known:
        raise UsageError(f"--{field.name.replace('_', '-')} takes {', '.join(known)}, not {value!r}")
