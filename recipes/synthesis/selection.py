"""Which questions are asked: a seeded sample of each source, its near-duplicates and rows of benchmarks left out.

`questions.jsonl` and `images/` hold it. They are made once and read by every stage; a recipe whose sources, seed or
filters of likeness have changed makes them anew.
"""

import hashlib
import json
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, Self

import numpy as np
from pydantic import TypeAdapter
from pydantic import ValidationError as InvalidError

from avar_eval.answers import Kind
from avar_eval.atomic import WriteError, write_atomically
from avar_eval.errors import AvarError
from avar_eval.in_words import fault_in_words
from avar_eval.pictures import OutsideError, allowed_outside, read_rgb
from avar_eval.recipes.mixture import RowSource, drawn_rows
from avar_eval.recipes.sources import TrainingDataError
from avar_eval.recipes.synthesis.likeness import Benchmarks, Bits, Seen, picture_bits
from avar_eval.recipes.synthesis.recipe import Domain, Recipe
from avar_eval.tasks.prompts import THINKING
from avar_eval.user_files import open_file, read_text

QUESTIONS_NAME: Final = "questions.jsonl"
SELECTION_NAME: Final = "selection.json"
IMAGES_NAME: Final = "images"
_DATA_DIR_VARIABLE: Final = "AVAR_DATA_DIR"
_LETTERS: Final = "ABCDEFGHIJ"
UNREADABLE: Final = "unreadable"
GIVE_UP_AFTER: Final = 50
"""Rows at a source's beginning that cannot be read, all of them: the fault is then the source's."""
_EXAMPLES: Final = 20
"""Rejected rows of a reason that are kept to be shown."""

_SCIENCE: Final = frozenset({"ai2d", "m3cot"})
"""Sources whose rows are of the sciences where they do not say otherwise; all others are mathematics."""
_MATH_FIELDS: Final = frozenset({"math", "mathematics", "geometry", "algebra", "arithmetic"})


@dataclass(frozen=True)
class Question:
    """A row to be synthesised. images: files in the output folder, in the order of their places in `prompt`.

    text: the question alone, as the models of all stages read it. prompt: the turns that are trained on.
    """

    id: str
    source: str
    domain: Domain
    text: str
    prompt: tuple[dict[str, Any], ...]
    images: tuple[str, ...]
    answer: str
    answer_type: Kind
    choices: tuple[str, ...]
    precision: int | None

    def judged_by(self) -> dict[str, Any]:
        """What a response is judged against, as the accuracy reward takes it."""
        return {
            "answer": self.answer,
            "answer_type": self.answer_type,
            "choices": list(self.choices),
            "precision": self.precision,
        }


@dataclass(frozen=True)
class Selection:
    """drawn: rows of each source. rejected: how many of them for which reason, and some of them by name.

    benchmarks: the tasks that rows were compared with.
    """

    digest: str
    drawn: dict[str, int]
    rejected: dict[str, int]
    examples: dict[str, list[str]]
    benchmarks: list[str]


_questions: Final = TypeAdapter(Question)
_selection: Final = TypeAdapter(Selection)


class SelectionError(AvarError):
    """The questions of an output folder cannot be read.

    What to do: Delete questions.jsonl of the output folder to choose questions anew; replies are kept.
    """


