"""Every family's true class: measures of a padded batch equal eager float64 maps, and the model notices nothing.

The reference runs one sequence at a time, unpadded, in float64 under eager attention, and takes the maps that its
attention modules return.
"""

import re
from typing import Any

import pytest
import torch
from eager_reference import eager_maps, group_masses, in_eager_float64
from family_batches import POOLED, QUESTIONS, Batch, batch, batches, picture
from family_models import FAMILIES
from torch import Tensor

from avar_eval.attention import interface
from avar_eval.attention.measure import measure_attention, with_responses
from avar_eval.attention.objectives import attention_losses, visual_reward
from avar_eval.attention.observe import GROUPS, observe
from avar_eval.attention.record import AttentionRecord
from avar_eval.attention.roles import Role, batch_roles
from avar_eval.attention.score import pooled
from avar_eval.models.checkpoint import SUPPORTED_ARCHITECTURES
from avar_eval.models.decoding import Decoding
from avar_eval.models.transformers_backend import BackendError, TransformersBackend
from avar_eval.ranks import Ranks
from avar_eval.run.batches import Batching
from avar_eval.run.questions import Question, RenderedQuestion


def test_every_supported_architecture_is_proven_here() -> None:
    assert {family.model_type for family in FAMILIES.values()} == set(SUPPORTED_ARCHITECTURES)


