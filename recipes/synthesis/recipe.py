"""What is synthesised: a YAML file with `sources`, three `stages` and `filters`, checked before anything is asked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from avar_eval.endpoint.url import check_url
from avar_eval.errors import UsageError, unknown_name
from avar_eval.in_words import in_words
from avar_eval.models.backend_options import DEAREST
from avar_eval.recipes.mixture import RowSource
from avar_eval.recipes.sources import MIXTURES
from avar_eval.user_files import read_yaml

Domain = Literal["math", "science"]
StageName = Literal["describe", "reason", "anchor"]
STAGES: Final[tuple[StageName, ...]] = ("describe", "reason", "anchor")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class StageModel(_Part):
    """Who is asked, and how.

    url: an OpenAI-compatible endpoint, up to and with /v1. backend: `vllm` runs the model in this process instead.
    price: dollars a million tokens of prompt and of response. concurrency: requests under way at a time. prompt: a
    file, or one for each domain, in the place of the shipped ones. retries, timeout (seconds): of one request.
    expected_tokens: of a response, for `--dry-run` until replies have been counted.
    """

    model: str = Field(min_length=1)
    backend: Literal["api", "vllm"] = "api"
    url: str | None = None
    key_env: str | None = None
    temperature: float = Field(default=0.0, ge=0, le=100)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=4096, ge=1)
    price: tuple[float, float] | None = None
    concurrency: int = Field(default=16, ge=1, le=4096)
    prompt: Path | dict[Domain, Path] | None = None
    samples: int = Field(default=1, ge=1, le=64)
    retries: int = Field(default=6, ge=0, le=100)
    timeout: float = Field(default=600.0, gt=0)
    expected_tokens: int = Field(default=1000, ge=1)

    @field_validator("price")
    @classmethod
    def _is_a_price(cls, price: tuple[float, float] | None) -> tuple[float, float] | None:
        if price is not None and not all(0 <= part <= DEAREST for part in price):
            raise ValueError("give [PROMPT, RESPONSE] in dollars a million tokens")
        return price

    @model_validator(mode="after")
    def _check_backend(self) -> Self:
        if self.backend == "api":
            if self.url is None:
                raise ValueError(
                    "a stage needs the url of an endpoint, such as http://localhost:8000/v1, or backend: vllm"
                )
            check_url(self.url)
        elif self.url is not None or self.price is not None:
            raise ValueError("backend: vllm runs the model in this process: it takes neither url nor price")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("several samples need a temperature above 0: greedy samples are all the same")
        return self


class Describer(StageModel):
    """samples: 2 asks for a second description, and rejects rows on which the two do not agree."""

    samples: int = Field(default=1, ge=1, le=2)


class Reasoner(StageModel):
    """samples: solutions of one question, of which at most one is kept."""

    temperature: float = Field(default=0.6, ge=0, le=100)
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_tokens: int = Field(default=32768, ge=1)
    samples: int = Field(default=4, ge=1, le=64)
    expected_tokens: int = Field(default=4000, ge=1)


class Anchorer(StageModel):
    """Rewrites one solution, once."""

    max_tokens: int = Field(default=32768, ge=1)
    samples: Literal[1] = 1
    expected_tokens: int = Field(default=1500, ge=1)


class Stages(_Part):
    """The three models, in the order in which a row meets them."""

    describe: Describer
    reason: Reasoner
    anchor: Anchorer


class Filters(_Part):
    """What a row has to be; every rejected one is counted in the report by the name of its reason.

    words: of a description, fewest and most. agreement: share of numbers and labels that two descriptions have in
    common. reflections: of a solution, at least. unchanged: share of its tokens that anchoring keeps, looking phrases
    set aside. anchors: at least. anchors_per_100_words: fewest and most. repeated: share of a thought's runs of
    ten words that have stood in it before, at most. tokens: of a whole row with its images, counted by the processor of
    the recipe's `target`. question_likeness, picture_bits: rows whose questions have that share of five-letter runs in
    common and whose pictures' hashes (256 bits) differ in no more bits are near-duplicates.
    """

    words: tuple[int, int] = (40, 3000)
    agreement: float = Field(default=0.8, ge=0, le=1)
    reflections: int = Field(default=2, ge=0)
    unchanged: float = Field(default=0.95, ge=0, le=1)
    anchors: int = Field(default=3, ge=1)
    anchors_per_100_words: tuple[float, float] = (0.2, 12.0)
    repeated: float = Field(default=0.3, ge=0, le=1)
    tokens: int = Field(default=30_000, ge=1)
    question_likeness: float = Field(default=0.8, gt=0, le=1)
    picture_bits: int = Field(default=10, ge=0, le=256)


class Recipe(_Part):
    """target: the model that is to be trained, whose processor counts a row's tokens (None: they are not counted).

    cost_limit: dollars of all stages together, what earlier runs have paid included.
    """

    sources: list[RowSource] = Field(min_length=1)
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    target: str | None = None
    stages: Stages
    filters: Filters = Filters()
    cost_limit: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [entry.source for entry in self.sources]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"the source {twice} stands there twice")
        unpriced = [name for name in STAGES if self.stage(name).price is None and self.stage(name).backend == "api"]
        if self.cost_limit is not None and unpriced:
            raise ValueError(f"a cost_limit needs the price of each stage: {unpriced[0]} has none")
        return self

    def stage(self, name: StageName) -> StageModel:
        """The stage of a name."""
        return getattr(self.stages, name)  # type: ignore[no-any-return]


_PARTS: Final[Mapping[tuple[str, ...], type[BaseModel]]] = {
    (): Recipe,
    ("sources",): RowSource,
    ("stages",): Stages,
    ("stages", "describe"): Describer,
    ("stages", "reason"): Reasoner,
    ("stages", "anchor"): Anchorer,
    ("filters",): Filters,
}


def parse_recipe(content: Any, name: str) -> Recipe:
    """A recipe of YAML's values. Raises UsageError, with the nearest name for an unknown key."""
    if not isinstance(content, dict):
        raise UsageError(f"{name} is no synthesis recipe: it needs `sources` and `stages`")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = tuple(str(part) for part in first["loc"] if not isinstance(part, int))
        if first["type"] == "extra_forbidden" and place[:-1] in _PARTS:
            known = _PARTS[place[:-1]].model_fields
            raise unknown_name("key", ".".join(place), [".".join((*place[:-1], key)) for key in known], name) from None
        raise UsageError(f"{name}: {in_words(error)}") from None


def read_recipe(name: str) -> Recipe:
    """A shipped recipe or a file. Raises UsageError."""
    path = MIXTURES.get(name, Path(name))
    return parse_recipe(read_yaml(path, "the recipe"), str(path))
