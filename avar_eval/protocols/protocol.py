"""A named protocol: what a published evaluation says of how a model is asked and judged, read from a YAML file here."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator

from avar_eval.errors import UsageError, unknown_name
from avar_eval.models.registry import sampling_options
from avar_eval.tasks.catalog import TaskEntry
from avar_eval.tasks.prompts import Style

Verdict = Literal["official", "strict", "judge"]
"""Whose verdict the published score is: the benchmark's rule, ours (a tag-aware one comes near), or a judge model's."""

_FOLDER: Final = Path(__file__).parent


class BenchmarkProtocol(BaseModel):
    """What a protocol says of one benchmark.

    prompt: the user's turn, a Jinja template of the row's columns and of what `prompt_fields` of the benchmark adds,
    such as `options`, pairs of letter and text. style: one of this package's instead. max_new_tokens, stop, verdict:
    where they differ from the protocol's.
    """

    model_config = ConfigDict(extra="forbid")

    prompt: str | None = None
    style: Style | None = None
    max_new_tokens: int | None = Field(None, ge=1)
    stop: tuple[str, ...] = ()
    verdict: Verdict | None = None

    @model_validator(mode="after")
    def _one_prompt(self) -> "BenchmarkProtocol":
        if (self.prompt is None) == (self.style is None):
            raise ValueError("give one of `prompt` and `style`")
        return self

    def settings(self) -> dict[str, str]:
        """What a task's `doc_to_text` is told."""
        if self.prompt is not None:
            return {"prompt_template": self.prompt}
        assert self.style is not None
        return {"prompt_style": self.style}


class PublishedProtocol(BaseModel):
    """How a published evaluation asks and judges. What it does not say is as the model's registry entry has it.

    source: where it is published. models: whose own evaluation it is; any model may be asked under it. system_prompt:
    None, given as such, is the chat template's own. image_architectures: whose pixel limits these are, if not every
    model's: a model registered as of another one keeps its own. benchmarks: by a task's name or its folder's; `default`
    for all others. unknown: what the source does not say, or what is taken to be so.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str
    source: str
    models: list[str] = []
    system_prompt: str | None = None
    image_min_pixels: int | None = Field(None, ge=1)
    image_max_pixels: int | None = Field(None, ge=1)
    image_architectures: list[str] = []
    decoding: Annotated[dict[str, Any], PlainValidator(sampling_options)] | None = None
    max_new_tokens: int | None = Field(None, ge=1)
    verdict: Verdict
    unknown: list[str] = []
    benchmarks: dict[str, BenchmarkProtocol]

    @property
    def sets_system_prompt(self) -> bool:
        """Whether it says which system turn there is, if it is only the chat template's own."""
        return "system_prompt" in self.model_fields_set

    def limits_pictures(self, architecture: str | None) -> bool:
        """Whether its pixel limits are for models of that architecture (None: not known)."""
        return not self.image_architectures or architecture is None or architecture in self.image_architectures

    def of_task(self, task: TaskEntry) -> BenchmarkProtocol:
        """What it says of a task. Raises UsageError where it says nothing of it."""
        found = self.benchmarks.get(task.name) or self.benchmarks.get(task.folder) or self.benchmarks.get("default")
        if found is None or task.form == "lmms-eval":
            covered = ", ".join(name for name in self.benchmarks if name != "default") or "tasks in avar-eval's form"
            raise UsageError(f"--protocol {self.name} says nothing of {task.name}: it is for {covered}")
        return found

    def published_verdict(self, task: TaskEntry) -> Verdict:
        """Whose verdict the published score of a task is."""
        return self.of_task(task).verdict or self.verdict


@cache
def protocols() -> Mapping[str, PublishedProtocol]:
    """All protocols by name."""
    found = {}
    for path in sorted(_FOLDER.glob("*.yaml")):
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        found[path.stem] = PublishedProtocol(name=path.stem, **fields)
    return found


def find_protocol(name: str) -> PublishedProtocol:
    """The protocol of that name. Raises UsageError, with the nearest names, if there is none."""
    known = protocols()
    if name not in known:
        raise unknown_name("protocol", name, list(known), listed_by="avar-eval protocols")
    return known[name]
