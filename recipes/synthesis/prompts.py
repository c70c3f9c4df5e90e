"""The texts that models are asked with: shipped files with versions, or a recipe's own."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, StrictUndefined, Template, TemplateError

from avar_eval.errors import UsageError
from avar_eval.in_words import fault_in_words
from avar_eval.recipes.synthesis.recipe import STAGES, Domain, Recipe, StageName
from avar_eval.user_files import read_text

_SHIPPED: Final = Path(__file__).parent / "prompts"
_HEAD: Final = re.compile(r"version: (\d+)\n-{3,}\n")

FIELDS: Final[Mapping[StageName, tuple[str, ...]]] = {
    "describe": ("question",),
    "reason": ("question", "description"),
    "anchor": ("objects", "reasoning"),
}
"""What a prompt of each stage may name in {{ }}."""


@dataclass(frozen=True)
class PromptText:
    """One prompt. version: of its file. digest: the first 16 hexadecimals of its SHA-256, part of every reply's key."""

    version: int
    digest: str
    template: Template

    def render(self, **values: str) -> str:
        """The text of the request."""
        return self.template.render(values)


def prompts_of(recipe: Recipe) -> dict[tuple[StageName, Domain], PromptText]:
    """The prompt of each stage and domain. Raises UsageError for a file that is none."""
    found: dict[tuple[StageName, Domain], PromptText] = {}
    for stage in STAGES:
        own = recipe.stage(stage).prompt
        domains: tuple[Domain, ...] = ("math", "science")
        for domain in domains:
            path = own.get(domain) if isinstance(own, dict) else own
            found[stage, domain] = read_prompt(path or _SHIPPED / f"{stage}_{domain}.j2", stage)
    return found


@cache
def read_prompt(path: Path, stage: StageName) -> PromptText:
    """A prompt's file: `version: N`, a line of dashes, the text with {{ question }} and others of `FIELDS`."""
    try:
        content = read_text(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"the prompt {path} cannot be read: {fault_in_words(error)}") from error
    head = _HEAD.match(content)
    if head is None:
        raise UsageError(f"the prompt {path} must begin with `version: 1` and a line `---`")
    try:
        template = Environment(undefined=StrictUndefined, autoescape=False).from_string(content[head.end() :].strip())
        template.render(dict.fromkeys(FIELDS[stage], ""))
    except TemplateError as error:
        known = ", ".join(f"{{{{ {name} }}}}" for name in FIELDS[stage])
        raise UsageError(
            f"the prompt {path} of the stage {stage} cannot be filled ({error}): it may name {known}"
        ) from error
    return PromptText(int(head[1]), hashlib.sha256(content.encode()).hexdigest()[:16], template)
