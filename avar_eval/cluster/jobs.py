"""What is computed with a model's weights, as plain data in and plain data out, in this process or on another machine.

A job carries all that decides its result: its prompts and their pictures, the decoding and the steering.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from PIL.Image import Image

from avar_eval.attention.record import AttentionRecord
from avar_eval.attention.steering import Steering
from avar_eval.attention.summary import AttentionSummary
from avar_eval.causal.answers import answer_tokens
from avar_eval.causal.measures import Answered, Measures, measure_rows
from avar_eval.errors import AvarError
from avar_eval.models.backend import BackendError, Generation, Prompt
from avar_eval.models.decoding import Decoding
from avar_eval.models.transformers_backend import TransformersBackend, check_prompts
from avar_eval.pictures import UNREADABLE, picture_fault
from avar_eval.records.attention import AttentionLine, attention_line
from avar_eval.records.record import Record

T = TypeVar("T")


class JobLostError(AvarError):
    """Every actor that a job was given to was lost before its end.

    What to do: Run the same command again: it asks what is not answered yet.
    """


@dataclass(frozen=True)
class Shipped:
    """A prompt on its way to another process. unreadable: why its pictures cannot be had, if they cannot."""

    key: str
    prompt: str
    pictures: tuple[Image, ...]
    unreadable: str | None = None

    @classmethod
    def of(cls, prompt: Prompt) -> "Shipped":
        """With its pictures, decoded."""
        try:
            return cls(prompt.key, prompt.prompt, tuple(prompt.images()))
        except UNREADABLE as error:
            return cls(prompt.key, prompt.prompt, (), picture_fault(error))

    def images(self) -> list[Image]:
        """The pictures. Raises ValueError where they could not be read."""
        if self.unreadable is not None:
            raise ValueError(self.unreadable)
        return list(self.pictures)


class Seen(NamedTuple):
    """Where a model looked in one response: the line of `attention.jsonl`, and its numbers for the record."""

    line: AttentionLine
    summary: AttentionSummary

    @classmethod
    def of(cls, key: str, record: AttentionRecord) -> "Seen":
        """Of the response with this key."""
        return cls(attention_line(key, record), record.summary())


class Job(Protocol):
    """One computation."""

    @property
    def questions(self) -> int:
        """How many questions it asks the model; 0 for a pass over responses."""
        ...

    def shipped(self) -> "Job":
        """The same with all that another process needs."""
        ...


class ModelJob(Job, Protocol):
    """A job of a model in transformers."""

    def compute(self, backend: TransformersBackend) -> Any:
        """Its result."""
        ...


@dataclass(frozen=True)
class Generated:
    """Of a batch's prompts, by number: their responses, where the model looked in those that are measured, and why the
    model's processor cannot read others."""

    generations: Mapping[int, Generation]
    seen: Mapping[int, Seen]
    refused: Mapping[int, str]


@dataclass(frozen=True)
class Generate:
    """Answer a batch, and measure attention in the answers to the prompts with the numbers `measured`."""

    prompts: Sequence[Prompt]
    decoding: Decoding
    steering: Steering | None
    measured: frozenset[int] = frozenset()

    @property
    def questions(self) -> int:
        """All of the batch."""
        return len(self.prompts)

    def shipped(self) -> "Generate":
        """With decoded pictures."""
        return replace(self, prompts=[Shipped.of(prompt) for prompt in self.prompts])

    def compute(self, backend: TransformersBackend) -> Generated:
        """The batch's responses, but for those that cannot be read."""
        backend.steering = self.steering
        refused: dict[int, str] = {}
        numbers = list(range(len(self.prompts)))
        try:
            inputs = encode(backend, self.prompts)
        except BackendError as error:
            refused = {0: str(error)} if len(numbers) == 1 else self._unreadable(backend)
            numbers = [number for number in numbers if number not in refused]
            if not numbers:
                return Generated({}, {}, refused)
            inputs = encode(backend, [self.prompts[number] for number in numbers])
        keys = [self.prompts[number].key for number in numbers]
        if measured := [place for place, number in enumerate(numbers) if number in self.measured]:
            generations, found = backend.generate_measured(inputs, self.decoding, keys, measured)
            seen = {numbers[place]: Seen.of(keys[place], of) for place, of in zip(measured, found, strict=True)}
        else:
            generations, seen = backend.generate(inputs, self.decoding, keys), {}
        return Generated(dict(zip(numbers, generations, strict=True)), seen, refused)

    def _unreadable(self, backend: TransformersBackend) -> dict[int, str]:
        reasons = {}
        for number, prompt in enumerate(self.prompts):
            try:
                encode(backend, [prompt])
            except BackendError as error:
                reasons[number] = str(error)
        return reasons


