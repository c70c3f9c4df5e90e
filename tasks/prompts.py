"""How a model is told to answer: the styles of prompt that every benchmark has.

A benchmark's `doc_to_text(row, settings)` gets the style in `settings["prompt_style"]` (lmms-eval's
`lmms_eval_specific_kwargs`); plain lmms-eval passes none and gets the thinking style.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

Style = Literal["thinking", "direct", "boxed", "none"]
"""thinking: `THINKING` after the question. boxed: `BOXED` after it. direct: the benchmark's own instruction.

none: the question, with what counts as an answer to it, and no word on how to reason or where to write it.
"""

STYLES: Final[tuple[Style, ...]] = get_args(Style)

THINKING: Final = "First think inside <think> </think> tags, then give the final answer inside <answer> </answer> tags."
"""The instruction of the R1 family of models: reasoning and answer in tags of their own."""

BOXED: Final = "Please reason step by step, and put your final answer within \\boxed{}."
"""The instruction of Qwen's mathematics models, which several of the paper's models were trained with."""


def style_of(settings: Mapping[str, Any] | None) -> Style:
    """The style that lmms-eval's settings ask for. Raises ValueError for one that does not exist."""
    style = (settings or {}).get("prompt_style", "thinking")
    if style not in STYLES:
        raise ValueError(f"prompt_style is one of {', '.join(STYLES)}, not {style!r}")
    return style  # type: ignore[no-any-return]


def instruction(style: Style, direct: str) -> str:
    """The last line of a prompt, empty where there is none; `direct` is the benchmark's own."""
    return {"thinking": THINKING, "boxed": BOXED, "direct": direct, "none": ""}[style]


def ask(question: Sequence[str], style: Style, direct: str = "") -> str:
    """A prompt of the question's lines and the style's instruction, if it has one; `direct` is the benchmark's own."""
    said = instruction(style, direct)
    return "\n".join([*question, said] if said else question)
