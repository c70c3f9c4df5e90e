"""The paper's reinforcement learning data: Geo3K, Super-CLEVR, AI2D and R1-ShareVL, mapped to one form of row.

Fields are those of the published cards and code. Which rows of these sets the paper took is not published: all of them
are read. Revisions are pinned as far as public pages name them: a full commit, or its published beginning, which is
looked up among the hub's commits. Where none is known (`revision` None) the newest is read, and its commit is printed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from avar_eval.tasks.prompts import THINKING
from avar_eval.user_files import parse_json, read_text

_LETTERS: Final = "ABCDEFGHIJ"
_LETTER: Final = re.compile(r"\(?([A-J])[).]?")
Adapter = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class PaperSource:
    """repository: on the hub. split: the one that is trained on. adapter: a published row -> `prompt`, `images`,
    `answer`, `answer_type`, `choices`. method: what its rows are for.

    Sets that are no table on the hub are read from a folder. file: its questions. reader: the rows of the training
    split in that file. download: what to get, and where it belongs.
    """

    repository: str
    revision: str | None
    split: str
    adapter: Adapter
    method: Literal["sft", "grpo"] = "grpo"
    file: str | None = None
    reader: Callable[[Path], Iterable[Mapping[str, Any]]] | None = None
    download: str = ""


def asked(question: str, **row: Any) -> dict[str, Any]:
    """A row whose prompt ends in the instruction that evaluations give."""
    return {"prompt": f"{question.strip()}\n{THINKING}"} | row


def geo3k(row: Mapping[str, Any]) -> dict[str, Any]:
    r"""hiyouga/geometry3k: `images`, `problem` ("<image>Find x."), `answer` ("2 \sqrt { 221 }")."""
    return asked(row["problem"], images=row["images"], answer=row["answer"], answer_type="expression")


def r1_sharevl(row: Mapping[str, Any]) -> dict[str, Any]:
    """HuanjinYao/R1-ShareVL-52K: `images`, `problem`, `answer`, the keys of examples/config.yaml of HJYao00/R1-ShareVL.

    An answer that is one letter is one of the options in the problem's text (see `question_options`).
    """
    answer = str(row["answer"]).strip()
    letter = _LETTER.fullmatch(answer)
    if letter is not None:
        answer, kind = letter[1], "choice"
    else:
        kind = "expression" if re.search(r"\d", answer) else "text"
    return asked(row["problem"], images=row["images"], answer=answer, answer_type=kind)


def ai2d(row: Mapping[str, Any]) -> dict[str, Any]:
    """A question of AI2D's training split, as `ai2d_training` finds it: `image`, `question`, `options`, `answer`."""
    options = list(row["options"])
    lines = [f"({letter}) {option}" for letter, option in zip(_LETTERS, options, strict=False)]
    question = "\n".join([row["question"], *lines])
    answer = _LETTERS[int(row["answer"])]
    return asked(question, images=[row["image"]], answer=answer, answer_type="choice", choices=options, id=row["id"])


def super_clevr(row: Mapping[str, Any]) -> dict[str, Any]:
    """superCLEVR_questions_30k.json: `question`, `image_filename`, `answer` (a number, a word, true or false)."""
    answer = row["answer"]
    if isinstance(answer, bool) or answer in ("True", "False"):
        answer, kind = ("yes" if str(answer) == "True" else "no"), "text"
    else:
        kind = "integer" if str(answer).isdigit() else "text"
    picture = f"images/{row['image_filename']}"
    return asked(row["question"], images=[picture], answer=str(answer), answer_type=kind)


SUPER_CLEVR_TRAIN_SCENES: Final = 20_000
"""The first scenes are the train split (README of Lizw14/Super-CLEVR)."""


def super_clevr_training(file: Path) -> list[Mapping[str, Any]]:
    """The training questions, first one of each scene, then the second: N rows are then of as many scenes as can be."""
    seen: dict[str, int] = {}
    placed = []
    for row in parse_json(read_text(file))["questions"]:
        scene = row["image_filename"]
        number = int(re.findall(r"\d+", scene)[-1])
        if number < SUPER_CLEVR_TRAIN_SCENES:
            placed.append((seen.setdefault(scene, 0), number, row))
            seen[scene] += 1
    return [row for *_, row in sorted(placed, key=lambda entry: entry[:2])]


def ai2d_training(folder: Path) -> Iterator[Mapping[str, Any]]:
    """The questions about pictures that are not on AI2D's list of test images (`ai2d_test_ids.csv` beside the folder).

    A file of it: {"imageName": "0.png", "questions": {"What is …?": {"abcLabel": false, "answerTexts": [4 texts],
    "correctAnswer": 1, "questionId": "0.png-0"}}}. Questions with abcLabel ask for letters that the published pictures
    do not show: they are left out.
    """
    test = {Path(line.strip()).stem for line in read_text(folder.parent / "ai2d_test_ids.csv").splitlines()}
    files = sorted(folder.glob("*.json"), key=lambda path: (len(path.name), path.name))
    if not files:
        raise ValueError("it holds no .json file")
    for path in files:
        content = parse_json(read_text(path))
        name = content["imageName"]
        if Path(name).stem in test:
            continue
        for question, told in content["questions"].items():
            if not told["abcLabel"]:
                yield {
                    "image": f"images/{name}",
                    "question": question,
                    "options": told["answerTexts"],
                    "answer": told["correctAnswer"],
                    "id": told["questionId"],
                }


PAPER_SOURCES: Final = {
    # huggingface.co/datasets/hiyouga/geometry3k/blob/main/README.md, "37e4933 verified"; 2,101 rows, as in the paper
    "geo3k": PaperSource("hiyouga/geometry3k", "37e4933", "train", geo3k),
    # no public page that we could read names a commit
    "r1_sharevl": PaperSource("HuanjinYao/R1-ShareVL-52K", None, "train", r1_sharevl),
    # AI2D's table on the hub (lmms-lab/ai2d) holds its test split, which is a benchmark: trained on are the others
    "ai2d": PaperSource(
        "AI2D",
        None,
        "train",
        ai2d,
        file="questions",
        reader=ai2d_training,
        download="ai2d-all.zip and ai2d_test_ids.csv of AI2D (prior.allenai.org/projects/diagram-understanding), unzip "
        "it so that the folder has questions/ and images/, and put the list of test images beside them",
    ),
    # questions and images.zip, no table
    "super_clevr": PaperSource(
        "RyanWW/Super-CLEVR",
        None,
        "train",
        super_clevr,
        file="superCLEVR_questions_30k.json",
        reader=super_clevr_training,
        download="superCLEVR_questions_30k.json and images.zip of RyanWW/Super-CLEVR, and unzip the pictures into "
        "images/ beside it",
    ),
}
