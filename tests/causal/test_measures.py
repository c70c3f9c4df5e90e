"""Measures of padded batches on every family's true class equal eager float64 with whole logits, one row at a time."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from causal_reference import eager_without_images, log_distributions, sequence_roles
from eager_reference import in_eager_float64
from family_batches import batches

from avar_eval.attention.steering import Steering
from avar_eval.causal.altered import grey
from avar_eval.causal.answers import AnswerTokens
from avar_eval.causal.cutoff import SHARES, cutoff_changes
from avar_eval.causal.measures import Answered, Measures, layer_windows, measure_rows
from avar_eval.causal.passes import final_states
from avar_eval.models.transformers_backend import TransformersBackend

REFERENCES = ["seven", "B", "two"]


@pytest.fixture(scope="module")
def reference(backend: TransformersBackend) -> Any:
    return in_eager_float64(backend.model)


def answered(backend: TransformersBackend) -> list[list[Answered]]:
    """Batches of rows with images; the answer is the response's last two tokens, or its only one."""
    found = []
    for whole in batches(backend):
        rows = []
        for one, reference in zip(whole.rows(), REFERENCES, strict=False):
            (response,) = one.responses
            answer = AnswerTokens(max(0, len(response) - 2), len(response), "")
            rows.append(Answered(one.prompts[0], one.images[0], response, answer, reference))
        found.append([row for row in rows if row.images])
    return [rows for rows in found if rows]


def scored(distributions: torch.Tensor, tokens: Sequence[int]) -> float:
    """The log-probability of the last tokens."""
    last = distributions[len(distributions) - len(tokens) :]
    return float(last.gather(-1, torch.tensor(tokens)[:, None]).sum())


def test_measures_equal_eager_float64_with_whole_logits(backend: TransformersBackend, reference: Any) -> None:
    encode = backend.processor.tokenizer.encode
    for rows in answered(backend):
        for row, found in zip(rows, measure_rows(backend, rows, windows=2), strict=True):
            greys, response = [grey(image) for image in row.images], list(row.response)
            seen, unseen = (
                log_distributions(reference, backend, row.prompt, of, response) for of in (row.images, greys)
            )
            kl = (seen.exp() * (seen - unseen)).sum(-1)
            assert torch.allclose(found.dependence.double(), kl, rtol=1e-3, atol=1e-5)
            assert found.mean_dependence == pytest.approx(float(kl.mean()), rel=1e-3, abs=1e-5)
            gold = encode(row.reference, add_special_tokens=False)
            before = response[:-2]
            for prefix, gain in (
                ([], found.information),
                (before, found.information_after_thought if before else None),
            ):
                if gain is None:
                    assert not before
                    assert found.information_after_thought is None
                    continue
                whole = [*prefix, *gold]
                with_image, with_grey = (
                    scored(log_distributions(reference, backend, row.prompt, of, whole), gold)
                    for of in (row.images, greys)
                )
                assert gain == pytest.approx(with_image - with_grey, abs=1e-4)
            check_knockout(backend, reference, row, found, seen)


def check_knockout(
    backend: TransformersBackend, reference: Any, row: Answered, found: Measures, seen: torch.Tensor
) -> None:
    response, count = list(row.response), backend.model.config.get_text_config().num_hidden_layers
    roles = sequence_roles(backend, row.prompt, row.images, response)
    assert found.knockout is not None
    windows = layer_windows(count, 2)
    assert [of.layers for of in found.windows] == [(of[0], of[-1]) for of in windows]
    for layers, one in zip([None, *windows], [found.knockout, *found.windows], strict=True):
        with eager_without_images(reference, roles, layers):
            hidden = log_distributions(reference, backend, row.prompt, row.images, response)
        assert one.response == pytest.approx(scored(hidden, response) - scored(seen, response), abs=1e-4)
        last = response[-2:]
        assert one.answer == pytest.approx(scored(hidden, last) - scored(seen, last), abs=1e-4)
        assert abs(one.response) > 2e-4  # beyond what is let pass


