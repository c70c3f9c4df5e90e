"""The model registry: what a short name stands for. Light: knows no torch and no transformers.

`registry.yaml` describes the models of the paper. A user's own entries stand in a file of the same form, by default
`models.yaml` in the user's configuration folder (Linux: ~/.config/avar-eval), or the file that $AVAR_MODELS names.
"""

import os
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)

from avar_eval.endpoint.url import check_url
from avar_eval.errors import AvarError, UsageError, unknown_name
from avar_eval.in_words import in_words, shown
from avar_eval.models.assembled import assembled_folder
from avar_eval.models.backend_options import BackendName
from avar_eval.models.decoding import Decoding, recommendable
from avar_eval.user_files import parse_yaml, read_text

_HERE = Path(__file__).parent

AnswerFormat = Literal["thinking", "boxed", "direct", "none"]


class RegistryError(AvarError):
    """The user's file of models cannot be used.

    What to do: Mend the field that the message names, in the file that `AVAR_MODELS` names or models.yaml.
    """


def sampling_options(given: Any) -> dict[str, Any]:
    """What authors decode with, as a file says it: sampling options of `Decoding`, neutral where nothing is said.

    Raises ValueError or UsageError.
    """
    if not isinstance(given, dict):
        raise ValueError("give sampling options, such as {temperature: 0.6, top_p: 0.95}")
    neutral = recommendable()
    for name in given:
        if name not in neutral:
            raise unknown_name("field", f"decoding.{name}", _fields())
    checked = Decoding(max_new_tokens=1, **given)
    return {name: getattr(checked, name) for name in neutral}


class ApiSource(BaseModel):
    """Where a model is served. model: its name there. key_env: the environment variable that holds the key.

    not_found: what to know where the server has no such model.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    url: str
    key_env: str = "OPENAI_API_KEY"
    not_found: str | None = None

    @field_validator("url")
    @classmethod
    def _is_a_place(cls, url: str) -> str:
        check_url(url)
        return url


class Published(BaseModel):
    """Reference numbers as the paper (arXiv 2603.03825) prints them: accuracies in percent by benchmark, and VAS.

    `average` is the printed one, which does not always equal the mean of the printed accuracies.
    """

    model_config = ConfigDict(extra="forbid")

    mathvista: float | None = None
    mathvision: float | None = None
    mathverse_vision_only: float | None = None
    mmmu_val: float | None = None
    mmmu_pro: float | None = None
    mmstar: float | None = None
    hallusionbench: float | None = None
    average: float | None = None
    vas: float | None = None


class ModelEntry(BaseModel):
    """One registered model: where its weights are, and how it wants to be asked by default.

    Weights: `bundled` in this package, `assembled` from another package's on first use, a `folder` of this disk, or a
    hub `repository` at a `revision` (None: not pinned, the newest of its main branch). None of them for a model that is
    only served, at `api`.
    gated: whether the hub gives them only to those who accepted their conditions. processor: the repository of the
    processor, where the weights' has none of transformers. system_prompt None leaves it to the
    model's chat template. answer_format: how its answers end, `none` if nothing is said of it; `instruction` is the
    sentence that asks for it where the authors published one of their own, or, with `{question}` in it and `none`, the
    whole prompt. image_min_pixels, image_max_pixels: what its pictures are enlarged, or made smaller, to.
    prompt_source: where its authors published how they ask it, or "not published". trained_on: data sets known to be in
    its training data, benchmarks by their task's name; a set that is not listed may be in it all the same. runs_on: the
    backends that can run it, the usual one first. batch_size is for the transformers backend.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    aliases: list[str] = []
    bundled: str | None = None
    assembled: bool = False
    folder: Path | None = None
    repository: str | None = None
    revision: str | None = None
    gated: bool = False
    processor: str | None = None
    api: ApiSource | None = None
    architecture: str | None = None
    runs_on: list[BackendName] = Field(["transformers", "vllm", "api"], min_length=1)
    system_prompt: str | None = None
    answer_format: AnswerFormat = "thinking"
    instruction: str | None = None
    prompt_source: str | None = None
    decoding: Annotated[dict[str, Any], PlainValidator(sampling_options)] = Field(default_factory=recommendable)
    max_new_tokens: int = Field(ge=1)
    image_min_pixels: int | None = Field(None, ge=1)
    image_max_pixels: int | None = Field(None, ge=1)
    batch_size: int = Field(16, ge=1)
    trained_on: list[str] = []
    published: Published | None = None
    description: str

    @model_validator(mode="after")
    def _one_source(self) -> "ModelEntry":
        sources = [source for source in (self.bundled, self.folder, self.repository) if source is not None]
        if len(sources) > 1:
            raise ValueError("give one of `folder` and `repository`")
        if not sources and not self.assembled and (self.api is None or self.runs_on != ["api"]):
            raise ValueError("give `folder` or `repository`, or else `api` and `runs_on: [api]`")
        if self.instruction is not None and "{question}" in self.instruction:
            if self.instruction.count("{question}") > 1 or self.answer_format != "none":
                raise ValueError("an `instruction` with {question} has it once, and needs `answer_format: none`")
        elif self.instruction is not None and self.answer_format == "none":
            raise ValueError("with `answer_format: none` the `instruction` says where it goes: give it a {question}")
        if (sources or self.assembled) and self.architecture is None:
            raise ValueError("give the `architecture`: `model_type` of its config.json")
        return self

    @property
    def path(self) -> Path | None:
        """Where the weights are on this disk, or will be when assembled; None for a hub model or a served one."""
        if self.assembled:
            return assembled_folder(self.name)
        if self.bundled is not None:
            return _HERE / self.bundled
        return None if self.folder is None else self.folder.expanduser()

    def trained_on_task(self, task: str) -> bool:
        """Whether a task's data set is known to be in the training data: its score is then no measure of ability."""
        return any(task == name or task.startswith(f"{name}_") for name in self.trained_on)


