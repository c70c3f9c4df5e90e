"""All pictures of one look, into a folder."""

from pathlib import Path

from avar_eval.figures.file import FORMATS, FigureForm
from avar_eval.figures.style import drawing
from avar_eval.look.conversation import Look
from avar_eval.look.layer_curves import draw_layer_curves
from avar_eval.look.overlay import draw_overlay
from avar_eval.look.response_curves import draw_response_curves


def draw(look: Look, folder: Path, form: FigureForm = FigureForm.PNG, title: bool = True) -> list[Path]:
    """Write the pictures and return their paths: over the images, by layer, along the response.

    Those of an earlier look in this folder make way. title: whether they say what they show and what was asked.
    """
    for suffix in FORMATS:
        for earlier in (folder / f"image{suffix}", *folder.glob(f"response-*{suffix}")):
            earlier.unlink(missing_ok=True)
    with drawing():
        over = []
        if look.image_tokens is not None:
            over = [draw_overlay(look, look.image_tokens, folder / f"image.{form}", title)]
        layers = draw_layer_curves(look, folder / f"layers.{form}", title)
        return [*over, layers, *draw_response_curves(look, folder, f".{form}", title)]