def select(recipe: Recipe, folder: Path) -> Selection:
    """The recipe's questions, in the output folder; read from the sources only if they are not there yet.

    Raises TrainingDataError or UsageError for a source that cannot be had, or whose rows cannot be read.
    """
    data_dir = os.environ.get(_DATA_DIR_VARIABLE)
    digest = _digest(recipe, data_dir)
    try:
        known = _selection.validate_json(read_text(folder / SELECTION_NAME))
        if known.digest == digest:
            return known
    except (OSError, ValueError):
        pass
    filters = recipe.filters
    benchmarks = Benchmarks(Path(data_dir), filters.question_likeness, filters.picture_bits) if data_dir else None
    seen = Seen(filters.question_likeness, filters.picture_bits)
    drawn: dict[str, int] = {}
    rejected: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    with _SeededOrder(folder, recipe.seed) as lines:
        for entry in recipe.sources:
            drawn[entry.source] = unreadable = 0
            for question, reason in _draw(entry, recipe.seed, folder):
                drawn[entry.source] += 1
                if isinstance(question, Question):
                    bits = [_bits(folder / image) for image in question.images]
                    reason = benchmarks.holds(question.text, bits) if benchmarks else None
                    if reason is None and not seen.takes(f"{question.text}\n{question.answer}", bits):
                        reason = "near_duplicate"
                    if reason is None:
                        lines.add(question)
                        continue
                name = question.id if isinstance(question, Question) else question
                unreadable += reason == UNREADABLE
                if unreadable == GIVE_UP_AFTER == drawn[entry.source]:
                    raise TrainingDataError(
                        f"the first {GIVE_UP_AFTER} rows of {entry.source} cannot be read, such as {name}"
                    )
                rejected[reason or ""] += 1
                if len(examples.setdefault(reason or "", [])) < _EXAMPLES:
                    examples[reason or ""].append(name)
        (folder / SELECTION_NAME).unlink(missing_ok=True)  # it must never stand beside another selection's questions
        write_atomically(folder / QUESTIONS_NAME, lines)
    made = Selection(digest, drawn, dict(rejected), examples, benchmarks.tasks if benchmarks else [])
    write_atomically(folder / SELECTION_NAME, [json.dumps(asdict(made), indent=2, ensure_ascii=False) + "\n"])
    return made


def questions(folder: Path, limit: int | None = None) -> Iterator[Question]:
    """The selected questions in their seeded order, one at a time; the first `limit` are a sample of all sources."""
    path = folder / QUESTIONS_NAME
    try:
        with open_file(path) as file:
            for number, line in enumerate(file):
                if number == limit:
                    return
                yield _questions.validate_json(line)
    except (OSError, InvalidError) as error:
        raise SelectionError(
            f"{path} cannot be read ({fault_in_words(error)}): delete {SELECTION_NAME} beside it to make it anew"
        ) from error


def wanted(recipe: Recipe, selection: Selection) -> dict[str, int]:
    """How many rows the recipe asks of each source."""
    return {entry.source: entry.count or selection.drawn[entry.source] for entry in recipe.sources}


def _digest(recipe: Recipe, data_dir: str | None) -> str:
    chosen = {
        "sources": [entry.model_dump() for entry in recipe.sources],
        "seed": recipe.seed,
        "likeness": [recipe.filters.question_likeness, recipe.filters.picture_bits],
        "benchmarks": data_dir,
    }
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


class _SeededOrder:
    """Questions as lines, in the order of the SHA-256 of seed and id; they wait in a file that nobody else sees."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        folder.mkdir(parents=True, exist_ok=True)
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115 - it is closed with this
        self._order, self._ends = array("Q"), array("q", [0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, question: Question) -> None:
        """One more. Raises WriteError."""
        try:
            length = self._file.write(_questions.dump_json(question) + b"\n")
        except OSError as error:
            raise WriteError(self._folder / QUESTIONS_NAME, error.strerror) from error
        self._order.append(int.from_bytes(hashlib.sha256(f"{self._seed}/{question.id}".encode()).digest()[:8]))
        self._ends.append(self._ends[-1] + length)

    def __iter__(self) -> Iterator[bytes]:
        self._file.flush()
        for number in np.argsort(np.frombuffer(self._order, dtype=np.uint64), kind="stable"):
            start, end = self._ends[number], self._ends[number + 1]
            yield os.pread(self._file.fileno(), end - start, start)


def _draw(entry: RowSource, seed: int, folder: Path) -> Iterator[tuple[Question | str, str | None]]:
    """The drawn questions of a source, or a row's name and why it cannot be asked."""
    from avar_eval.recipes.data import training_rows
    from avar_eval.recipes.judged_rows import why_unjudgeable

    for number, row, home in drawn_rows(entry, seed):
        named = f"{entry.source}/{number}"
        try:
            (made,) = training_rows(row, home, "grpo", None, allowed_outside())
        except (TrainingDataError, OutsideError) as error:
            yield f"{named}: {error}", UNREADABLE
            continue
        if why := why_unjudgeable(made):
            yield f"{named}: {why}", "unjudgeable"
        elif not made["images"]:
            yield named, "no_image"
        else:
            images = tuple(_save_image(folder, image) for image in made["images"])
            yield _question(entry, number, row, made, images), None


