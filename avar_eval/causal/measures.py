"""The measures of a batch of recorded responses, in four teacher-forced passes; see the package for what they mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from avar_eval.attention.steering import UNSTEERED
from avar_eval.causal.altered import grey
from avar_eval.causal.answers import AnswerTokens, answer_opening
from avar_eval.causal.passes import divergences, final_states, kept_image_features, log_probabilities
from avar_eval.models.backend import BackendError
from avar_eval.models.transformers_backend import TransformersBackend

TOP_SHARE: Final = 0.1
"""The share of a response's tokens that depend on the image most."""
_SHORT: Final = 16
"""Tokens of padding that cost less than a pass of its own."""


@dataclass(frozen=True)
class Answered:
    """One recorded response. answer: where its final answer is, if it has one; reference: the gold answer, if known."""

    prompt: str
    images: Sequence[Image]
    response: Sequence[int]
    answer: AnswerTokens | None = None
    reference: str | None = None


@dataclass(frozen=True)
class Knockout:
    """What log-probabilities change by, nats, when text cannot attend to image tokens; negative where it needs them.

    layers: the decoder layers in which it cannot, first and last; None is all. answer: of the final answer's tokens,
    None where there are none. response: of all of the response's.
    """

    layers: tuple[int, int] | None
    answer: float | None
    response: float


@dataclass(frozen=True)
class Measures:
    """Of one response; all in nats.

    dependence: KL(p(· | image, prefix) ‖ p(· | grey, prefix)) before each of its tokens. information: log-probability
    of the reference answer with the image minus with grey, right after the prompt and the answer's opening;
    information_after_thought: the same after all that the response says before its answer. None where there is no
    reference, or no answer. knockout: in all layers; None under a steering with which there is none. windows: in each
    window of layers.
    """

    dependence: Float[Tensor, " tokens"]
    information: float | None
    information_after_thought: float | None
    knockout: Knockout | None
    windows: tuple[Knockout, ...] = ()

    @property
    def mean_dependence(self) -> float:
        """The mean over the response's tokens."""
        return float(self.dependence.double().mean())

    @property
    def top_dependence(self) -> float:
        """The mean over the tenth of them, rounded up, that depends on the image most."""
        count = math.ceil(TOP_SHARE * len(self.dependence))
        return float(self.dependence.double().topk(count).values.mean())


