"""The paper's reinforcement learning data: Geo3K, Super-CLEVR, AI2D and R1-ShareVL, mapped to one form of row.

Fields are those of the published cards and code. Which rows of these sets the paper took is not published: all of them
are read. Revisions are pinned as far as public pages name them: a full commit, or its published beginning, which is
looked up among the hub's commits. Where none is known (`revision` None) the newest is read, and its commit is printed.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from avar_eval.tasks.prompts import THINKING

_LETTERS: Final = "ABCDEFGHIJ"
Adapter = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class PaperSource:
    """repository: on the hub. split: the one that is trained on. file: the questions in a downloaded folder, for sets
    that are no table on the hub. adapter: a published row -> `prompt`, `images`, `answer`, `answer_type`, `choices`."""

    repository: str
    revision: str | None
    split: str
    adapter: Adapter
    file: str | None = None


def asked(question: str, **row: Any) -> dict[str, Any]:
    """A row whose prompt ends in the instruction that evaluations give."""
    return {"prompt": f"{question.strip()}\n{THINKING}"} | row


def geo3k(row: Mapping[str, Any]) -> dict[str, Any]:
    r"""hiyouga/geometry3k: `images`, `problem` ("<image>Find x."), `answer` ("2 \sqrt { 221 }")."""
    return asked(row["problem"], images=row["images"], answer=row["answer"], answer_type="expression")


def r1_sharevl(row: Mapping[str, Any]) -> dict[str, Any]:
    """HuanjinYao/R1-ShareVL-52K: `images`, `problem`, `answer`, the keys of examples/config.yaml of HJYao00/R1-ShareVL.

    Options stand in the problem's text; an answer that is one letter is one of them.
    """
    answer = str(row["answer"]).strip()
    kind = "choice" if len(answer) == 1 and answer in _LETTERS else "expression" if re.search(r"\d", answer) else "text"
    return asked(row["problem"], images=row["images"], answer=answer, answer_type=kind)


def ai2d(row: Mapping[str, Any]) -> dict[str, Any]:
    """lmms-lab/ai2d: `image`, `question`, `options` (texts), `answer` (the right one's number from 0, as text)."""
    options = list(row["options"])
    lines = [f"({letter}) {option}" for letter, option in zip(_LETTERS, options, strict=False)]
    answer = _LETTERS[int(row["answer"])]
    question = "\n".join([row["question"], *lines])
    return asked(question, images=[row["image"]], answer=answer, answer_type="choice", choices=options)


def super_clevr(row: Mapping[str, Any]) -> dict[str, Any]:
    """superCLEVR_questions_30k.json: `question`, `image_filename`, `answer` (a number, a word, true or false)."""
    answer = row["answer"]
    if isinstance(answer, bool) or answer in ("True", "False"):
        answer, kind = ("yes" if str(answer) == "True" else "no"), "text"
    else:
        kind = "integer" if str(answer).isdigit() else "text"
    picture = f"images/{row['image_filename']}"
    return asked(row["question"], images=[picture], answer=str(answer), answer_type=kind)


PAPER_SOURCES: Final = {
    # huggingface.co/datasets/hiyouga/geometry3k/blob/main/README.md, "37e4933 verified"; 2,101 rows, as in the paper
    "geo3k": PaperSource("hiyouga/geometry3k", "37e4933", "train", geo3k),
    # no public page that we could read names a commit
    "r1_sharevl": PaperSource("HuanjinYao/R1-ShareVL-52K", None, "train", r1_sharevl),
    # huggingface.co/datasets/lmms-lab/ai2d/commits; the hub's table holds AI2D's test split only
    "ai2d": PaperSource("lmms-lab/ai2d", "c83a9b9692933aff8349157c88a413df9d02c4e5", "test", ai2d),
    # questions and images.zip, no table: downloaded, unzipped and given as super_clevr=FOLDER
    "super_clevr": PaperSource("RyanWW/Super-CLEVR", None, "train", super_clevr, file="superCLEVR_questions_30k.json"),
}

SUPER_CLEVR_TRAIN_SCENES: Final = 20_000
"""The first scenes are the train split (README of Lizw14/Super-CLEVR)."""


def super_clevr_training(questions: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The training questions, first one of each scene, then the second: N rows are then of as many scenes as can be."""
    seen: dict[str, int] = {}
    placed = []
    for row in questions:
        scene = row["image_filename"]
        number = int(re.findall(r"\d+", scene)[-1])
        if number < SUPER_CLEVR_TRAIN_SCENES:
            placed.append((seen.setdefault(scene, 0), number, row))
            seen[scene] += 1
    return [row for *_, row in sorted(placed, key=lambda entry: entry[:2])]
