"""Where training rows come from: the embedded world, files and folders, the hub, and the paper's own sources.

A source is one of these, or several with commas between them, read one after the other:

    shapes, shapes_prior, shapes_english, shapes_prior_english, language_priors
                                            the embedded world
    language_priors_agreeing                of language_priors, pictures that show what the question suggests alone
    geo3k, r1_sharevl, m3cot, algopuzzlevqa, solidgeo, ai2d, super_clevr
                                            the paper's data; NAME=FOLDER reads a downloaded copy
    vard_coldstart, avar_rl_mix, FILE.yaml  a mixture: several sources with counts (see `mixture`)
    r1_onevision, vision_r1_cold, vision_sr1_cold       cold-start sets that the paper compares with, in the same way
    owner/name@revision                     a hub data set
    FILE.jsonl, FILE.json, FOLDER           rows on this disk; a folder may be a download of a hub data set

Light until rows are read: a recipe's sources are checked before anything heavy is imported.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, get_args

from avar_eval.errors import AvarError, UsageError, unknown_name
from avar_eval.in_words import fault_in_words
from avar_eval.names import listed_names
from avar_eval.recipes.paper_sources import PAPER_SOURCES, PaperSource
from avar_eval.terminal import note
from avar_eval.user_files import decoded, open_file, parse_json

Thoughts = Literal["anchored", "plain", "none"]
"""Of the embedded world's solutions: with visual anchors (VARD), without them, or answers alone."""

Found = Iterator[tuple[Mapping[str, Any], Path | None]]
"""Rows as they are published, and the folder that their pictures' paths are in."""

EMBEDDED: Final = (
    "shapes",
    "shapes_prior",
    "shapes_english",
    "shapes_prior_english",
    "language_priors",
    "language_priors_agreeing",
)
EMBEDDED_ROWS: Final = 5000
"""Of the embedded world, which has no end, so many rows are read by default."""
MIXTURES: Final[Mapping[str, Path]] = {
    name: Path(__file__).parent / "configs" / f"{name}.yaml" for name in ("vard_coldstart", "avar_rl_mix")
}
"""The paper's two mixtures of rows."""
_FILES: Final = ("rows.jsonl", "train.jsonl", "train.json", "data.json")
_PARQUET: Final = b"PAR1"
"""How a Parquet file begins and ends."""
_KINDS: Final = {"choice": "choice", "number": "integer", "word": "text"}
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_ABBREVIATED: Final = re.compile(r"[0-9a-f]{7,39}")


class TrainingDataError(AvarError):
    """Rows that cannot be trained on, with the number of the first one.

    What to do: Mend the row that the message names, or leave it out.
    """


def check_source(sources: str) -> None:
    """Raise UsageError at once if one of `sources` can be no source of rows."""
    if not listed_names(sources):
        raise UsageError("train_data names no source")
    for source in listed_names(sources):
        _check(source)


def _check(source: str) -> None:
    name, copied, folder = source.partition("=")
    if copied and name not in PAPER_SOURCES:
        raise unknown_name("source", name, PAPER_SOURCES, "before =FOLDER")
    paper = PAPER_SOURCES.get(name)
    if copied and not Path(folder).is_dir():
        get = f": download {paper.download}" if paper is not None and paper.download else ""
        raise UsageError(f"there is no folder {folder!r} with a copy of {name}{get}")
    if (mixture := mixture_file(source)) is not None:
        from avar_eval.recipes.mixture import read_mixture

        read_mixture(mixture)
        return
    if paper is not None and paper.file is not None and not copied:
        raise UsageError(f"{name} is no table on the hub: download {paper.download}; then give {name}=FOLDER")
    if paper is not None or source in EMBEDDED or Path(source).exists():
        return
    owner, _, rest = source.partition("@")[0].partition("/")
    local = owner.startswith((".", "~")) or Path(source).suffix in (".json", ".jsonl")
    if not (owner and rest) or "/" in rest or local:
        raise UsageError(
            f"there is no training data {source!r}: give {', '.join((*EMBEDDED, *PAPER_SOURCES, *MIXTURES))}, a .json, "
            f".jsonl or .yaml file, a folder that holds one of {', '.join(_FILES)} or a downloaded data set, or "
            "owner/name@revision"
        )


