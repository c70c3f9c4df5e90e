"""How a model is told to answer: the styles of prompt that every benchmark has.

A benchmark's `doc_to_text(row, settings)` gets the style in `settings["prompt_style"]` (lmms-eval's
`lmms_eval_specific_kwargs`); plain lmms-eval passes none and gets the thinking style. A named protocol's own words come
as a Jinja template in `settings["prompt_template"]`.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from typing import Any, Final, Literal, get_args

Row = Mapping[str, Any]
Asking = Callable[..., str]
"""`doc_to_text(row, settings=None)`"""

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


def templated(fields: Callable[[Row], Mapping[str, Any]]) -> Callable[[Asking], Asking]:
    """Let a `doc_to_text` be rendered with a template: of the row's columns and these fields, which go before them."""

    def decorate(doc_to_text: Asking) -> Asking:
        @wraps(doc_to_text)
        def rendered(row: Row, settings: Mapping[str, Any] | None = None) -> str:
            template = (settings or {}).get("prompt_template")
            return doc_to_text(row, settings) if template is None else render(template, {**row, **fields(row)})

        return rendered

    return decorate


def lettered(options: Sequence[object]) -> list[tuple[str, str]]:
    """Options with their letters, A first."""
    return [(letter, str(option)) for letter, option in zip(string.ascii_uppercase, options, strict=False)]


def render(template: str, fields: Mapping[str, Any]) -> str:
    """The text of a Jinja template. Raises ValueError for a field that there is not, and what is wrong with it."""
    from jinja2 import TemplateError

    try:
        return str(_compiled(template).render(fields))
    except TemplateError as error:
        raise ValueError(f"the prompt template {template!r} cannot be used: {error}") from error


@cache
def _compiled(template: str) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(template)
