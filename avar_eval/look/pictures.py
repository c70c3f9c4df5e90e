"""All pictures of one look, into a folder."""

from pathlib import Path

from avar_eval.look.conversation import Look
from avar_eval.look.layer_curves import draw_layer_curves
from avar_eval.look.overlay import draw_overlay
from avar_eval.look.response_curves import draw_response_curves
from avar_eval.look.style import drawing


def draw(look: Look, folder: Path) -> list[Path]:
    """Write the pictures as PNG and return their paths: over the images, by layer, along the response.

    Those of an earlier look in this folder make way.
    """
    for earlier in (folder / "image.png", *folder.glob("response-*.png")):
        earlier.unlink(missing_ok=True)
    with drawing():
        over = [] if look.image_tokens is None else [draw_overlay(look, look.image_tokens, folder / "image.png")]
        return [*over, draw_layer_curves(look, folder / "layers.png"), *draw_response_curves(look, folder)]