def _question(
    entry: RowSource, number: int, row: Mapping[str, Any], made: Mapping[str, Any], images: tuple[str, ...]
) -> Question:
    own = made.get("id") or row.get("id")
    source = entry.source.partition("=")[0]
    asked = [
        part["text"] for turn in made["prompt"] if turn["role"] == "user" for part in turn["content"] if part["text"]
    ]
    text = "\n".join(asked).strip().removesuffix(THINKING).strip()
    return Question(
        id=f"{source}/{number}" if own in (None, "") else f"{source}/{own}",
        source=entry.source,
        domain=entry.domain if entry.domain != "auto" else row_domain(source, row),
        text=text,
        prompt=_with_instruction(made["prompt"]),
        images=images,
        answer=_reference_answer(made),
        answer_type=made["answer_type"],
        choices=tuple(made["choices"]),
        precision=made["precision"],
    )


def _reference_answer(made: Mapping[str, Any]) -> str:
    """The answer; of a choice the letter that the question shows, unless options are called by letters themselves."""
    answer, choices = str(made["answer"]), list(made["choices"])
    plain = all(len(choice) > 1 for choice in choices)
    if made["answer_type"] == "choice" and plain and answer in choices and len(choices) <= len(_LETTERS):
        return _LETTERS[choices.index(answer)]
    return answer


def _with_instruction(prompt: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The turns, with evaluations' instruction at the end of the last one if it is not there."""
    turns = [{"role": turn["role"], "content": [_part(part) for part in turn["content"]]} for turn in prompt]
    parts = turns[-1]["content"]
    text = next((part for part in reversed(parts) if part["type"] == "text"), None)
    if text is None:
        parts.append({"type": "text", "text": THINKING})
    elif THINKING not in text["text"]:
        text["text"] = f"{text['text'].rstrip()}\n{THINKING}"
    return tuple(turns)


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "image"} if part["type"] == "image" else {"type": "text", "text": part["text"]}


def row_domain(source: str, row: Mapping[str, Any]) -> Domain:
    """math or science: what the row's own field `domain` or `subject` says, else what its source is known for.

    >>> row_domain("m3cot", {"domain": "mathematics"}), row_domain("m3cot", {"domain": "commonsense"})
    ('math', 'science')
    """
    field = next((str(row[name]).casefold() for name in ("domain", "subject") if row.get(name)), None)
    if field is not None:
        return "math" if field in _MATH_FIELDS else "science"
    return "science" if source in _SCIENCE else "math"


def _save_image(folder: Path, image: Any) -> str:
    """The image's file in the output folder, named by the hash of its bytes."""
    if isinstance(image, dict):
        content = image["bytes"]
    elif isinstance(image, str):
        with open_file(Path(image)) as file:
            content = file.read()
    else:
        buffer = BytesIO()
        image.save(buffer, "PNG", compress_level=1)  # many are drawn anew, and small
        content = buffer.getvalue()
    ending = "png" if content.startswith(b"\x89PNG") else "jpg" if content.startswith(b"\xff\xd8") else "img"
    name = f"{IMAGES_NAME}/{hashlib.sha256(content).hexdigest()[:32]}.{ending}"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_bytes(content)
        partial.replace(path)
    return name


def _bits(path: Path) -> Bits | None:
    return picture_bits(read_rgb(path))
