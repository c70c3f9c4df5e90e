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
_TOGETHER: Final = 8
"""Responses of a pass at most: with image and with grey they are sixteen sequences, a batch's default size."""


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
        group = groups[-1] if groups else None
        if group and len(group) < _TOGETHER and lengths[number] <= 1.5 * lengths[group[0]] + _SHORT:
            group.append(number)
        else:
            groups.append([number])
    return groups


def measure_rows(backend: TransformersBackend, rows: Sequence[Answered], windows: int = 0) -> list[Measures]:
    """The measures of responses that each have an image and at least one token; those alike in length together.

    Four passes at most: the responses with image and grey side by side; the references after the prompts, likewise;
    the responses knocked out; the references after the thoughts of those who give another answer.

    The model is steered as the backend is. windows: of layers that are knocked out one at a time, a pass each. Raises
    BackendError where the model computes what is not a number, and what encoding raises.
    """
    found: dict[int, Measures] = {}
    for group in alike_in_length([len(row.response) for row in rows]):
        measured = _measure_alike(backend, [rows[number] for number in group], windows)
        found |= dict(zip(group, measured, strict=True))
    return [found[number] for number in range(len(rows))]


def _measure_alike(backend: TransformersBackend, rows: Sequence[Answered], windows: int) -> list[Measures]:
    images, n = [row.images for row in rows], len(rows)
    greys = [[grey(image) for image in of] for of in images]
    prompts, responses = [row.prompt for row in rows], [row.response for row in rows]
    steering = backend.steering or UNSTEERED
    model, markup = backend.model, backend.markup
    can_knock_out = not (steering.active and steering.mode == "abs")
    layers = layer_windows(model.config.get_text_config().num_hidden_layers, windows) if windows else []
    both = backend.encode([*prompts, *prompts], [*images, *greys])
    with kept_image_features(model):
        states = final_states(model, markup, both, [*responses, *responses], steering)
        dependence = [divergences(model, *of) for of in zip(states[:n], states[n:], strict=True)]
        recorded = [log_probabilities(model, *of) for of in zip(states, [*responses, *responses], strict=True)]
        del states
        information = _after_prompts(backend, both, rows)
    with kept_image_features(model):
        inputs = backend.encode(prompts, images) if can_knock_out else None
        knocked = [
            (of, _log_probabilities(backend, inputs, responses, of if of is not None else True))
            for of in ([None, *layers] if can_knock_out else [])
        ]
    later = _after_thoughts(backend, rows, greys, list(zip(recorded[:n], recorded[n:], strict=True)))
    found = []
    for number, row in enumerate(rows):
        changes = [_knockout(of, log[number] - recorded[number], row.answer) for of, log in knocked]
        whole = changes[0] if changes else None
        gains = information[number], later.get(number)
        found.append(Measures(dependence[number], *gains, whole, tuple(changes[1:])))
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


def _after_prompts(backend: TransformersBackend, both: Any, rows: Sequence[Answered]) -> list[float | None]:
    """`information` of each row, from one pass. both: inputs of all prompts with their images, then with grey."""
    references = [_encoded(backend, row.reference or "") for row in rows]
    openings = [
        _encoded(backend, answer_opening(row.prompt)) if of else [] for row, of in zip(rows, references, strict=True)
    ]
    continuations = [[*opening, *of] for opening, of in zip(openings, references, strict=True)]
    if not any(references):
        return [None] * len(rows)
    return [
        gain if of else None
        for gain, of in zip(_gains(backend, both, continuations, list(map(len, references))), references, strict=True)
    ]


def _after_thoughts(
    backend: TransformersBackend,
    rows: Sequence[Answered],
    greys: Sequence[Sequence[Image]],
    recorded: Sequence[tuple[Tensor, Tensor]],
) -> dict[int, float]:
    """`information_after_thought` of the rows that have one, from one pass over those whose answer is another one.

    recorded: log-probabilities of each response's own tokens with image and with grey: where it gives the reference as
    its answer, they are known.
    """
    known: dict[int, float] = {}
    asked: dict[int, list[int]] = {}
    scored: dict[int, int] = {}
    for number, row in enumerate(rows):
        if row.answer is None or row.reference is None or not row.answer.first:
            continue
        reference = _encoded(backend, row.answer.lead + row.reference)
        end = row.answer.first + len(reference)
        if list(row.response[row.answer.first : end]) == reference:
            with_image, with_grey = (of[row.answer.first : end].double().sum() for of in recorded[number])
            known[number] = float(with_image - with_grey)
        elif reference:
            asked[number], scored[number] = [*row.response[: row.answer.first], *reference], len(reference)
    if not asked:
        return known
    prompts = [rows[number].prompt for number in asked]
    images = [rows[number].images for number in asked] + [greys[number] for number in asked]
    both = backend.encode([*prompts, *prompts], images)
    gains = _gains(backend, both, list(asked.values()), list(scored.values()))
    return known | dict(zip(asked, gains, strict=True))


def _gains(
    backend: TransformersBackend, both: Any, continuations: Sequence[Sequence[int]], scored: Sequence[int]
) -> list[float]:
    """log p with image - log p with grey of the last `scored` tokens of each continuation."""
    twice = [*continuations, *continuations]
    states = final_states(backend.model, backend.markup, both, twice, backend.steering or UNSTEERED)
    scores = [
        float(log_probabilities(backend.model, of[len(of) - count :], tokens[len(of) - count :]).double().sum())
        for of, tokens, count in zip(states, twice, [*scored, *scored], strict=True)
    ]
    return [scores[number] - scores[number + len(continuations)] for number in range(len(continuations))]


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
