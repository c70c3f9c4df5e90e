"""Invented rows of MMMU, MMMU-Pro, MMStar and HallusionBench in their published schemas.

In an image column stands the size of the picture, so that each can be told from the others.
"""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from avar_eval.tasks.catalog import TaskEntry

NUMBERED = [f"image_{number}" for number in range(1, 8)]


def mmmu_row(identifier: str, **fields: Any) -> dict[str, Any]:
    """A multiple-choice row with one picture; `fields` replace its own."""
    pictures = dict.fromkeys(NUMBERED) | {"image_1": (40, 30)}
    own = {
        "question": "Which season does <image 1> show?",
        "options": "['Spring', 'Summer', 'Autumn', 'Winter']",
        "explanation": "",
        "answer": "C",
        "question_type": "multiple-choice",
        "subfield": "Trees",
    }
    return {"id": identifier, **own, **pictures, **fields}


def mmmu_pro_row(identifier: str, **fields: Any) -> dict[str, Any]:
    """A standard row with one picture."""
    row = mmmu_row(identifier) | {"subject": "Botany", "img_type": "photo"}
    return {name: row[name] for name in row if name not in ("explanation", "question_type", "subfield")} | fields


def vision_row(identifier: str, **fields: Any) -> dict[str, Any]:
    """A row whose picture holds the question."""
    row = {"id": identifier, "image": (90, 70), "options": "['Oak', 'Fir', 'Elm']", "answer": "B", "subject": "Botany"}
    return row | fields


def mmstar_row(index: int, question: str, answer: str, category: str = "math") -> dict[str, Any]:
    """A row with the options in its question."""
    labels = {"category": category, "l2_category": "geometry", "meta_info": {"source": "Invented"}}
    return {"index": index, "question": question, "image": (50, 20 + index), "answer": answer, **labels}


def hallusion_row(figure: str, number: str, answer: str = "1", **fields: Any) -> dict[str, Any]:
    """A row of VS, set 3; figure 0 has no picture."""
    picture = None if figure == "0" else (60, 40 + int(figure))
    own = {
        "category": "VS",
        "subcategory": "chart",
        "visual_input": figure,
        "set_id": "3",
        "figure_id": figure,
        "sample_note": "trees",
        "question_id": number,
        "question": f"Is tree {number} an oak?",
        "gt_answer_details": "It is.",
        "gt_answer": answer,
        "filename": picture and f"./VS/chart/3_{figure}.png",
        "image": picture,
    }
    return own | fields


MANY_PICTURES = {
    "question": "Match <image 2> with its leaf. <image 2> grew beside <image 1>.",
    "options": "['<image 10>', '<image 1> and <image 3>']",
    "answer": "B",
    "image_1": (10, 11),
    "image_2": (20, 21),
    "image_3": (30, 31),
    "image_10": (100, 101),
}
"""Numbers in no order, twice the same, of two digits, in the options."""

ROWS: dict[str, list[dict[str, Any]]] = {
    "mmmu": [
        mmmu_row("validation_Botany_1"),
        mmmu_row("validation_Botany_2", **{**MANY_PICTURES, "options": "['<image 4>', '<image 1> and <image 3>']"})
        | {"image_4": (41, 42)},
        mmmu_row(
            "validation_Art_Theory_3",
            question="How wide is the frame in <image 1>, in metres?",
            options="[]",
            answer="['1.5', '3/2']",
            question_type="open",
        ),
    ],
    "mmmu_pro_standard4": [mmmu_pro_row("test_Botany_1")],
    "mmmu_pro_standard10": [
        mmmu_pro_row("test_Botany_1", options=str([f"{number} rings" for number in range(3, 15)]), answer="L"),
        mmmu_pro_row("test_Botany_2", question="<image 2> or <image 1>?", options="['<image 1>', '<image 2>']")
        | {"image_2": (21, 22), "answer": "A"},
    ],
    "mmmu_pro_vision": [vision_row("test_Botany_1"), vision_row("test_Botany_2", options="['<image 1>', 'none']")],
    "mmstar": [
        mmstar_row(0, "Which leaf is larger?\nOptions: A: The left one., B: The right, C: nan, D: nan", "B"),
        mmstar_row(
            1,
            "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
            "Question: How many leaves?\nChoices:\n(A) 3\n(B) 4\n(C) 5",
            "C",
        ),
    ],
    "hallusion": [
        hallusion_row("0", "0"),
        hallusion_row("0", "1", "0"),
        hallusion_row("1", "0"),
        hallusion_row("1", "1", "0", question="Is tree 1 an oak? Yes or No"),
        hallusion_row("2", "0", "0"),
    ],
}
ROWS["hallusion_image"] = [row for row in ROWS["hallusion"] if row["image"]]


def drawn(row: dict[str, Any]) -> dict[str, Any]:
    """The row with a picture in the place of each size."""
    return {name: Image.new("RGB", value) if isinstance(value, tuple) else value for name, value in row.items()}


def write_folder(data_dir: Path, entry: TaskEntry, rows: list[dict[str, Any]]) -> Path:
    """Write `rows.jsonl` and pictures as `--data-dir` takes them; the folder of the task."""
    folder = data_dir / entry.data
    (folder / "images").mkdir(parents=True)
    written = []
    for number, row in enumerate(rows):
        paths = {}
        for name, size in row.items():
            if isinstance(size, tuple):
                paths[name] = f"images/{number}_{name}.png"
                Image.new("RGB", size).save(folder / paths[name])
        written.append(json.dumps(row | paths) + "\n")
    (folder / "rows.jsonl").write_text("".join(written), encoding="utf-8")
    return folder
