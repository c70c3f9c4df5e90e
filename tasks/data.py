"""Benchmarks on disk: `fetch` makes the folders that `--data-dir` takes, `verify` checks them.

One folder a benchmark: `rows.jsonl` with the published fields, pictures as paths below `images/`, and `manifest.json`,
which says where the rows come from, how many there are, and the SHA-256 of every file. A picture's name holds the
beginning of its own hash, so that a picture never changes under a name and two rows never share one by accident. The
rows are written at once after all pictures, the manifest last: a folder is whole or says that it is not, and a fetch
that was killed goes on where it stopped.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from avar_eval.atomic import write_atomically
from avar_eval.folder_lock import FolderInUseError, FolderLock
from avar_eval.in_words import in_words
from avar_eval.pictures import UNREADABLE, allowed_outside, open_picture, picture_fault
from avar_eval.progress import Bar
from avar_eval.tasks.catalog import TaskEntry, catalog
from avar_eval.tasks.files import DataError, Row, check_picture, checked_path, load_pictures, read_rows

MANIFEST_NAME: Final = "manifest.json"
EMBEDDED: Final = "embedded"
"""The dataset of tasks whose rows are a part of the package."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_COMMIT: Final = re.compile(r"hf://datasets/[^@]+@([0-9a-f]{40})/")


class Manifest(BaseModel):
    """What a fetched folder holds.

    dataset, revision: as the tasks pin them. commits: the revisions that the rows were downloaded from, where the
    download says so. tasks: rows of each task. rows: lines of rows.jsonl. pictures: path below the folder -> SHA-256.
    """

    model_config = ConfigDict(extra="forbid")

    dataset: str
    revision: str | None
    commits: list[str]
    tasks: dict[str, int]
    rows: int
    rows_sha256: str
    pictures: dict[str, str]


@dataclass
class Checked:
    """What `verify` found of one task. pictures: those that its rows name. problems: empty if all is well."""

    task: str
    rows: int = 0
    pictures: int = 0
    problems: list[str] = field(default_factory=list)


def fetch(entries: Sequence[TaskEntry], data_dir: Path) -> Iterator[tuple[Path, Manifest]]:
    """Make the folders of tasks, one after the other, each with the rows of all tasks that share it.

    A folder that is whole is left as it is. Raises DataError if a dataset cannot be had, a folder cannot be written,
    another fetch is at work, or a folder holds rows that no fetch has written.
    """
    for data in dict.fromkeys(entry.data for entry in entries if entry.dataset != EMBEDDED):
        sharing = [entry for entry in catalog().values() if entry.data == data]
        folder = data_dir / data
        with _writing(data_dir):
            if not _is_complete(folder, sharing, data_dir):
                _fetch_folder(folder, sharing)
        yield folder, _read_manifest(folder)


def verify(entry: TaskEntry, data_dir: Path) -> Checked:
    """Check a task's rows and their number, that needed pictures are there, and that all can be decoded."""
    folder, checked = data_dir / entry.data, Checked(entry.name)
    try:
        rows = read_rows(entry, data_dir)
    except DataError as error:
        checked.problems.append(str(error))
        return checked
    checked.rows = len(rows)
    checked.problems += _manifest_problems(entry, folder, len(rows))
    hashes = _manifest_hashes(folder)
    checked.problems += _missing_row_problems(entry, rows)
    for row in rows:
        for column in filter(row.get, entry.images):
            checked.pictures += 1
            try:
                checked_path(entry, data_dir, row, column, allowed_outside())
            except DataError as error:
                checked.problems.append(str(error))
            else:
                checked.problems += _picture_problems(folder, row[column], hashes.get(row[column]))
    return checked


def _is_complete(folder: Path, entries: Sequence[TaskEntry], data_dir: Path) -> bool:
    """Whether a folder holds what the tasks pin, undamaged."""
    if not (folder / "rows.jsonl").exists():
        return False
    if not (folder / MANIFEST_NAME).exists():
        raise DataError(
            f"{folder} holds rows that `avar-eval data fetch` has not written: choose another --data-dir, or move them"
        )
    try:
        manifest = _read_manifest(folder)
    except DataError:
        return False
    pinned = (manifest.dataset, manifest.revision) == (entries[0].dataset, entries[0].revision)
    return pinned and not any(verify(entry, data_dir).problems for entry in entries)