def reference_of(reference: Any, backend: TransformersBackend, one: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """Masses and roles of a batch of one."""
    inputs = one.encoded(backend)
    prompt = backend.markup.prompt_roles(inputs["input_ids"][0].tolist())
    roles = torch.tensor([*prompt, *[Role.RESPONSE] * len(one.responses[0])])
    return group_masses(eager_maps(reference, with_responses(inputs, one.responses)), roles), roles


def reference_objectives(reference: Any, backend: TransformersBackend, whole: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 5 and 6 over the user tokens, their mean over sequences after the logarithms, and Eq. 7 of each sequence."""
    enhance, suppress, rewards = [], [], []
    for one in whole.rows():
        masses, roles = reference_of(reference, backend, one)
        if backend.checkpoint.name in POOLED:
            masses = {group: mass.mean(0, keepdim=True) for group, mass in masses.items()}
        user = roles == Role.USER
        image = masses["image"][..., user].mean(-1) / (roles == Role.IMAGE).sum()
        system = masses["system"][..., user].mean(-1) / (roles == Role.SYSTEM).sum()
        enhance.append(-image.log().mean())
        suppress.append((system + 1e-6).log().mean())
        image, system = (masses[group][..., roles == Role.RESPONSE].mean(1) for group in ("image", "system"))
        rewards.append((image / (system + 1e-6)).mean())
    return torch.stack(enhance).mean(), torch.stack(suppress).mean(), torch.stack(rewards)


def expected_vas(masses: dict[str, Tensor], queries: Tensor, sink: bool, pool: bool) -> float:
    image = masses["image"][..., queries]
    system = masses["system"][..., queries] - (0 if sink else masses["sink"][..., queries])
    if pool:
        image, system = image.mean(0), system.mean(0)
    return float((image / system).mean())


def test_measures_of_padded_batches_equal_eager_float64(backend: TransformersBackend) -> None:
    reference, pool = in_eager_float64(backend.model), backend.checkpoint.name in POOLED
    for whole in batches(backend):
        records = backend.measure(whole.encoded(backend), whole.responses)
        for one, record in zip(whole.rows(), records, strict=True):
            with torch.no_grad():
                masses, roles = reference_of(reference, backend, one)
            assert torch.equal(record.roles, roles)
            compare(record, masses, has_image=bool(one.images[0]), pool=pool)


def compare(record: AttentionRecord, masses: dict[str, Tensor], has_image: bool, pool: bool) -> None:
    for group in GROUPS:
        measured = record.mass[group].double()
        assert torch.allclose(measured, masses[group][..., record.queries], rtol=1e-5, atol=1e-7), group
    system = record.roles == Role.SYSTEM
    for queries in ("user", "response"):
        chosen = (record.roles == Role[queries.upper()]).nonzero().flatten()
        for sink in (True, False):
            vas = record.visual_attention_score(queries, include_sink=sink)
            if has_image and int(system.sum()) > (not sink):
                assert vas == pytest.approx(expected_vas(masses, chosen, sink, pool), rel=1e-5)
            else:
                assert vas is None


def test_observing_changes_no_bit_of_the_logits_and_leaves_the_vision_tower_alone(
    backend: TransformersBackend,
) -> None:
    for whole in batches(backend):
        inputs = whole.encoded(backend)
        roles = backend.markup.roles(inputs["input_ids"], inputs["attention_mask"])
        with torch.inference_mode():
            plain = backend.model(**inputs, use_cache=False).logits
            with observe(backend.model, roles) as observation:
                watched = [name for name, of in backend.model.named_modules() if interface.get_listener(of) is not None]
                observed = backend.model(**inputs, use_cache=False).logits
        assert torch.equal(plain, observed)
        assert len(observation.masses()) == backend.model.config.get_text_config().num_hidden_layers
        assert all(re.search(r"\b(language_model|text_model)\.layers\.", name) for name in watched)


def test_losses_their_gradients_and_the_reward_equal_eager_float64(backend: TransformersBackend) -> None:
    model, whole = backend.model, batches(backend)[0]
    whole = Batch(whole.prompts[:2], whole.images[:2], whole.responses[:2])
    inputs = whole.encoded(backend)
    prompts = [
        ids[mask.bool()].tolist() for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]
    extended = with_responses(inputs, whole.responses)
    shape = inputs["input_ids"].shape[1], extended["input_ids"].shape[1]
    roles = batch_roles(backend.markup, prompts, whole.responses, *shape)
    keys = [roles.mask(role).sum(1) for role in (Role.IMAGE, Role.SYSTEM)]
    with observe(model, roles, groups=["image", "system"]) as observation:
        model(**extended, use_cache=False)
    masses = [observation.mass(group) for group in ("image", "system")]
    if observation.pool_layers:
        masses = [pooled(mass) for mass in masses]
    measured = attention_losses(*masses, observation.query_mask(Role.USER), *keys)

    reference = in_eager_float64(model)
    *expected, rewards = reference_objectives(reference, backend, whole)
    for loss, wanted in zip(measured, expected, strict=True):
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)
        assert_same_gradients(model, loss, reference, wanted)
    reward = visual_reward(*masses, observation.query_mask(Role.RESPONSE), torch.tensor([True, True]))
    assert reward.tolist() == pytest.approx(rewards.tolist(), rel=1e-4)


def assert_same_gradients(model: Any, loss: Tensor, reference: Any, wanted: Tensor) -> None:
    parameters = [list(of.parameters()) for of in (model, reference)]
    measured = torch.autograd.grad(loss, parameters[0], retain_graph=True, allow_unused=True)
    expected = torch.autograd.grad(wanted, parameters[1], retain_graph=True, allow_unused=True)
    largest = max(float(gradient.norm()) for gradient in expected if gradient is not None)
    assert largest > 1e-3
    for (name, _), ours, theirs in zip(model.named_parameters(), measured, expected, strict=True):
        if theirs is None:
            assert ours is None or not ours.any(), name
        else:
            ours = torch.zeros_like(theirs) if ours is None else ours.double()
            assert float((ours - theirs).norm()) <= 1e-4 * max(float(theirs.norm()), 1e-3 * largest), name


def test_batches_and_single_prompts_give_the_same_response(backend: TransformersBackend) -> None:
    decoding = Decoding(max_new_tokens=6)
    for whole in batches(backend):
        streams = [f"{row:064x}" for row in range(len(whole.prompts))]
        inputs = whole.encoded(backend)
        tokenizer = backend.processor.tokenizer
        if tokenizer.bos_token is not None:  # added once where the template has not; avar-smol's opens every turn
            begins = [prompt.count(tokenizer.bos_token) or 1 for prompt in whole.prompts]
            assert (inputs["input_ids"] == tokenizer.bos_token_id).sum(1).tolist() == begins
        together = backend.generate(inputs, decoding, streams)
        for row, prompt in enumerate(whole.prompts):
            alone = backend.generate(backend.encode([prompt], [whole.images[row]]), decoding, [streams[row]])
            assert alone == [together[row]]


def test_generation_gives_the_masses_of_one_pass_over_its_result(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where responses end at different places, and by a stop string, and for their last tokens."""
    published, decode = backend.model.generation_config, backend.processor.tokenizer.decode
    for whole in batches(backend):
        inputs, streams = whole.encoded(backend), ["0" * 64] * len(whole.prompts)
        monkeypatch.setattr(published, "eos_token_id", [])
        endless = backend.generate(inputs, Decoding(max_new_tokens=6), streams)
        monkeypatch.setattr(published, "eos_token_id", [endless[0].token_ids[2]])
        for decoding in (
            Decoding(max_new_tokens=6),
            Decoding(max_new_tokens=4, stop=(decode(endless[1].token_ids[1]),)),
        ):
            expected = backend.generate(inputs, decoding, streams)
            chosen = [*range(1, len(expected)), 0]
            generations, on_the_way = backend.generate_measured(inputs, decoding, streams, chosen)
            assert generations == expected
            assert "stop" in {generation.finish_reason for generation in generations}
            afterwards = backend.measure(inputs, [generation.token_ids for generation in generations])
            for one, other in zip(on_the_way, [afterwards[index] for index in chosen], strict=True):
                assert torch.equal(one.roles, other.roles)
                assert torch.equal(one.queries, other.queries)
                for name in GROUPS:
                    assert torch.allclose(one.mass[name], other.mass[name], rtol=1e-4, atol=1e-6), name


def test_one_conversation_is_measured_as_in_a_batch(backend: TransformersBackend) -> None:
    messages = [
        {"role": "user", "content": [{"type": "image", "image": picture(0)}, {"type": "text", "text": QUESTIONS[0]}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A circle."}]},
        {"role": "user", "content": [{"type": "image", "image": picture(1)}, {"type": "text", "text": QUESTIONS[2]}]},
    ]
    record = measure_attention(backend.model, backend.processor, messages, "Because.")
    response = backend.processor.tokenizer.encode("Because.", add_special_tokens=False)
    inputs = backend.encode([backend.render(messages)], [[picture(0), picture(1)]])
    (other,) = backend.measure(inputs, [response])
    assert torch.equal(record.roles, other.roles)
    assert all(torch.equal(record.mass[group], other.mass[group]) for group in GROUPS)


@pytest.mark.parametrize("backend", ["mllama"], indirect=True)
def test_what_llama_vision_cannot_do_is_refused(backend: TransformersBackend) -> None:
    system = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    with pytest.raises(BackendError, match="equal numbers of images"):
        batch(backend, (1, 0)).encoded(backend)
    with pytest.raises(BackendError, match="refuses a prompt: Prompting with images is incompatible"):
        backend.render([system, {"role": "user", "content": [{"type": "image"}]}])
    text = backend.render([system, {"role": "user", "content": [{"type": "text", "text": "Why?"}]}])
    assert "\n\nBe brief.<|eot_id|>" in text


@pytest.mark.parametrize(("backend", "sizes"), [("mllama", [3, 1, 2]), ("qwen2_5_vl", [3, 3])], indirect=["backend"])
def test_only_cross_attention_needs_batches_of_equal_numbers_of_images(
    backend: TransformersBackend, sizes: list[int]
) -> None:
    def question(number: int, images: int) -> RenderedQuestion:
        asked = Question(str(number), list, "task", measured=number < 3)
        return RenderedQuestion(asked, str(number), "Why?", ("picture",) * images, "protocol")

    questions = [question(number, images) for number, images in enumerate((1, 2, 1, 1, 1, 2))]
    batches = Batching(3, backend.markup.format.cross_attention, Ranks()).batches(questions)
    assert [len(of) for of in batches] == sizes
    assert backend.markup.format.cross_attention == all(
        len({len(one.image_sha256) for one in of}) == 1 for of in batches
    )
