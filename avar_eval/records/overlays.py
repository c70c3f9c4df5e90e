"""`overlays.jsonl`: where in its pictures a model looked while it read and answered, of the responses looked at again.

It lies beside `records.jsonl`, one line of JSON a response, with its `key` there, and for each picture, in order, the
attention on its places as grids of `rows` × `columns` bytes: base64, row by row, 255 at `highest` times what attention
spread evenly over the picture would be. `user`, `response`: seen from the question's tokens, and from the answer's;
`share`: of their attention, how much is on the picture (0..1).
"""

import base64
from typing import Annotated, Final, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field

from avar_eval.records.journal import typed_lines

OVERLAYS_NAME: Final = "overlays.jsonl"

Count = Annotated[int, Field(ge=1, le=1024)]


class Heat(BaseModel):
    """Attention over one picture from one set of queries."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    share: Annotated[float, Field(ge=0, le=1)]
    highest: Annotated[float, Field(ge=0)]
    grid: str

    @classmethod
    def of(cls, heat: Float[np.ndarray, "rows columns"], share: float) -> "Heat":
        """From attention per area, 1 where it is spread evenly."""
        highest = float(heat.max())
        scaled = np.rint(255 * heat / highest) if highest > 0 else np.zeros_like(heat)
        return cls(share=share, highest=highest, grid=base64.b64encode(scaled.astype(np.uint8).tobytes()).decode())


class PictureOverlay(BaseModel):
    """Attention over one picture."""

    model_config = ConfigDict(extra="forbid")

    rows: Count
    columns: Count
    queries: dict[Literal["user", "response"], Heat]


class OverlayLine(BaseModel):
    """Attention over the pictures of one response."""

    model_config = ConfigDict(extra="forbid")

    key: str
    pictures: list[PictureOverlay]


OVERLAYS: Final = typed_lines(
    OverlayLine,
    key=lambda line: line.key,
    one="an overlay",
    many="overlays",
    remedy="delete that line, or the file: `avar-eval look` makes it anew",
)
