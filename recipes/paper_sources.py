"""The paper's data, mapped to one form of row: Geo3K, R1-ShareVL, M3CoT, AlgoPuzzleVQA, SOLIDGEO, Super-CLEVR, AI2D,
and the cold-start sets that it compares with.

Fields are those of the published cards and code. Which rows of these sets the paper took is not published: all of them
are read. Revisions are pinned as far as public pages name them: a full commit, or its published beginning, which is
looked up among the hub's commits. Where none is known (`revision` None) the newest is read, and its commit is printed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from avar_eval.recipes.cold_start_sources import conversation, r1_onevision, vision_r1_rows, vision_sr1_rows
from avar_eval.tasks.prompts import THINKING
from avar_eval.user_files import parse_json, read_text

_LETTERS: Final = "ABCDEFGHIJ"
_LETTER: Final = re.compile(r"\(?([A-J])[).]?")
_LABEL: Final = re.compile(r"^\s*\(?[A-J]\s*[).:．、]\s*")
Adapter = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class PaperSource:
    """repository: on the hub. split: the one that is trained on. adapter: a published row -> `prompt`, `images`,
    `answer`, `answer_type`, `choices`. method: what its rows are for. licence: as its card says (None: it does not).

    Sets that are no table on the hub are read from a folder. file: its questions. reader: the rows of the training
    split in that file. download: what to get, and where it belongs.
    """

    repository: str
    revision: str | None
    split: str
    adapter: Adapter
    method: Literal["sft", "grpo"] = "grpo"
    licence: str | None = None
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
    answer = _LETTERS[int(row["answer"])]
    return _choice(row["question"], row["options"], answer, images=[row["image"]], id=row["id"])


def super_clevr(row: Mapping[str, Any]) -> dict[str, Any]:
    """superCLEVR_questions_30k.json: `question`, `image_filename`, `answer` (a number, a word, true or false)."""
    answer = row["answer"]
    if isinstance(answer, bool) or answer in ("True", "False"):
        answer, kind = ("yes" if str(answer) == "True" else "no"), "text"
    else:
        kind = "integer" if str(answer).isdigit() else "text"
    picture = f"images/{row['image_filename']}"
    return asked(row["question"], images=[picture], answer=str(answer), answer_type=kind)


def m3cot(row: Mapping[str, Any]) -> dict[str, Any]:
    """LightChen2333/M3CoT: `question`, `context`, `choices`, `answer` (a letter), `image` (or None), `domain`, `id`."""
    question = "\n".join(filter(None, [str(row.get("context") or "").strip(), row["question"].strip()]))
    answer = str(row["answer"]).strip()
    if answer not in _LETTERS[: len(row["choices"])]:
        raise ValueError(f"its answer {answer!r} is no letter of its {len(row['choices'])} choices")
    return _choice(question, row["choices"], answer, images=[row["image"]], domain=row["domain"], id=row["id"])


def algopuzzlevqa(row: Mapping[str, Any]) -> dict[str, Any]:
    """declare-lab/AlgoPuzzleVQA: `question`, `image`, `options` (texts), `answer` (one of them); 18 puzzles of 100."""
    options = [str(option).strip() for option in row["options"]]
    answer = _LETTERS[options.index(str(row["answer"]).strip())]
    return _choice(row["question"], options, answer, images=[row["image"]])


def solidgeo(row: Mapping[str, Any]) -> dict[str, Any]:
    """SolidGeo.json of HarryYancy/SolidGeo: `question`, `choices`, `image` (paths), `answer` (LaTeX), `answer_type`
    ("single-step", "multi-step" or "choice"), `qa_id`."""
    answer, choices = str(row["answer"]).strip(), list(row.get("choices") or ())
    letter = _LETTER.fullmatch(answer)
    if row["answer_type"] == "choice" and letter is not None and choices:
        texts = [_LABEL.sub("", str(choice)).strip() for choice in choices]
        return _choice(row["question"], texts, letter[1], images=row["image"], id=str(row["qa_id"]))
    kind = "choice" if row["answer_type"] == "choice" and letter is not None else "expression"
    answer = letter[1] if kind == "choice" and letter is not None else answer
    return asked(row["question"], images=row["image"], answer=answer, answer_type=kind, id=str(row["qa_id"]))


def solidgeo_rows(file: Path) -> Iterable[Mapping[str, Any]]:
    """All questions: the set has one split."""
    rows: Iterable[Mapping[str, Any]] = parse_json(read_text(file))
    return rows


def _choice(question: str, options: Sequence[str], answer: str, **row: Any) -> dict[str, Any]:
    """A row whose prompt shows its options with their letters."""
    lines = [f"({letter}) {option}" for letter, option in zip(_LETTERS, options, strict=False)]
    return asked(
        "\n".join([question.strip(), *lines]), answer=answer, answer_type="choice", choices=list(options), **row
    )


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
    # its card: cc-by-sa-4.0; train split 7,863 rows, some without a picture
    "m3cot": PaperSource("LightChen2333/M3CoT", None, "train", m3cot, licence="CC-BY-SA-4.0"),
    # its card: apache-2.0; one split, "data"
    "algopuzzlevqa": PaperSource("declare-lab/AlgoPuzzleVQA", None, "data", algopuzzlevqa, licence="Apache-2.0"),
    "solidgeo": PaperSource(
        "HarryYancy/SolidGeo",
        None,
        "train",
        solidgeo,
        licence="CC-BY-NC-4.0 (not for commercial use)",
        file="SolidGeo.json",
        reader=solidgeo_rows,
        download="SolidGeo.json and the pictures of HarryYancy/SolidGeo beside it, under the paths that it names",
    ),
    # questions and images.zip, no table
    "super_clevr": PaperSource(
        "RyanWW/Super-CLEVR",
        None,
        "train",
        super_clevr,
        licence="MIT",
        file="superCLEVR_questions_30k.json",
        reader=super_clevr_training,
        download="superCLEVR_questions_30k.json and images.zip of RyanWW/Super-CLEVR, and unzip the pictures into "
        "images/ beside it",
    ),
    "r1_onevision": PaperSource("Fancy-MLLM/R1-Onevision", None, "train", r1_onevision, method="sft"),
    "vision_r1_cold": PaperSource(
        "Osilly/Vision-R1-cold",
        None,
        "train",
        conversation,
        method="sft",
        file=".",
        reader=vision_r1_rows,
        download="the two .json files of Osilly/Vision-R1-cold, and put the pictures of Xkev/LLaVA-CoT-100k into "
        "llava_cot_images/ and those of HuanjinYao/Mulberry-SFT into mulberry_images/ beside them",
    ),
    "vision_sr1_cold": PaperSource(
        "LMMs-Lab-Turtle/Vision-SR1-Cold-9K",
        None,
        "train",
        conversation,
        method="sft",
        file=".",
        reader=vision_sr1_rows,
        download="LMMs-Lab-Turtle/Vision-SR1-Cold-9K whole (hf download --repo-type dataset)",
    ),
}