@pytest.mark.parametrize("mode", ["logit", "prob", "log"])
def test_a_knocked_out_model_feels_the_steering_of_all_but_images(backend: TransformersBackend, mode: Any) -> None:
    rows = answered(backend)[0]
    inputs = backend.encode([row.prompt for row in rows], [row.images for row in rows])

    def states(knockout: bool, **strengths: float) -> torch.Tensor:
        steering = Steering(mode=mode, **strengths)
        responses = [row.response for row in rows]
        return torch.cat(final_states(backend.model, backend.markup, inputs, responses, steering, knockout))

    assert not torch.allclose(states(False), states(False, image=0.6), atol=1e-3)
    assert torch.allclose(states(True), states(True, image=0.6), atol=1e-4)
    begins_with_system = backend.checkpoint.name not in ("qwen3_vl", "llava_onevision", "internvl")
    if begins_with_system:
        assert not torch.allclose(states(True), states(True, system=0.5), atol=1e-3)


def test_the_tower_runs_once_for_the_passes_with_the_image(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(backend.model.model, "get_image_features"):
        pytest.skip("its tower has no output of its own")
    rows = answered(backend)[0]
    calls, kind = 0, type(backend.model.model)
    original = kind.get_image_features

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return original(*args, **kwargs)

    monkeypatch.setattr(kind, "get_image_features", counted)
    measure_rows(backend, rows, windows=2)
    wrong = any(row.answer and row.answer.first for row in rows)
    assert calls == 2 + wrong, "both side by side; the image alone; where the answer is another one, both again"


def test_there_are_four_passes_at_most(backend: TransformersBackend) -> None:
    rows, passes = answered(backend)[0], 0

    def counted(*_: Any) -> None:
        nonlocal passes
        passes += 1

    hook = backend.model.register_forward_pre_hook(counted)
    try:
        measure_rows(backend, rows)
    finally:
        hook.remove()
    assert passes == 4


def test_no_pass_makes_all_logits_of_a_response(backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, head = answered(backend)[0], backend.model.get_output_embeddings()
    monkeypatch.setattr("avar_eval.causal.passes.LOGITS_AT_ONCE", 2 * head.weight.shape[0])
    whole, largest = measure_rows(backend, rows), 0

    def noted(_: Any, __: Any, logits: torch.Tensor) -> None:
        nonlocal largest
        largest = max(largest, logits[0].numel() if logits.ndim == 3 else logits.numel())

    hook = head.register_forward_hook(noted)
    try:
        again = measure_rows(backend, rows)
    finally:
        hook.remove()
    assert largest == 2 * head.weight.shape[0]
    assert [of.mean_dependence for of in again] == [of.mean_dependence for of in whole]


def steered(backend: TransformersBackend, rows: list[Answered], **how: Any) -> list[Measures]:
    backend.steering = Steering(**how)
    try:
        return measure_rows(backend, rows)
    finally:
        backend.steering = None


def test_steering_in_mode_abs_has_no_knockout(backend: TransformersBackend) -> None:
    (first, *_) = steered(backend, answered(backend)[0], mode="abs", image=0.5)
    assert first.knockout is None
    assert first.mean_dependence > 0


def test_cut_off_from_a_token_on_equals_eager_float64(backend: TransformersBackend, reference: Any) -> None:
    for rows in answered(backend):
        spoken = [row for row in rows if row.answer and row.answer.first]
        if not spoken:
            continue
        for row, changes in zip(spoken, cutoff_changes(backend, spoken), strict=True):
            assert row.answer is not None
            response, last = list(row.response), list(row.response)[row.answer.first :]
            roles = sequence_roles(backend, row.prompt, row.images, response)
            plain = log_distributions(reference, backend, row.prompt, row.images, response)
            for share, change in zip(SHARES, changes.tolist(), strict=True):
                since = len(roles) - len(response) - 1 + round(share * row.answer.first)
                with eager_without_images(reference, roles, since=since):
                    hidden = log_distributions(reference, backend, row.prompt, row.images, response)
                assert change == pytest.approx(scored(hidden, last) - scored(plain, last), abs=1e-4)


def test_layer_windows_are_consecutive_and_whole() -> None:
    for layers, windows in ((5, 2), (5, 5), (3, 7), (28, 4)):
        found = layer_windows(layers, windows)
        assert [layer for of in found for layer in of] == list(range(layers))
        assert len(found) == min(layers, windows)
        assert max(map(len, found)) - min(map(len, found)) <= 1


def test_the_top_decile_is_of_the_tokens_that_depend_most() -> None:
    values = torch.tensor([0.0, 3.0, 1.0, *[0.5] * 9])
    found = Measures(values, None, None, None)
    assert found.top_dependence == pytest.approx((3.0 + 1.0) / 2)