def published_rows(source: str, split: str, count: int | None, thoughts: Thoughts, seed: int) -> Found:
    """The rows of one source as they are published; `count`, `thoughts` and `seed` are of the embedded world.

    Raises TrainingDataError or UsageError where they cannot be had.
    """
    name, _, folder = source.partition("=")
    paper = PAPER_SOURCES.get(name)
    if source in EMBEDDED:
        return ((row, None) for row in _embedded(source, split, count or EMBEDDED_ROWS, thoughts, seed))
    if paper is not None:
        return _adapted(name, paper, _paper_rows(paper, folder, paper.split if split == "train" else split))
    if (mixture := mixture_file(source)) is not None:
        from avar_eval.recipes.mixture import mixed_rows

        return mixed_rows(mixture, split, thoughts)
    if Path(source).exists():
        return _local(Path(source), split)
    return ((row, None) for row in _from_hub(source, split))


def mixture_file(source: str) -> Path | None:
    """The file of a mixture, None for any other source."""
    return MIXTURES.get(source) or (Path(source) if Path(source).suffix in (".yaml", ".yml") else None)


def _embedded(name: str, split: str, count: int, thoughts: Thoughts, seed: int) -> Iterator[dict[str, Any]]:
    from avar_eval.tasks.language_priors import dataset as language_priors
    from avar_eval.tasks.shapes import dataset as shapes
    from avar_eval.tasks.shapes_english import dataset as english
    from avar_eval.tasks.shapes_prior import dataset as shapes_prior

    if split not in ("train", "validation"):
        raise UsageError(f"{name} is trained on its train or validation split, not on {split!r}")
    if thoughts not in get_args(Thoughts):  # TRL's parser lets any word through
        raise UsageError(f"thoughts must be one of {', '.join(get_args(Thoughts))}, not {thoughts!r}")
    makers: dict[str, Callable[..., Iterator[Any]]] = {
        "shapes": shapes.rows,
        "shapes_prior": shapes_prior.rows,
        "shapes_english": english.rows,
        "shapes_prior_english": english.prior_rows,
        "language_priors": language_priors.rows,
        "language_priors_agreeing": partial(language_priors.rows, agreeing=1.0),
    }
    for row in makers[name](split, count, seed=seed, anchors=thoughts == "anchored"):
        solution = "" if thoughts == "none" else row["solution"]
        yield {
            "images": [row["image"]],
            "prompt": f"<image>{shapes.prompt(row)}",
            "completion": f"<think>{solution}</think><answer>{row['answer']}</answer>",
            "answer": row["answer"],
            "answer_type": _KINDS[row["answer_type"]],
            "choices": row["choices"],
        }


def _adapted(name: str, source: PaperSource, found: Found) -> Found:
    for number, (row, folder) in enumerate(found):
        try:
            yield source.adapter(row), folder
        except (AttributeError, KeyError, ValueError, IndexError, TypeError) as error:
            raise TrainingDataError(
                f"row {number} of {name} has not the published form ({fault_in_words(error)}): {_fields(row)}"
            ) from error


def _fields(row: Mapping[str, Any]) -> str:
    return f"its fields are {', '.join(map(str, row))}"


def _paper_rows(source: PaperSource, folder: str, split: str) -> Found:
    if source.reader is not None:
        return _read_folder(source, Path(folder), split)
    if folder:
        return _local(Path(folder), split)
    revision = "" if source.revision is None else f"@{source.revision}"
    return ((row, None) for row in _from_hub(source.repository + revision, split))


def _read_folder(source: PaperSource, folder: Path, split: str) -> Found:
    assert source.reader is not None
    assert source.file is not None
    if split != source.split:
        raise UsageError(f"of {source.repository} only the {source.split} split is read, not {split!r}")
    file = folder / source.file
    try:
        for row in source.reader(file):
            yield row, folder
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        read = getattr(error, "filename", None) or file
        raise TrainingDataError(
            f"{read} cannot be read as questions of {source.repository} ({fault_in_words(error)})"
        ) from error