@dataclass(frozen=True)
class Ask:
    """Answer one question by an engine that batches by itself; the result is a Generation or a Refusal."""

    prompt: Prompt
    decoding: Decoding

    @property
    def questions(self) -> int:
        """One."""
        return 1

    def shipped(self) -> "Ask":
        """With decoded pictures."""
        return replace(self, prompt=Shipped.of(self.prompt))


@dataclass(frozen=True)
class Measure:
    """One pass over recorded responses: where the model looked in each. rows: questions with their records."""

    rows: Sequence[tuple[Prompt, Record]]
    steering: Steering | None

    @property
    def questions(self) -> int:
        """None: they are answered."""
        return 0

    def shipped(self) -> "Measure":
        """With decoded pictures."""
        return replace(self, rows=[(Shipped.of(prompt), record) for prompt, record in self.rows])

    def compute(self, backend: TransformersBackend) -> list[Seen]:
        """Of each row."""
        backend.steering = self.steering
        inputs = encode(backend, [prompt for prompt, _ in self.rows])
        check_prompts(inputs, [record.prompt_token_ids for _, record in self.rows])
        measured = backend.measure(inputs, [record.response_token_ids for _, record in self.rows])
        return [Seen.of(record.key, of) for (_, record), of in zip(self.rows, measured, strict=True)]


@dataclass(frozen=True)
class Passes:
    """Causal passes over recorded responses with token ids to questions with images. windows: see `measure_rows`."""

    rows: Sequence[tuple[Prompt, Record]]
    windows: int
    steering: Steering | None

    @property
    def questions(self) -> int:
        """None: they are answered."""
        return 0

    def shipped(self) -> "Passes":
        """With decoded pictures."""
        return replace(self, rows=[(Shipped.of(prompt), record) for prompt, record in self.rows])

    def compute(self, backend: TransformersBackend) -> list[Measures]:
        """Of each row."""
        backend.steering = self.steering
        return measure_rows(backend, [answered_row(backend, *row) for row in self.rows], self.windows)


def encode(backend: TransformersBackend, prompts: Sequence[Prompt]) -> Any:
    """Model inputs of a batch. Raises BackendError if one of its questions cannot be read."""
    try:
        images = [prompt.images() for prompt in prompts]
    except UNREADABLE as error:
        raise BackendError(f"a picture cannot be read: {picture_fault(error)}") from error
    return backend.encode([prompt.prompt for prompt in prompts], images)


def answered_row(backend: TransformersBackend, prompt: Prompt, record: Record) -> Answered:
    """What passes over a recorded response need."""
    extracted = record.judgement.extracted if record.judgement else None
    tokens = record.response_token_ids
    answer = answer_tokens(backend.processor.tokenizer, tokens, record.response, extracted)
    return Answered(prompt.prompt, prompt.images(), tokens, answer, record.reference)


Steps = Generator[Job, Any, T]
"""Yields jobs, is sent their results, and returns what became of it all."""


@dataclass(frozen=True)
class Plan(Generic[T]):
    """What is to be done, not begun yet. of: names that plans of like duration share, such as their task."""

    steps: Callable[[], Steps[T]]
    of: tuple[str, ...]