def user_models_path() -> Path:
    """The user's file of models: $AVAR_MODELS, or models.yaml in the user's configuration folder."""
    named = os.environ.get("AVAR_MODELS")
    return Path(named) if named else platformdirs.user_config_path("avar-eval") / "models.yaml"


@cache
def registry() -> dict[str, ModelEntry]:
    """All registered models by name, the user's after the package's. Raises RegistryError for a bad user's file."""
    shipped = yaml.safe_load((_HERE / "registry.yaml").read_text(encoding="utf-8"))
    entries = {name: ModelEntry(name=name, **fields) for name, fields in shipped.items()}
    taken = {known for other in entries.values() for known in (other.name, *other.aliases)}
    path = user_models_path()
    for name, fields in _user_models(path).items():
        entry = _user_entry(path, name, fields)
        if double := taken & {entry.name, *entry.aliases}:
            raise RegistryError(f"{path}, model {name}: {min(double)!r} is already registered, choose another name")
        taken |= {entry.name, *entry.aliases}
        entries[entry.name] = entry
    return entries


def _user_models(path: Path) -> dict[str, Any]:
    """Name -> fields of the user's file; nothing where there is none and none was asked for."""
    if not path.exists() and "AVAR_MODELS" not in os.environ:
        return {}
    try:
        data = parse_yaml(read_text(path))
    except FileNotFoundError:
        raise RegistryError(f"AVAR_MODELS names {path}, and there is no such file") from None
    except OSError as error:
        raise RegistryError(f"the models in {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RegistryError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict | None):
        raise RegistryError(f"{path} must map names of models to their fields, and is {shown(data)}")
    return data or {}


def _user_entry(path: Path, name: object, fields: object) -> ModelEntry:
    where = f"{path}, model {name}"
    if not isinstance(name, str) or name != name.lower() or "/" in name:
        raise RegistryError(f"{where}: a model's name is lower case, without a slash")
    if not isinstance(fields, dict) or {"assembled", "bundled", "name"} & set(fields):
        raise RegistryError(
            f"{where}: give its fields, such as `folder` or `repository`, `architecture`, `description`"
        )
    try:
        return ModelEntry(name=name, **{str(field): value for field, value in fields.items()})
    except UsageError as error:
        raise RegistryError(f"{where}: {error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["type"] == "extra_forbidden":
            field = ".".join(map(str, problem["loc"]))
            raise RegistryError(f"{where}: {unknown_name('field', field, _fields())}") from error
        raise RegistryError(f"{where}: {in_words(error)}") from error


def _fields() -> list[str]:
    """The fields of an entry in a file, those of its parts with a dot."""
    parts = {"api": ApiSource.model_fields, "decoding": recommendable(), "published": Published.model_fields}
    inner = [f"{part}.{field}" for part, known in parts.items() for field in known]
    return [field for field in ModelEntry.model_fields if field not in ("name", "bundled", "assembled")] + inner


def find_model(name: str) -> ModelEntry | None:
    """The entry that `name` or one of its aliases stands for, in any case of letters; None if there is none."""
    wanted = name.lower()
    for entry in registry().values():
        if wanted in (entry.name, *entry.aliases):
            return entry
    return None


def find_by_weights(model: str) -> ModelEntry | None:
    """The entry whose weights are in that folder or hub repository `owner/name[@revision]`; None if there is none."""
    if Path(model).is_dir():
        folder = Path(model).resolve()
        return next((entry for entry in registry().values() if entry.path and entry.path.resolve() == folder), None)
    repository, _, revision = model.lower().partition("@")
    for entry in registry().values():
        if (entry.repository or "").lower() == repository and revision in ("", entry.revision):
            return entry
    return None


def get_model(name: str) -> ModelEntry:
    """The entry of a registered name. Raises UsageError, with the nearest names, if there is none."""
    entry = find_model(name)
    if entry is None:
        known = [known for entry in registry().values() for known in (entry.name, *entry.aliases)]
        hint = "(a local folder or a hub repository owner/name is taken as well)"
        raise unknown_name("model", name, known, hint, listed_by="avar-eval models")
    return entry


def choose_backend(entry: ModelEntry | None, backend: BackendName | None) -> BackendName:
    """The backend to run a model with: the given one, or the usual one of its entry.

    Raises UsageError if its entry says that this backend cannot run it.
    """
    if entry is None:
        return backend or "transformers"
    if backend is not None and backend not in entry.runs_on:
        raise UsageError(f"{entry.name} runs with --backend {' or '.join(entry.runs_on)}, not with {backend}")
    return backend or entry.runs_on[0]