def rows_file(path: Path) -> Path | None:
    """The file of rows that a path is or, a folder, holds; None for a folder that `datasets` reads."""
    if path.is_file():
        return path
    return next((path / name for name in _FILES if (path / name).is_file()), None)


def _local(path: Path, split: str) -> Found:
    file = rows_file(path)
    if file is not None:
        return ((row, file.parent) for row in _lines(file))
    return ((row, path) for row in _table(path, split))


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of a JSON Lines file, one at a time, or of a JSON list."""
    try:
        with open_file(path) as lines:
            if path.suffix != ".json":
                yield from _each_line(path, lines)
                return
            rows = parse_json(lines.read())
    except (OSError, ValueError) as error:
        raise TrainingDataError(f"{path} cannot be read: {fault_in_words(error)}") from error
    if not isinstance(rows, list):
        raise TrainingDataError(f"{path} holds no list of rows")
    yield from rows


def _each_line(path: Path, lines: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield parse_json(line)
            except ValueError as error:
                raise TrainingDataError(f"line {number} of {path} cannot be read: {error}") from error


def _table(folder: Path, split: str) -> Any:
    """The rows of a folder that `datasets` reads: saved by it, or a download of a hub data set."""
    from datasets import load_dataset, load_from_disk

    try:
        if (folder / "dataset_dict.json").is_file():
            return _undecoded(load_from_disk(str(folder))[split])
        if (folder / "state.json").is_file():
            return _undecoded(load_from_disk(str(folder)))
        return _undecoded(load_dataset(str(folder), split=split))
    except Exception as error:  # dozens of kinds
        if (damage := _damage(folder)) is not None:
            raise TrainingDataError(f"{damage}: fetch it again") from error
        raise TrainingDataError(
            f"the folder {folder} holds none of {', '.join(_FILES)}, and no data set with a split {split!r} ({error})"
        ) from error


def _damage(folder: Path) -> str | None:
    """The first file of a table in a folder that is not whole, and what it is not."""
    for path in (path for path in sorted(folder.rglob("*")) if path.suffix in (".parquet", ".csv", ".tsv")):
        try:
            with open_file(path) as file:
                if path.suffix == ".parquet":
                    begin = file.read(len(_PARQUET))
                    file.seek(max(0, path.stat().st_size - len(_PARQUET)))
                    if not begin == file.read() == _PARQUET:
                        return f"{path} is no Parquet file, or not a whole one"
                else:
                    for line in file:
                        decoded(line)
        except (OSError, ValueError) as error:
            return f"{path} cannot be read ({fault_in_words(error)})"
    return None


def _from_hub(source: str, split: str) -> Any:
    from datasets import load_dataset

    name, _, revision = source.partition("@")
    try:
        commit = _commit(name, revision)
        note(f"training data {name} at commit {commit}")
        return _undecoded(load_dataset(name, split=split, revision=commit))
    except Exception as error:  # the hub's client raises dozens of kinds
        raise TrainingDataError(
            f"the data set {name} cannot be had from the Hugging Face hub ({error}); download it and give its folder"
        ) from error


def _commit(repository: str, revision: str) -> str:
    """The full commit of a revision: a commit or its beginning, a branch, or "" for the newest. Raises what the hub's
    client raises, and ValueError for a beginning that no commit has."""
    if _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi

    if _ABBREVIATED.fullmatch(revision):
        commits = [commit.commit_id for commit in HfApi().list_repo_commits(repository, repo_type="dataset")]
        found = [commit for commit in commits if commit.startswith(revision)]
        if len(found) != 1:
            raise ValueError(f"{len(found)} commits begin with {revision}")
        return found[0]
    commit = HfApi().dataset_info(repository, revision=revision or None).sha
    if commit is None:
        raise ValueError("the hub does not say at which commit it is")
    return commit


def _undecoded(rows: Any) -> Any:
    """The same rows with pictures as bytes: decoded, those of 30,000 rows fit into no memory."""
    from datasets import Image, List

    for name, feature in rows.features.items():
        if isinstance(feature, Image):
            rows = rows.cast_column(name, Image(decode=False))
        elif isinstance(feature, List) and isinstance(feature.feature, Image):
            rows = rows.cast_column(name, List(Image(decode=False)))
    return rows
