"""How many pixels of a picture a model sees: limits that act through its family's image processor, or before it.

What a limit means for each family, in transformers and vLLM alike:

- Qwen-VL: its processor's own limits (`smart_resize`); sides become multiples of a patch.
- InternVL: as many tiles as hold so many pixels; the whole picture, which follows two or more of them, not counted.
- Idefics3, SmolVLM: the longest side, so that a square has no more pixels; no lower limit.
- LLaVA-OneVision, Llama 3.2 Vision, and whatever an endpoint serves: the picture itself is resized before their
  processors choose a canvas for it, with `ImageLimits.resized`.
- Gemma 3: none, every picture becomes a square of one size.
"""

from dataclasses import dataclass, field
from math import ceil, isqrt, sqrt
from typing import TYPE_CHECKING, Any

from avar_eval.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """Pixels (width × height) of a picture: smaller ones are enlarged to min, larger ones made smaller to max.

    None is no limit of ours: the processor's own holds. Raises UsageError if min is above max.
    """

    min_pixels: int | None = None
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise UsageError(f"--image-min-pixels {self.min_pixels} is above --image-max-pixels {self.max_pixels}")

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return self.min_pixels is not None or self.max_pixels is not None

    def identity(self) -> dict[str, str]:
        """The limits that there are, as they stand in a record's key."""
        limits = {"image_min_pixels": self.min_pixels, "image_max_pixels": self.max_pixels}
        return {name: str(limit) for name, limit in limits.items() if limit is not None}

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height within the limits, in the same proportion but for parts of a pixel.

        Sides are cut off to whole pixels where a picture is made smaller, and filled up where it is enlarged, so that
        the limits hold exactly; max before min, where they leave no room for whole pixels between them.
        """
        if self.min_pixels is not None and width * height < self.min_pixels:
            factor = sqrt(self.min_pixels / (width * height))
            width, height = ceil(width * factor), ceil(height * factor)
        if self.max_pixels is not None and width * height > self.max_pixels:
            factor = sqrt(self.max_pixels / (width * height))
            width = min(max(1, int(width * factor)), self.max_pixels)
            height = min(max(1, int(height * factor)), self.max_pixels // width)  # of a strip one side is one pixel
        return width, height

    def resized(self, image: "Image") -> "Image":
        """The picture within the limits (bicubic); itself where it is within them already."""
        size = self.resized_size(*image.size)
        if size == image.size:
            return image
        from PIL.Image import Resampling

        colours = image if image.mode in ("RGB", "RGBA", "L") else image.convert("RGB")
        return colours.resize(size, Resampling.BICUBIC)


@dataclass(frozen=True)
class AppliedLimits:
    """Limits as one processor takes them. settings: of the image processor, also vLLM's `mm_processor_kwargs`.

    before: what is done to pictures before the processor; without limits where the processor does all of it.
    """

    before: ImageLimits = field(default_factory=ImageLimits)
    settings: dict[str, Any] = field(default_factory=dict)


def apply_limits(limits: ImageLimits, processor: Any, family: str, model: str) -> AppliedLimits:
    """Set the limits on a processor of a family (`ChatFormat.family`), or say what is left to do before it.

    Raises UsageError for a limit that the family cannot keep.
    """
    if not limits:
        return AppliedLimits()
    images = processor.image_processor
    if family == "Qwen-VL":
        settings = _qwen(limits, images.size, model)
    elif family.startswith("InternVL"):
        settings = _tiles(limits, images.size["height"] * images.size["width"], images, model)
    elif family.startswith("Idefics3"):
        settings = _longest_side(limits, images.max_image_size["longest_edge"], model)
    elif family.startswith("Gemma 3"):
        side = images.size["height"]
        raise UsageError(
            f"--image-min-pixels and --image-max-pixels change nothing of {model}: every picture becomes {side}x{side}"
        )
    else:
        return AppliedLimits(before=limits)
    for name, value in settings.items():
        setattr(images, name, type(getattr(images, name))(**value) if isinstance(value, dict) else value)
    return AppliedLimits(settings=settings)


def _qwen(limits: ImageLimits, own: Any, model: str) -> dict[str, Any]:
    least, most = limits.min_pixels or own["shortest_edge"], limits.max_pixels or own["longest_edge"]
    if least > most:
        given, needed = ("min", "max") if limits.max_pixels is None else ("max", "min")
        raise UsageError(
            f"{model} sees pictures of {own['shortest_edge']} to {own['longest_edge']} pixels: with "
            f"--image-{given}-pixels {limits.min_pixels or limits.max_pixels} give --image-{needed}-pixels too"
        )
    return {"size": {"shortest_edge": least, "longest_edge": most}}


def _tiles(limits: ImageLimits, tile: int, images: Any, model: str) -> dict[str, Any]:
    least = images.min_patches if limits.min_pixels is None else ceil(limits.min_pixels / tile)
    most = images.max_patches if limits.max_pixels is None else limits.max_pixels // tile
    if most < 1 or least > most:
        raise UsageError(
            f"{model} sees whole tiles of {tile} pixels, at least {least} of them: --image-max-pixels "
            f"{limits.max_pixels or images.max_patches * tile} leaves room for {most}"
        )
    return {"min_patches": least, "max_patches": most}


def _longest_side(limits: ImageLimits, tile: int, model: str) -> dict[str, Any]:
    if limits.max_pixels is None or limits.min_pixels is not None:
        raise UsageError(f"--image-min-pixels cannot be kept by {model}, whose pictures have one longest side")
    side = isqrt(limits.max_pixels) // tile * tile
    if side == 0:
        raise UsageError(
            f"{model} sees tiles of {tile}x{tile}: --image-max-pixels {limits.max_pixels} is below the {tile * tile} "
            "pixels of one"
        )
    return {"size": {"longest_edge": side}}
