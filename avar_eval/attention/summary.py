"""What is kept of one response's attention: scores and shares, as JSON can hold them."""

import math
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo


def _none_unless_finite(ratio: object, info: ValidationInfo) -> object:
    if info.mode == "json":  # what was written is finite: in a file, anything else is damage
        return ratio
    return None if isinstance(ratio, float) and not math.isfinite(ratio) else ratio


_Ratio = Annotated[float | None, BeforeValidator(_none_unless_finite)]


class QueryAttention(BaseModel):
    """Where one set of query tokens looks; see `avar_eval.attention.score` for the definitions.

    tokens: number of query tokens. vas: Eq. 2 over these queries. vas_without_sink: the same without key position 0.
    ratio_of_sums: sum of image mass over sum of system mass. top_share: the part (0..1) of Eq. 2's sum that the largest
    1 % of its terms hold, one for each layer, head and query; None in records of before it. vas_by_layer: Eq. 2 per
    layer. share_by_layer: role -> share of attention per layer (0..1); `system` contains `sink`, the rest adds up to 1.
    None where there is no system token (or none but the sink), or none that has any attention: JSON knows no infinity,
    and a line that could not be read back would stop every later run.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    tokens: int
    vas: _Ratio
    vas_without_sink: _Ratio
    ratio_of_sums: _Ratio
    top_share: _Ratio = None
    vas_by_layer: list[_Ratio] | None
    share_by_layer: dict[str, list[float]]


class AttentionSummary(BaseModel):
    """Attention of one response: its user tokens' (the paper's queries), its response tokens', and that of its text.

    text: the user tokens that are words, without the template's own (`ChatMarkup.prompt_text`); None in records of
    before they were told apart.
    """

    model_config = ConfigDict(extra="forbid")

    user: QueryAttention | None
    response: QueryAttention | None
    text: QueryAttention | None = None
