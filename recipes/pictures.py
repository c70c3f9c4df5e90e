"""Pictures of training rows, resized before anything else sees them: to limits of pixels, and to a prompt's room.

In the rows themselves, so that the trainer's processor and a vLLM engine's, which know of no such limits, see the same.
The rule is that of LLaMA-Factory's and EasyR1's `image_max_pixels`, which the official code trains with.
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL.Image import Image

from avar_eval.in_words import fault_in_words
from avar_eval.models.image_limits import ImageLimits
from avar_eval.recipes.data import decoded_picture, token_count
from avar_eval.recipes.sources import TrainingDataError
from avar_eval.terminal import say

_TRIES: Final = 8
"""Image tokens are not proportional to pixels: sides are rounded to whole patches, or pictures cut into tiles."""


def fit_pictures(
    dataset: Any,
    processor: Any,
    limits: ImageLimits,
    max_tokens: int | None,
    processes: int | None = None,
    folder: Path | None = None,
) -> Any:
    """The rows with pictures within the limits, made smaller where a row has more than `max_tokens` (None: no matter).

    What cannot be made to fit stays too long. folder: as in `load`. Prints how many rows have other pictures; raises
    TrainingDataError for a row whose images cannot be read.
    """
    from datasets import Image as Pictures
    from datasets import List, Value

    if not limits and max_tokens is None:
        return dataset
    pictures = dataset.features["images"]
    files = dataset.cast_column("images", List(Pictures(decode=False)))
    features = files.features.copy()
    features["resized"] = Value("bool")

    def fitted(row: Mapping[str, Any], number: int) -> dict[str, Any]:
        try:
            before = [decoded_picture(image) for image in row["images"]]
            after = within_tokens(row, [limits.resized(image) for image in before], processor, max_tokens)
        except (IndexError, OSError, ValueError, TrainingDataError) as error:
            raise TrainingDataError(
                f"row {number} (from 0, of all sources) cannot be prepared for the model: {fault_in_words(error)}"
            ) from error
        same = [old.size == new.size for old, new in zip(before, after, strict=True)]
        images = [row["images"][i] if kept else _encoded(after[i]) for i, kept in enumerate(same)]
        return {"images": images, "resized": not all(same)}

    known = {} if folder is None else {"cache_file_name": str(folder / "fitted.arrow"), "new_fingerprint": "fitted"}
    found = files.map(
        fitted, with_indices=True, num_proc=processes, features=features, desc="Sizes of pictures", **known
    )
    say(f"{sum(found['resized'])} of {len(found)} rows have their pictures resized")
    return found.remove_columns("resized").cast_column("images", pictures)


def within_tokens(row: Mapping[str, Any], images: list[Image], processor: Any, max_tokens: int | None) -> list[Image]:
    """A row's pictures, all made smaller by the same factor until the row has at most `max_tokens`, if that can be."""
    if max_tokens is None or not images:
        return images
    smaller = images
    for _ in range(_TRIES):
        tokens, seen = token_count({**row, "images": smaller}, processor)
        room = max_tokens - (tokens - seen)
        if tokens <= max_tokens or room < len(images):
            break
        factor = room / seen
        smaller = [
            ImageLimits(max_pixels=max(1, int(image.width * image.height * factor))).resized(image) for image in smaller
        ]
    return smaller


def _encoded(image: Image) -> dict[str, Any]:
    """A picture as `datasets` keeps it, without loss."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}
