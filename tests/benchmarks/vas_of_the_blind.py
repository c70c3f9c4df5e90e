"""What the Visual Attention Score is of models that cannot see, and what its forms are of one that can.

    python tests/benchmarks/vas_of_the_blind.py [--questions 40] [--seeds 3]

First of `avar-tiny` with an untrained vision tower, and of the same architecture with nothing trained at all: what
they get of a picture is noise. VAS (Eq. 2 of arXiv 2603.03825) over questions of `shapes`, with the pictures as
they are and with flat ones, in several wordings, and with flat ones of several sizes. Then the forms of VAS of
`avar-tiny` itself, and which part of its attention on the system turn lies on position 0. Numbers of docs/measures.md
are from here.
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from statistics import fmean
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from avar_eval import measure_attention, user_turn
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.tasks.prompts import STYLES, Style
from avar_eval.tasks.shapes.dataset import Row, prompt, rows

COLOURS = ("white", "grey", "black", "red")
SIDES = (112, 168, 224)
"""Pixels of flat pictures, an image token for every 28 × 28: 16, 36 and 64, the most that avar-tiny takes."""
RESPONSE = "<answer>1</answer>"


def load() -> tuple[Any, Any]:
    """The embedded model and its processor, in float32."""
    path = resolve_checkpoint("avar-tiny").path
    return AutoModelForImageTextToText.from_pretrained(path).eval(), AutoProcessor.from_pretrained(path)


def without_training(part: str, seed: int) -> Any:
    """The embedded model with its vision tower, or everything, as transformers makes it before any training."""
    model = load()[0]
    torch.manual_seed(seed)
    untrained = AutoModelForImageTextToText.from_config(model.config).eval()
    if part == "everything":
        return untrained
    model.model.visual.load_state_dict(untrained.model.visual.state_dict())
    return model


def vas(model: Any, processor: Any, asked: list[Row], style: Style, flat: Image.Image | None) -> float:
    """Mean over questions; flat: a picture in the place of each one's own."""
    return fmean(
        measure_attention(
            model, processor, user_turn(prompt(row, style), flat or row["image"]), RESPONSE
        ).visual_attention_score("user")
        for row in asked
    )


def of_the_blind(asked: list[Row], part: str, seeds: int) -> Iterator[tuple[str, str, list[float]]]:
    """Style, picture, and VAS for each seed of the weights."""
    processor = load()[1]
    models = [without_training(part, seed) for seed in range(seeds)]
    side = asked[0]["image"].width
    for style in STYLES:
        for colour in (None, *COLOURS):
            flat = None if colour is None else Image.new("RGB", (side, side), colour)
            yield style, colour or "as it is", [vas(model, processor, asked, style, flat) for model in models]
    for side in SIDES:
        flat = Image.new("RGB", (side, side), "grey")
        found = [vas(model, processor, asked, "thinking", flat) for model in models]
        yield "thinking", f"grey, {side} pixels", found


def forms(asked: list[Row]) -> Iterator[tuple[str, float]]:
    """The forms of VAS of avar-tiny, means over questions, and position 0's part of the system turn's attention."""
    model, processor = load()
    records = [measure_attention(model, processor, user_turn(prompt(row), row["image"]), RESPONSE) for row in asked]
    yield "Eq. 2 over the user's turn", fmean(record.visual_attention_score("user") for record in records)
    yield "Eq. 2 over its text alone", fmean(record.visual_attention_score("text") for record in records)
    yield "Eq. 2 without position 0", fmean(record.visual_attention_score("user", False) for record in records)
    yield "ratio of sums", fmean(record.ratio_of_sums("user") for record in records)
    user = [record.mass for record in records], [record.chosen("user") for record in records]
    sums = {
        name: sum(float(mass[name][..., chosen].sum()) for mass, chosen in zip(*user, strict=True))
        for name in ("sink", "system")
    }
    yield "part of the system turn's attention on position 0", sums["sink"] / sums["system"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    chosen = list(islice(rows("test"), options.questions))
    print("| untrained | wording | picture | VAS, least | greatest of the seeds |\n|---|---|---|---:|---:|")
    for part in ("vision tower", "everything"):
        everything = []
        for style, picture, found in of_the_blind(chosen, part, options.seeds):
            print(f"| {part} | {style} | {picture} | {min(found):.2f} | {max(found):.2f} |", flush=True)
            everything += found
        print(f"| {part} | all | all | {min(everything):.2f} | {max(everything):.2f} |", flush=True)
    print("\n| of avar-tiny | |\n|---|---:|")
    for name, value in forms(chosen):
        print(f"| {name} | {value:.2f} |")