def _fetch_folder(folder: Path, entries: Sequence[TaskEntry]) -> None:
    lines: dict[str, None] = {}  # a row that several tasks share is written once
    tasks: dict[str, int] = {}
    commits: dict[str, None] = {}
    pictures: dict[str, str] = {}
    for entry in entries:
        rows, found = _raw_rows(entry)
        commits |= dict.fromkeys(found)
        tasks[entry.name] = len(rows)
        with Bar(f"fetching {entry.name}", len(rows)) as bar:
            for row in rows:
                files = {column: _store(folder, entry, row, column, pictures) for column in entry.images}
                lines[json.dumps(row | files, ensure_ascii=False) + "\n"] = None
                bar.advance(1)
    stale = _manifest_hashes(folder).keys() - pictures.keys()
    write_atomically(folder / "rows.jsonl", lines)
    manifest = Manifest(
        dataset=entries[0].dataset,
        revision=entries[0].revision,
        commits=list(commits),
        tasks=tasks,
        rows=len(lines),
        rows_sha256=_sha256((folder / "rows.jsonl").read_bytes()),
        pictures=pictures,
    )
    write_atomically(folder / MANIFEST_NAME, [manifest.model_dump_json(indent=2) + "\n"])
    for path in stale:
        (folder / path).unlink(missing_ok=True)


def _raw_rows(entry: TaskEntry) -> tuple[Any, list[str]]:
    """The hub's rows with their pictures as files, not decoded, and the commits that they came from."""
    import datasets

    from avar_eval.tasks.hub import rows_from_hub

    rows = rows_from_hub(entry)
    for column in entry.images:
        rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows, sorted({match[1] for url in rows.info.download_checksums or {} if (match := _COMMIT.match(url))})


def _store(folder: Path, entry: TaskEntry, row: Row, column: str, pictures: dict[str, str]) -> str | None:
    """Write a row's picture, unless it is there already; its path below the folder, None where the row has none."""
    picture = row[column]
    if picture is None:
        return None
    content = picture["bytes"] or Path(picture["path"]).read_bytes()
    sha256 = _sha256(content)
    try:
        with open_picture(io.BytesIO(content)) as image:
            ending = str(image.format).lower()
    except UNREADABLE as error:
        raise DataError(
            f"{entry.dataset}: the picture of row {entry.row_id(row)} is broken: {picture_fault(error)}"
        ) from error
    name = entry.row_id(row) if len(entry.images) == 1 else f"{entry.row_id(row)}_{column}"
    path = f"images/{_UNSAFE.sub('_', name)}-{sha256[:8]}.{ending}"
    pictures[path] = sha256
    target = folder / path
    if not target.exists() or _sha256(target.read_bytes()) != sha256:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_bytes(content)
        partial.replace(target)
    return path


def _manifest_hashes(folder: Path) -> dict[str, str]:
    """The pictures of an earlier fetch and their hashes; none without a manifest that can be read."""
    try:
        return _read_manifest(folder).pictures
    except DataError:
        return {}


@contextmanager
def _writing(data_dir: Path) -> Iterator[None]:
    try:
        with FolderLock(data_dir, ".fetch.lock"):
            yield
    except FolderInUseError:
        raise DataError(f"another fetch is writing to {data_dir}: wait for it to end") from None
    except OSError as error:
        raise DataError(f"cannot write to {data_dir}: {error.strerror or error}") from error


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): fetch the benchmark again") from error
    except ValidationError as error:
        raise DataError(f"{path} is damaged ({in_words(error)}): fetch the benchmark again") from error


def _manifest_problems(entry: TaskEntry, folder: Path, count: int) -> list[str]:
    problems = []
    if entry.rows is not None and count != entry.rows:
        problems.append(f"{count} rows, of {entry.rows} that the benchmark has")
    if not (folder / MANIFEST_NAME).exists():
        return [
            *problems,
            f"no {MANIFEST_NAME}: not written by `avar-eval data fetch`, so nothing says what is missing",
        ]
    try:
        manifest = _read_manifest(folder)
    except DataError as error:
        return [*problems, str(error)]
    if manifest.tasks.get(entry.name) != count:
        problems.append(f"{count} rows, but {MANIFEST_NAME} says {manifest.tasks.get(entry.name)}")
    if _sha256((folder / "rows.jsonl").read_bytes()) != manifest.rows_sha256:
        problems.append(f"rows.jsonl is not the file that {MANIFEST_NAME} describes")
    return problems


def _missing_row_problems(entry: TaskEntry, rows: Sequence[Row]) -> list[str]:
    missing: dict[str, list[str]] = {}
    for row in rows:
        for column in load_pictures(entry, row):
            if not row[column]:
                missing.setdefault(column, []).append(entry.row_id(row))
    return [
        f"{len(ids)} rows name no picture in `{column}`: {', '.join(ids[:5])}{' …' if len(ids) > 5 else ''}"
        for column, ids in missing.items()
    ]


def _picture_problems(folder: Path, path: str, sha256: str | None) -> list[str]:
    if not (folder / path).is_file():
        return [f"the picture {folder / path} is missing"]
    try:
        check_picture(folder / path)
    except DataError as error:
        return [str(error)]
    if sha256 is not None and _sha256((folder / path).read_bytes()) != sha256:
        return [f"the picture {folder / path} is not the one that {MANIFEST_NAME} describes"]
    return []


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
