"""Rows that are nearly the same: questions by MinHash over their letters, pictures by the signs of their gradients."""

import re
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avar_eval.errors import AvarError
from avar_eval.pictures import UNREADABLE, picture_path, read_rgb
from avar_eval.tasks.catalog import TaskEntry, catalog
from avar_eval.tasks.files import read_rows

_RUN: Final = 5
_BANDS, _ROWS = 16, 4
"""Two questions of likeness s share a band with probability 1 - (1 - s^4)^16: 0.9998 at 0.8, 0.2 at 0.35."""
_PRIME: Final = (1 << 31) - 1
_LONG_ENOUGH: Final = 40
"""Letters of a question that two sets do not have in common by chance."""
_NOTHING: Final = re.compile(r"<image[ _]?\d*>|[\W_]+", re.IGNORECASE)
_SIDE: Final = 16
_CONTRAST: Final = 12
"""Levels of grey (of 255) between a picture's lightest and darkest part, below which its hash tells nothing."""

_random: Final = np.random.default_rng(0)
_FACTORS: Final = _random.integers(1, _PRIME, _BANDS * _ROWS, dtype=np.uint64)[:, None]
_OFFSETS: Final = _random.integers(0, _PRIME, _BANDS * _ROWS, dtype=np.uint64)[:, None]

Bits = NDArray[np.uint8]
"""256 bits in 32 bytes."""

Runs = NDArray[np.uint32]
"""Checksums, sorted, each once."""


def letters(text: str) -> str:
    """A question without what lays it out: letters and digits in lower case."""
    return _NOTHING.sub("", text).casefold()


def runs(question: str) -> Runs:
    """Checksums of all runs of five letters of a question."""
    data = letters(question).encode()
    return np.unique([zlib.crc32(data[at : at + _RUN]) for at in range(max(1, len(data) - _RUN + 1))]).astype(np.uint32)


def likeness(one: Runs, other: Runs) -> float:
    """The Jaccard index of two questions' runs, 0..1."""
    both = np.concatenate((one, other))
    both.sort()
    common = np.count_nonzero(both[1:] == both[:-1])
    return common / (len(both) - common)


def picture_bits(picture: Image.Image) -> Bits | None:
    """Whether each of 16 × 16 parts of a picture is lighter than its right neighbour; None for a blank picture."""
    grey = np.asarray(picture.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX), dtype=np.int16)
    if int(grey.max()) - int(grey.min()) < _CONTRAST:
        return None
    return np.packbits(grey[:, :-1] > grey[:, 1:])


class Questions:
    """Questions, found again by what is like them. Those of the same letters are one."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._numbers: dict[str, int] = {}
        self._runs: list[Runs] = []
        self._alike: list[list[int]] = []  # a question of a template is asked of thousands of pictures
        self._bands: list[dict[bytes, list[int]]] = [{} for _ in range(_BANDS)]

    def alike(self, question: str) -> list[int]:
        """Numbers of the questions that were added and have at least that share of runs in common with this one."""
        number = self._numbers.get(letters(question))
        return self._compare(runs(question)) if number is None else self._alike[number]

    def add(self, question: str) -> int:
        """Add a question; returns its number."""
        number = self._numbers.setdefault(letters(question), len(self._runs))
        if number == len(self._runs):
            own = runs(question)
            alike = self._compare(own)
            for other in alike:
                self._alike[other].append(number)
            self._alike.append([*alike, number])
            self._runs.append(own)
            for band, part in zip(self._bands, _parts(own), strict=True):
                band.setdefault(part, []).append(number)
        return number

    def _compare(self, own: Runs) -> list[int]:
        near = {number for band, part in zip(self._bands, _parts(own), strict=True) for number in band.get(part, ())}
        return sorted(number for number in near if likeness(own, self._runs[number]) >= self._least)


def _parts(own: Runs) -> list[bytes]:
    values = own.astype(np.uint64) % np.uint64(_PRIME)
    least = ((_FACTORS * values + _OFFSETS) % np.uint64(_PRIME)).min(axis=1).astype(np.uint32)
    return [part.tobytes() for part in least.reshape(_BANDS, _ROWS)]


class Seen:
    """The rows of one set, to keep out those that are nearly one of them: question and pictures alike."""

    def __init__(self, question_likeness: float, bits: int) -> None:
        self._questions, self._bits = Questions(question_likeness), bits
        self._pictures: dict[int, list[tuple[int | None, ...]]] = {}

    def takes(self, question: str, pictures: list[Bits | None]) -> bool:
        """Add a row, unless it is nearly one that is there."""
        # integers: a question of a template stands beside thousands of pictures, and their bits are counted fastest so
        own = tuple(None if bits is None else int.from_bytes(bits.tobytes()) for bits in pictures)
        number = self._questions.add(question)
        for alike in self._questions.alike(question):
            if any(self._same(other, own) for other in self._pictures.get(alike, ())):
                return False
        self._pictures.setdefault(number, []).append(own)
        return True

    def _same(self, one: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
        if len(one) != len(other):
            return False
        return all(
            first == second or (first is not None and second is not None and (first ^ second).bit_count() <= self._bits)
            for first, second in zip(one, other, strict=True)
        )


class Benchmarks:
    """Questions and pictures of the benchmarks in a data folder (`AVAR_DATA_DIR`), told as near-duplicates are.

    tasks: the names of those that lie there. A picture counts by itself, a question if it is long enough.
    """

    def __init__(self, data_dir: Path, question_likeness: float, bits: int) -> None:
        self._questions, self._bits = Questions(question_likeness), bits
        hashes: list[Bits] = []
        self.tasks: list[str] = []
        for entry in catalog().values():
            if (data_dir / entry.data / "rows.jsonl").is_file():
                self.tasks.append(entry.name)
                hashes += self._add(entry, data_dir)
        self._pictures = np.array(hashes, dtype=np.uint8).reshape(-1, _SIDE * _SIDE // 8)

    def _add(self, entry: TaskEntry, data_dir: Path) -> list[Bits]:
        found = []
        for row in read_rows(entry, data_dir):
            question = str(row.get("question", ""))
            if len(letters(question)) >= _LONG_ENOUGH:
                self._questions.add(question)
            for column in filter(row.get, entry.images):
                try:
                    path = picture_path(data_dir / entry.data, str(row[column]), False, within=data_dir)
                    bits = picture_bits(read_rgb(path))
                except (*UNREADABLE, AvarError):
                    continue  # an evaluation leaves that row out as well
                if bits is not None:
                    found.append(bits)
        return found

    def holds(self, question: str, pictures: list[Bits | None]) -> str | None:
        """`benchmark_question` or `benchmark_picture` for a row that is in one, else None."""
        first = question.strip().partition("\n")[0]
        for part in {question, first}:
            if len(letters(part)) >= _LONG_ENOUGH and self._questions.alike(part):
                return "benchmark_question"
        for bits in pictures:
            if bits is not None and len(self._pictures):
                distance: Any = np.bitwise_count(self._pictures ^ bits).sum(axis=1)
                if int(distance.min()) <= self._bits:
                    return "benchmark_picture"
        return None
