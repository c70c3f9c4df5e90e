"""Where each image token lies in its picture, for the families whose way from pixels to tokens is known.

A place is a box (left, top, right, bottom) in fractions of the picture's width and height. A token without a place (the
end of a line of tokens, in LLaVA-OneVision) has nan. Each rule states what the family's processor and model in
transformers do; the tests send a bright patch through the true processor and find it again at the token's place.
"""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, isqrt, sqrt
from typing import Any

import numpy as np
from jaxtyping import Float

from avar_eval.attention.chat_formats import GEMMA3, IDEFICS3, INTERNVL, LLAVA_ONEVISION, QWEN_VL, ChatFormat
from avar_eval.errors import AvarError

Boxes = Float[np.ndarray, "tokens 4"]
_WHOLE = (0.0, 0.0, 1.0, 1.0)
_NOWHERE = np.full((1, 1, 4), np.nan)


class UnknownPlacesError(AvarError):
    """No rule says where this model's image tokens lie in the picture.

    What to do: Take the numbers, which are exact; only the overlay on the picture is left out for this model.
    """


def image_token_places(
    form: ChatFormat, processor: Any, inputs: Mapping[str, Any], sizes: Sequence[tuple[int, int]], tokens: int
) -> list[Boxes]:
    """The places of every image's tokens, in the order of the prompt.

    inputs: the processor's, for one conversation. sizes: the images' (width, height). tokens: how many image tokens the
    prompt has. Raises UnknownPlacesError for a family without a rule, or where the rule does not give that many.
    """
    rule = _RULES.get(form.family)
    if rule is None:
        raise UnknownPlacesError(f"no overlay is known for {form.family}: how its image tokens lie in the picture")
    places = rule(processor, inputs, sizes)
    found = sum(map(len, places))
    if found != tokens:
        raise UnknownPlacesError(
            f"no overlay: {form.family}'s rule places {found} image tokens, and this prompt has {tokens}"
        )
    return places


def _grid(rows: int, columns: int, box: tuple[float, float, float, float] = _WHOLE) -> Boxes:
    """Equal cells over `box`, row by row."""
    left, top, right, bottom = box
    x, y = np.linspace(left, right, columns + 1), np.linspace(top, bottom, rows + 1)
    cells = [(x[j], y[i], x[j + 1], y[i + 1]) for i in range(rows) for j in range(columns)]
    return np.array(cells).reshape(-1, 4)


