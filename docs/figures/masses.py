"""The picture of docs/exact-masses.md: one query's attention, and the two normalisers that give its mass on the image.

python docs/figures/masses.py [FILE]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from transformers import AutoModelForImageTextToText, AutoProcessor

from avar_eval import ChatMarkup, observe
from avar_eval.attention.roles import Role
from avar_eval.figures.style import COLOURS, INK, PAGE, SMALL, drawing
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.tasks.shapes.dataset import prompt, rows

PICTURE = Path(__file__).parents[1] / "pictures" / "masses.svg"
LAYER, HEAD = 1, 3
ROLE_NAMES = {Role.SYSTEM: "system", Role.IMAGE: "image", Role.USER: "user", Role.TEMPLATE: "template"}


def attention() -> tuple[np.ndarray, list[str], float]:
    """An eager map's row [keys], whose each key is, and the mass on the image that `observe` finds under SDPA."""
    path = resolve_checkpoint("avar-tiny").path
    processor = AutoProcessor.from_pretrained(path)
    row = next(rows("test"))
    content = [{"type": "image", "image": row["image"]}, {"type": "text", "text": prompt(row).splitlines()[0]}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, return_dict=True, return_tensors="pt"
    )
    roles = ChatMarkup(processor).roles(inputs["input_ids"], inputs["attention_mask"])
    query = int(roles.mask(Role.USER)[0].nonzero()[-1])
    with torch.inference_mode():
        eager = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
        row_of_map = eager(**inputs, output_attentions=True).attentions[LAYER][0, HEAD, query, : query + 1]
        model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa")
        with observe(model, roles, groups=["image"]) as observation:
            model(**inputs)
    measured = observation.mass("image")[LAYER, 0, HEAD]
    at = int(observation.query_mask(Role.USER)[0].nonzero()[-1])
    return row_of_map.numpy(), [ROLE_NAMES[Role(int(one))] for one in roles.codes[0, : query + 1]], float(measured[at])


def draw(path: Path) -> None:
    weights, whose, measured = attention()
    image = np.array([name == "image" for name in whose])
    scores = np.log(weights) - np.log(weights).max()  # scores up to a constant, which a ratio does not know
    normaliser, of_image = np.log(np.exp(scores).sum()), np.log(np.exp(scores[image]).sum())
    assert abs(np.exp(of_image - normaliser) - measured) < 1e-5, "the figure would show another number"
    with drawing():
        figure = Figure(figsize=(PAGE, 2.2), layout="constrained")
        bars, lines = figure.subplots(1, 2, width_ratios=(3, 1))
        bars.bar(range(len(weights)), weights, color=[COLOURS[name] for name in whose], width=0.85)
        bars.set(xlabel="key token", ylabel="attention of the last question token")
        bars.set_title(f"a map's row: the image's keys sum to {weights[image].sum():.4f}")
        for name in ("system", "image", "user", "template"):
            bars.bar([0], [0], color=COLOURS[name], label=name)
        bars.legend(frameon=False, fontsize=SMALL)
        lines.bar(["lse", "lse of image"], [normaliser, of_image], color=["#9aa0aa", COLOURS["image"]], width=0.55)
        lines.annotate(
            f"exp(difference)\n= {measured:.4f}",
            (1, max(of_image, 0)),
            (0.62, normaliser * 0.8),
            color=INK,
            fontsize=SMALL,
        )
        lines.set_title("two normalisers, no map")
        lines.axhline(0, color=INK, linewidth=0.5)
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