def layer_windows(layers: int, windows: int) -> list[range]:
    """`windows` runs of consecutive layers, as equal as can be, from the first on; at most one for each layer."""
    count = min(windows, layers)
    return [range(number * layers // count, (number + 1) * layers // count) for number in range(count)]


def alike_in_length(lengths: Sequence[int]) -> list[list[int]]:
    """The numbers of responses that go through passes together: padding to the longest adds at most about a half."""
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: (lengths[number], number)):
        if groups and lengths[number] <= 1.5 * lengths[groups[-1][0]] + _SHORT:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def measure_rows(backend: TransformersBackend, rows: Sequence[Answered], windows: int = 0) -> list[Measures]:
    """The measures of responses that each have an image and at least one token; those alike in length together.

    The model is steered as the backend is. windows: of layers that are knocked out one at a time, a pass each. Raises
    BackendError where the model computes what is not a number, and what encoding raises.
    """
    found: dict[int, Measures] = {}
    for group in alike_in_length([len(row.response) for row in rows]):
        measured = _measure_alike(backend, [rows[number] for number in group], windows)
        found |= dict(zip(group, measured, strict=True))
    return [found[number] for number in range(len(rows))]


def _measure_alike(backend: TransformersBackend, rows: Sequence[Answered], windows: int) -> list[Measures]:
    greys = [[grey(image) for image in row.images] for row in rows]
    prompts, responses = [row.prompt for row in rows], [row.response for row in rows]
    inputs = backend.encode(prompts, [row.images for row in rows])
    steering = backend.steering or UNSTEERED
    model, markup = backend.model, backend.markup
    can_knock_out = not (steering.active and steering.mode == "abs")
    layers = layer_windows(model.config.get_text_config().num_hidden_layers, windows) if windows else []
    with kept_image_features(model):
        seen = final_states(model, markup, inputs, responses, steering)
        plain = [log_probabilities(model, *of) for of in zip(seen, responses, strict=True)]
        knocked = [
            (of, _log_probabilities(backend, inputs, responses, of if of is not None else True))
            for of in ([None, *layers] if can_knock_out else [])
        ]
    unseen = final_states(model, markup, backend.encode(prompts, greys), responses, steering)
    dependence = [divergences(model, *of) for of in zip(seen, unseen, strict=True)]
    recorded = [
        (log, log_probabilities(model, states, response))
        for log, states, response in zip(plain, unseen, responses, strict=True)
    ]
    information = _information(backend, rows, greys, recorded)
    found = []
    for number, row in enumerate(rows):
        changes = [_knockout(of, log[number] - plain[number], row.answer) for of, log in knocked]
        whole = changes[0] if changes else None
        found.append(Measures(dependence[number], *information[number], whole, tuple(changes[1:])))
    _check_finite(backend, found)
    return found


def _log_probabilities(
    backend: TransformersBackend, inputs: Any, responses: Sequence[Sequence[int]], knockout: Sequence[int] | bool
) -> list[Float[Tensor, " tokens"]]:
    steering = backend.steering or UNSTEERED
    states = final_states(backend.model, backend.markup, inputs, responses, steering, knockout)
    return [log_probabilities(backend.model, *of) for of in zip(states, responses, strict=True)]


def _knockout(layers: range | None, change: Float[Tensor, " tokens"], answer: AnswerTokens | None) -> Knockout:
    exact = change.double()
    return Knockout(
        None if layers is None else (layers[0], layers[-1]),
        None if answer is None else float(exact[answer.first : answer.end].sum()),
        float(exact.sum()),
    )


@dataclass(frozen=True)
class _Asked:
    """A reference answer after an opening: tokens, of which the last `scored` are the reference's."""

    row: int
    tokens: list[int]
    scored: int


def _information(
    backend: TransformersBackend,
    rows: Sequence[Answered],
    greys: Sequence[Sequence[Image]],
    recorded: Sequence[tuple[Tensor, Tensor]],
) -> list[tuple[float | None, float | None]]:
    """`information` and `information_after_thought` of each row, from one pass over image and grey side by side.

    recorded: log-probabilities of each response's own tokens with image and with grey: where it gives the reference as
    its answer, they are known.
    """
    after_prompt = {row.row: row for row in _after_prompts(backend, rows)}
    after_thought: dict[int, _Asked] = {}
    known: dict[int, float] = {}
    for number, row in enumerate(rows):
        if row.answer is None or row.reference is None or not row.answer.first:
            continue
        reference = _encoded(backend, row.answer.lead + row.reference)
        end = row.answer.first + len(reference)
        if list(row.response[row.answer.first : end]) == reference:
            with_image, with_grey = (of[row.answer.first : end].double().sum() for of in recorded[number])
            known[number] = float(with_image - with_grey)
        elif reference:
            before = [*row.response[: row.answer.first], *reference]
            after_thought[number] = _Asked(number, before, len(reference))
    asked = [*after_prompt.values(), *after_thought.values()]
    gains = _gains(backend, rows, greys, asked) if asked else []
    first = {of.row: gain for of, gain in zip(asked, gains, strict=True) if after_prompt.get(of.row) is of}
    later = {of.row: gain for of, gain in zip(asked, gains, strict=True) if after_thought.get(of.row) is of} | known
    return [(first.get(number), later.get(number)) for number in range(len(rows))]


def _after_prompts(backend: TransformersBackend, rows: Sequence[Answered]) -> list[_Asked]:
    found = []
    for number, row in enumerate(rows):
        reference = _encoded(backend, row.reference or "")
        if reference:
            opening = _encoded(backend, answer_opening(row.prompt))
            found.append(_Asked(number, [*opening, *reference], len(reference)))
    return found


def _gains(
    backend: TransformersBackend, rows: Sequence[Answered], greys: Sequence[Sequence[Image]], asked: Sequence[_Asked]
) -> list[float]:
    """log p(reference | image) - log p(reference | grey) of each."""
    prompts = [rows[of.row].prompt for of in asked] * 2
    images = [rows[of.row].images for of in asked] + [greys[of.row] for of in asked]
    continuations = [of.tokens for of in asked] * 2
    states = final_states(
        backend.model, backend.markup, backend.encode(prompts, images), continuations, backend.steering or UNSTEERED
    )
    scores = [
        log_probabilities(backend.model, of[-one.scored :], one.tokens[-one.scored :]).double().sum()
        for of, one in zip(states, [*asked, *asked], strict=True)
    ]
    return [float(scores[number] - scores[number + len(asked)]) for number in range(len(asked))]


def _encoded(backend: TransformersBackend, text: str) -> list[int]:
    return list(backend.processor.tokenizer.encode(text, add_special_tokens=False)) if text else []


def _check_finite(backend: TransformersBackend, found: Sequence[Measures]) -> None:
    """Raise BackendError where a value is not a number."""
    for of in found:
        numbers = [of.information, of.information_after_thought]
        numbers += [value for one in (of.knockout, *of.windows) if one for value in (one.answer, one.response)]
        if not bool(of.dependence.isfinite().all()) or not all(math.isfinite(x) for x in numbers if x is not None):
            raise BackendError(
                f"{backend.checkpoint.name} computes values that are not numbers: its weights are damaged, or they "
                f"overflow in {backend.dtype} (try --dtype float32)"
            )