def _qwen(processor: Any, inputs: Mapping[str, Any], sizes: Sequence[tuple[int, int]]) -> list[Boxes]:
    """The picture is stretched to a multiple of the patch size; merge × merge patches become one token."""
    merge = processor.image_processor.merge_size
    return [_grid(height // merge, width // merge) for _, height, width in inputs["image_grid_thw"].tolist()]


def _gemma3(processor: Any, inputs: Mapping[str, Any], sizes: Sequence[tuple[int, int]]) -> list[Boxes]:
    """The picture is stretched to a square. With pan-and-scan there are more tokens, and the caller refuses."""
    side = isqrt(processor.image_seq_length)
    return [_grid(side, side) for _ in sizes]


def _idefics3(processor: Any, inputs: Mapping[str, Any], sizes: Sequence[tuple[int, int]]) -> list[Boxes]:
    """The picture is stretched to whole tiles, read row by row and followed by the whole; a small one is not cut."""
    side = isqrt(processor.image_seq_len)
    places = []
    for width, height in sizes:
        _, rows, columns = processor.image_processor.get_number_of_image_patches(height, width, {})
        tiles = _grid(rows, columns) if rows * columns > 1 else np.empty((0, 4))
        places.append(np.concatenate([_grid(side, side, tuple(box)) for box in [*tiles, _WHOLE]]))
    return places


def _internvl(processor: Any, inputs: Mapping[str, Any], sizes: Sequence[tuple[int, int]]) -> list[Boxes]:
    """The picture is stretched to a canvas of tiles, read row by row; two or more are followed by the whole as one.

    The processor cuts whatever its image processor's `crop_to_patches` says (transformers' InternVLProcessor).
    """
    from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

    images, side = processor.image_processor, isqrt(processor.image_seq_length)
    places = []
    for width, height in sizes:
        tile = (images.size["height"], images.size["width"])
        columns, rows = get_optimal_tiled_canvas((height, width), tile, images.min_patches, images.max_patches)
        tiles = _grid(rows, columns) if rows * columns > 1 else np.empty((0, 4))
        places.append(np.concatenate([_grid(side, side, tuple(box)) for box in [*tiles, _WHOLE]]))
    return places


def _llava_onevision(processor: Any, inputs: Mapping[str, Any], sizes: Sequence[tuple[int, int]]) -> list[Boxes]:
    """One picture is seen whole and in tiles, each of several in a square. Lines of tokens end in one without a place.

    The whole is stretched to a square, each of several is padded to one. For tiles the picture is scaled to fit their
    canvas, the padding around it is cut off again, and the rest perhaps made coarser.
    """
    side = isqrt(processor.num_image_tokens)
    if len(sizes) > 1:
        return [np.concatenate([_padded(side, width, height), _NOWHERE[0]]) for width, height in sizes]
    ((width, height),) = sizes
    return [np.concatenate([_grid(side, side), _llava_tiles(processor, inputs, side, width, height)])]


def _llava_tiles(processor: Any, inputs: Mapping[str, Any], side: int, width: int, height: int) -> Boxes:
    from transformers.image_processing_utils import select_best_resolution

    canvas = select_best_resolution([height, width], processor.image_processor.image_grid_pinpoints)
    tile = inputs["pixel_values"].shape[-1]
    rows, columns, box = _unpadded(width, height, canvas, (canvas[0] // tile * side, canvas[1] // tile * side))
    limit = int(processor.vision_aspect_ratio.removeprefix("anyres_max_"))
    coarser = sqrt(rows * columns / (limit * side**2))
    if coarser > 1.1:
        rows, columns = int(rows // coarser), int(columns // coarser)
    cells = _grid(rows, columns, box).clip(0, 1).reshape(rows, columns, 4)
    return np.concatenate([cells, _NOWHERE.repeat(rows, 0)], 1).reshape(-1, 4)


def _padded(side: int, width: int, height: int) -> Boxes:
    """A grid over the square around the picture; cells on the padding alone have no place."""
    longest = max(width, height)
    left, top = (longest - width) // 2 / width, (longest - height) // 2 / height
    cells = _grid(side, side, (-left, -top, longest / width - left, longest / height - top)).clip(0, 1)
    cells[(cells[:, 0] == cells[:, 2]) | (cells[:, 1] == cells[:, 3])] = np.nan
    return cells


def _unpadded(
    width: int, height: int, canvas: tuple[int, int], cells: tuple[int, int]
) -> tuple[int, int, tuple[float, float, float, float]]:
    """Rows and columns of cells that are kept of a padded canvas (height, width), and their box in the picture.

    transformers' `get_patch_output_size`, `_get_padding_size` and `unpad_image`; the last rounds to whole cells.
    """
    (canvas_height, canvas_width), (rows, columns) = canvas, cells
    scale = min(canvas_width / width, canvas_height / height)
    scaled = (min(ceil(width * scale), canvas_width), min(ceil(height * scale), canvas_height))
    before_x, before_y = (canvas_width - scaled[0]) // 2, (canvas_height - scaled[1]) // 2
    cut_x = cut_y = 0
    if width / height > columns / rows:
        cut_y = (rows - int(round(height * (columns / width), 7))) // 2
    else:
        cut_x = (columns - int(round(width * (rows / height), 7))) // 2
    cell_x, cell_y = canvas_width / columns, canvas_height / rows
    box = (
        (cut_x * cell_x - before_x) / scaled[0],
        (cut_y * cell_y - before_y) / scaled[1],
        ((columns - cut_x) * cell_x - before_x) / scaled[0],
        ((rows - cut_y) * cell_y - before_y) / scaled[1],
    )
    return rows - 2 * cut_y, columns - 2 * cut_x, box


_Rule = Callable[[Any, Mapping[str, Any], Sequence[tuple[int, int]]], list[Boxes]]
_RULES: dict[str, _Rule] = {
    QWEN_VL.family: _qwen,
    GEMMA3.family: _gemma3,
    INTERNVL.family: _internvl,
    LLAVA_ONEVISION.family: _llava_onevision,
    IDEFICS3.family: _idefics3,
}


def heat_map(boxes: Boxes, shares: Float[np.ndarray, " tokens"], width: int, height: int) -> Float[np.ndarray, "h w"]:
    """A raster of attention per area: 1 is what an even spread over the picture would give; its mean is 1.

    boxes: the tokens' places. shares: their attention. Each token's is spread evenly over its place; tokens without a
    place do not count. All zero where no token has any attention.
    """
    raster = np.zeros((height, width))
    placed = ~np.isnan(boxes[:, 0])
    edges = np.rint(boxes[placed] * (width, height, width, height)).astype(int)
    for (left, top, right, bottom), share in zip(edges, shares[placed], strict=True):
        left, top = min(left, width - 1), min(top, height - 1)
        area = (slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1)))
        raster[area] += share / raster[area].size
    mean = raster.mean()
    return raster / mean if mean > 0 else raster
