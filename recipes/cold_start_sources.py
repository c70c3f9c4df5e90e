"""Other cold-start sets, that the paper compares its own with: their published rows as conversations with pictures.

    r1_onevision      Fancy-MLLM/R1-Onevision, 155K rows, a table of the hub
    vision_r1_cold    Osilly/Vision-R1-cold, 261K rows, two files; pictures of LLaVA-CoT-100k and Mulberry-SFT
    vision_sr1_cold   LMMs-Lab-Turtle/Vision-SR1-Cold-9K, 9.4K rows, files and pictures

The paper trains on them "under the same setting"; how many rows of each it took, and in what format of answers, is not
published: all rows are read and their texts are left as they are.
"""

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from avar_eval.user_files import parse_json, read_text

_VISION_R1_FILES: Final = {
    "vision_r1_llava_cot_full.json": "llava_cot_images",
    "vision_r1_mulberry_sft_full.json": "mulberry_images",
}
"""A file of rows, and the folder that README.md of Osilly/Vision-R1 puts its pictures into."""


def r1_onevision(row: Mapping[str, Any]) -> dict[str, Any]:
    """Fancy-MLLM/R1-Onevision: `id`, `image` (a file in base64, perhaps as a data URL, or none), `conversations`.

    Certain by the code of others that reads it; no page that we could read shows a row.
    """
    image = row["image"]
    pictures = [] if not image else [{"bytes": base64.b64decode(image.partition("base64,")[2] or image)}]
    return {"conversations": row["conversations"], "images": pictures}


def conversation(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of sharegpt or of LLaMA-Factory's own form: `conversations` or `messages`, and `image` or `images`."""
    names = ("conversations", "messages", "system", "image", "images")
    return {name: row[name] for name in names if row.get(name)}


def vision_r1_rows(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Osilly/Vision-R1-cold in the folders that its README has: sharegpt, pictures in `image` or `images`.

    Certain by README.md and dataset_info.json of Osilly/Vision-R1. Either of the two files may be missing. Pictures are
    taken as paths below the folder, or else below the file's own folder of pictures.
    """
    files = [name for name in _VISION_R1_FILES if (folder / name).is_file()]
    if not files:
        raise FileNotFoundError(f"it holds neither of {', '.join(_VISION_R1_FILES)}")
    for name in files:
        for row in parse_json(read_text(folder / name)):
            yield _with_paths(row, folder, ("", _VISION_R1_FILES[name]))


def vision_sr1_rows(folder: Path) -> Iterator[Mapping[str, Any]]:
    """LMMs-Lab-Turtle/Vision-SR1-Cold-9K as it is downloaded: rows in LLaMA-Factory's form, pictures cold_start/N.jpg.

    Certain is that the pictures are files of `cold_start`; that every .json file beside them is a list of rows with
    `messages` and `images` is our reading of what others do with it.
    """
    files = [path for path in sorted(folder.glob("*.json")) if path.name != "dataset_info.json"]
    if not files:
        raise FileNotFoundError("it holds no .json file of rows")
    for path in files:
        for row in parse_json(read_text(path)):
            yield _with_paths(row, folder, ("", "cold_start", "images"))


def _with_paths(row: Mapping[str, Any], folder: Path, places: tuple[str, ...]) -> dict[str, Any]:
    """A row with its pictures as paths below the folder, wherever among `places` they are."""
    named = row.get("images") or row.get("image") or []
    images = [named] if isinstance(named, str) else list(named)
    return conversation(row) | {"images": [_resolve_image(name, folder, places) for name in images], "image": None}


def _resolve_image(name: str, folder: Path, places: tuple[str, ...]) -> str:
    candidates = [*(Path(place, name) for place in places), *(Path(place, Path(name).name) for place in places)]
    return str(next((path for path in candidates if (folder / path).is_file()), Path(name)))
