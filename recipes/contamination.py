"""Benchmarks in training data: sets that are known by name, and rows that are told by their pictures and questions."""

import hashlib
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from avar_eval.errors import UsageError
from avar_eval.recipes.mixture import parts_of
from avar_eval.recipes.paper_sources import PAPER_SOURCES
from avar_eval.recipes.sources import EMBEDDED
from avar_eval.tasks.catalog import TaskEntry, catalog
from avar_eval.tasks.data import MANIFEST_NAME
from avar_eval.tasks.files import read_rows
from avar_eval.user_files import open_file, parse_json, read_text

_DATA_DIR_VARIABLE: Final = "AVAR_DATA_DIR"
_NO_TRAINING_SPLIT: Final = frozenset(
    {
        "blink-benchmark/blink",
        "echo840/ocrbench",
        "lmms-lab/ai2d",
        "lmms-lab/mmbench",
        "lmms-lab/mme",
        "lmms-lab/mmvet",
        "lmms-lab/pope",
        "math-vision/math-vision",
        "mmvp/mmvp",
        "nyu-visionx/cv-bench",
        "opencompass/mmbench",
        "we-math/we-math",
        "xai-org/realworldqa",
    }
)
"""Data sets of the hub that are benchmarks and nothing else, beside those of our own tasks."""

_LONG_ENOUGH: Final = 60
"""Letters of a question that two sets do not have in common by chance."""
_NOTHING: Final = re.compile(r"<image[ _]?\d*>|[^\w]+", re.IGNORECASE)


def check_public_tests(sources: str, split: str) -> None:
    """Raise UsageError for sources that are a benchmark, by name and split: scores on it would mean nothing."""
    known = {entry.dataset.casefold(): entry.name for entry in catalog().values() if entry.dataset not in EMBEDDED}
    for source in (part.source for part in parts_of(sources)):
        name, _, folder = source.partition("=")
        paper = PAPER_SOURCES.get(name)
        path = Path(folder or source)
        repository = paper.repository if paper is not None else source.partition("@")[0]
        if paper is None and path.is_dir():
            repository = _fetched(path) or ""
        elif paper is None and (path.exists() or source in EMBEDDED):
            continue
        of_ours = known.get(repository.casefold())
        if of_ours is not None or repository.casefold() in _NO_TRAINING_SPLIT:
            task = f" (the task {of_ours})" if of_ours else ""
            raise UsageError(f"{source} is the benchmark {repository}{task} and has no training split: leave it out")
        if repository and split.casefold().startswith("test"):
            raise UsageError(
                f"{source} would be trained on its split {split!r}, which models are compared on: set train_split to "
                "train"
            )


def _fetched(folder: Path) -> str | None:
    """The data set of a folder that `avar-eval data fetch` has written."""
    try:
        dataset = parse_json(read_text(folder / MANIFEST_NAME)).get("dataset")
    except (OSError, ValueError, AttributeError):
        return None
    return dataset if isinstance(dataset, str) else None


class BenchmarkRows:
    """Pictures and questions of the benchmarks that lie in a data folder (`AVAR_DATA_DIR`), to find them elsewhere.

    Pictures are told by their files' bytes, questions by their letters and digits, if there are enough of them.
    """

    def __init__(self, data_dir: Path) -> None:
        self._pictures: dict[str, str] = {}
        self._questions: dict[str, str] = {}
        self._sizes: set[int] = set()
        for entry in catalog().values():
            if (data_dir / entry.data / "rows.jsonl").is_file():
                self._add(entry, data_dir)

    def _add(self, entry: TaskEntry, data_dir: Path) -> None:
        for row in read_rows(entry, data_dir):
            named = f"row {entry.row_id(row)} of {entry.name}"
            question = _letters(str(row.get("question", "")))
            if len(question) >= _LONG_ENOUGH:
                self._questions[question] = named
            for column in filter(row.get, entry.images):
                path = data_dir / entry.data / str(row[column])
                if path.is_file():
                    self._sizes.add(path.stat().st_size)
                    self._pictures[_sha256(path)] = named

    def found(self, row: Mapping[str, Any]) -> str | None:
        """Which benchmark's row a training row, as `data.load` makes it, has the picture or the question of."""
        for image in row["images"]:
            if named := self._picture(image):
                return f"the picture of {named}"
        asked = [part["text"] for turn in row["prompt"] if turn["role"] == "user" for part in turn["content"]]
        for text in filter(None, asked):
            for part in (text, text.strip().partition("\n")[0]):
                if named := self._questions.get(_letters(part)):
                    return f"the question of {named}"
        return None

    def _picture(self, image: Any) -> str | None:
        content = image.get("bytes") if isinstance(image, dict) else None
        if content is not None:
            return self._pictures.get(hashlib.sha256(content).hexdigest()) if len(content) in self._sizes else None
        path = Path(image) if isinstance(image, str) else None
        # most pictures of another file are of another length: only the rest is read
        if path is None or not path.is_file() or path.stat().st_size not in self._sizes:
            return None
        return self._pictures.get(_sha256(path))


@cache
def benchmarks_at_hand() -> BenchmarkRows | None:
    """The benchmarks of the data folder that evaluations read; None where none is set."""
    data_dir = os.environ.get(_DATA_DIR_VARIABLE)
    return BenchmarkRows(Path(data_dir)) if data_dir else None


def _letters(text: str) -> str:
    return _NOTHING.sub("", text).casefold()


def _sha256(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
