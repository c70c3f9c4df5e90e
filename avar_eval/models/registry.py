"""The model registry: what a short name stands for. Light: knows no torch and no transformers."""

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from avar_eval.names import unknown_name

_HERE = Path(__file__).parent


class ModelEntry(BaseModel):
    """One registered model: where its weights are, and how it wants to be asked by default.

    system_prompt None leaves it to the model's chat template. answer_format: the style of prompt that it is asked in,
    unless another is asked for. batch_size is for the transformers backend.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    aliases: list[str] = []
    bundled: str | None = None
    repository: str | None = None
    revision: str | None = None
    architecture: str
    system_prompt: str | None = None
    answer_format: Literal["thinking", "direct", "boxed"] = "thinking"
    max_new_tokens: int
    batch_size: int = 16
    description: str

    @model_validator(mode="after")
    def _one_source(self) -> "ModelEntry":
        if (self.bundled is None) == (self.repository is None):
            raise ValueError(f"{self.name}: give either `bundled` or `repository`")
        return self

    @property
    def path(self) -> Path | None:
        """Where the weights are on this disk, None for a hub model."""
        return None if self.bundled is None else _HERE / self.bundled


@cache
def registry() -> dict[str, ModelEntry]:
    """All registered models by name."""
    data = yaml.safe_load((_HERE / "registry.yaml").read_text(encoding="utf-8"))
    return {name: ModelEntry(name=name, **fields) for name, fields in data.items()}


def find_model(name: str) -> ModelEntry | None:
    """The entry that `name` or one of its aliases stands for, in any case of letters; None if there is none."""
    wanted = name.lower()
    for entry in registry().values():
        if wanted in (entry.name, *entry.aliases):
            return entry
    return None


def get_model(name: str) -> ModelEntry:
    """The entry of a registered name. Raises UsageError, with the nearest names, if there is none."""
    entry = find_model(name)
    if entry is None:
        known = [known for entry in registry().values() for known in (entry.name, *entry.aliases)]
        raise unknown_name("model", name, known, "(a local folder or a hub repository owner/name is taken as well)")
    return entry
