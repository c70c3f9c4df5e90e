"""Observing models: what is captured equals eager float64 maps, and the model does not notice."""

import threading
from functools import partial
from typing import Any

import pytest
import torch
from decoders import (
    HEADS,
    LAYERS,
    batch,
    eager_copy,
    eager_maps,
    flash_attention,
    gemma,
    groups_of,
    labels_of,
    qwen,
    roles_of,
)
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from avar_eval.attention.mass import attention_mass
from avar_eval.attention.objectives import attention_losses
from avar_eval.attention.observe import GROUPS, ObserveError, key_groups, observe
from avar_eval.attention.roles import Role, TokenRoles

ROLES = roles_of("--sssstvvvvvvvtuuuuutrrrr", "ssstvvvvttvvvvtuuuuuutrrr", "-----sssstvvtuuuuuutrrr--")
PLAIN = roles_of("sssstvvvvvvvtuuuuutrrrrrr")


def close(measured: Tensor, expected: Tensor) -> bool:
    return torch.allclose(measured.double(), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("make", "implementation"),
    [(qwen, "sdpa"), (qwen, "eager"), (gemma, "sdpa"), (gemma, "eager"), (gemma, "flex_attention")],
)
@pytest.mark.parametrize("roles", [ROLES, PLAIN], ids=["padded", "plain"])
def test_masses_equal_eager_maps_and_logits_are_bitwise_the_same(make: Any, implementation: str, roles: Any) -> None:
    model, inputs = make(implementation), batch(roles)
    with torch.no_grad():
        plain = model(**inputs, use_cache=False).logits
        with observe(model, roles) as observation:
            observed = model(**inputs, use_cache=False).logits
        expected = groups_of(eager_maps(eager_copy(model), inputs)[0], key_groups(roles))
    assert torch.equal(plain, observed)
    wanted = observation.query_mask(Role.USER) | observation.query_mask(Role.RESPONSE)
    measured = observation.masses().permute(1, 3, 0, 2, 4)[wanted]
    assert close(measured, expected[:, :, :, observation.positions].permute(1, 3, 0, 2, 4)[wanted])
    assert torch.allclose(measured[..., 1:].sum(-1), torch.ones(()))


def test_chosen_layers_queries_groups_and_reduced_heads() -> None:
    model, inputs = qwen(), batch(PLAIN)
    with torch.no_grad(), observe(model, PLAIN) as whole:
        model(**inputs, use_cache=False)
    with (
        torch.no_grad(),
        observe(model, PLAIN, layers=[2, 0], queries="user", groups=["image"], reduce_heads=True) as part,
    ):
        model(**inputs, use_cache=False)
    assert part.positions == list(range(13, 18))
    user = whole.mass("image")[:, :, :, whole.query_mask(Role.USER)[0]]
    assert torch.allclose(part.masses()[..., 0], user[[0, 2]].mean(2, keepdim=True))


@pytest.mark.parametrize(
    ("make", "implementation"), [(qwen, "sdpa"), (qwen, "eager"), (gemma, "sdpa"), (gemma, "flex_attention")]
)
def test_some_sequences_of_a_batch_are_captured_alone(make: Any, implementation: str) -> None:
    model, inputs = make(implementation), batch(ROLES)
    with torch.no_grad(), observe(model, ROLES) as whole:
        model(**inputs, use_cache=False)
    with torch.no_grad(), observe(model, ROLES, sequences=[1, 0]) as part:
        model(**inputs, use_cache=False)
    index = [whole.positions.index(position) for position in part.positions]
    wanted = part.query_mask(Role.USER) | part.query_mask(Role.RESPONSE)
    expected = whole.masses()[:, [1, 0]][:, :, :, index].permute(1, 3, 0, 2, 4)[wanted]
    assert len(index) < len(whole.positions)
    assert torch.allclose(part.masses().permute(1, 3, 0, 2, 4)[wanted], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("make", [qwen, gemma])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("chosen", [[0, 1, 2], [2, 0]], ids=["all", "some"])
def test_generation_gives_the_masses_of_one_pass_over_its_result(make: Any, cache: str, chosen: list[int]) -> None:
    roles = roles_of("--sssstvvvvvvvtuuuuut", "ssstvvvvttvvvvtuuuuut", "-----sssstvvtuuuuuuut")
    model, inputs = make(), batch(roles)
    options = {"max_new_tokens": 40, "min_new_tokens": 40, "do_sample": False, "pad_token_id": 0}
    if cache == "static":
        options |= {"cache_implementation": "static", "disable_compile": True}
    plain = model.generate(**inputs, **options)
    with observe(model, roles, sequences=chosen) as generated:
        sequences = model.generate(**inputs, **options)
    assert torch.equal(plain, sequences)
    width = sequences.shape[1] - 1  # the last token was never a query
    codes = torch.full((3, width), int(Role.RESPONSE))
    codes[:, : roles.codes.shape[1]] = roles.codes
    final = TokenRoles(codes)
    present = (codes != Role.PADDING).long()
    with torch.no_grad(), observe(model, final) as prefilled:
        model(input_ids=sequences[:, :width], attention_mask=present, use_cache=False)
    index = [prefilled.positions.index(position) for position in generated.positions]
    wanted = (prefilled.query_mask(Role.USER) | prefilled.query_mask(Role.RESPONSE))[chosen][:, index]
    assert int(wanted.sum()) >= len(chosen) * 39
    expected = prefilled.masses()[:, chosen][:, :, :, index]
    difference = (generated.masses() - expected).permute(1, 3, 0, 2, 4)[wanted]
    # Shares of attention, of which 1e-5 is asked: a pass with a cache rounds otherwise than one without.
    assert float(difference.abs().max()) < 5e-6


def test_a_cache_that_was_cut_back_is_refused() -> None:
    model, inputs = qwen(), batch(PLAIN)
    options = {"max_new_tokens": 14, "min_new_tokens": 14, "do_sample": False, "pad_token_id": 0}
    with observe(model, PLAIN), pytest.raises(ObserveError, match="begin with an empty one"):
        model.generate(**inputs, **options, prompt_lookup_num_tokens=3)


def test_a_cache_that_was_filled_elsewhere_is_refused() -> None:
    model, ids = qwen(), batch(PLAIN)["input_ids"]
    cache = DynamicCache(config=model.config.get_text_config())
    model(input_ids=ids[:, :5], past_key_values=cache, use_cache=True)
    with observe(model, PLAIN), pytest.raises(ObserveError, match="holds 5 tokens, of which 0 were observed"):
        model(input_ids=ids[:, 5:], past_key_values=cache, use_cache=True)


def test_a_prompt_in_chunks_gives_the_masses_of_one_pass() -> None:
    model, ids = qwen(), batch(PLAIN)["input_ids"]
    with torch.no_grad(), observe(model, PLAIN) as whole:
        model(input_ids=ids, use_cache=False)
    with torch.no_grad(), observe(model, PLAIN) as chunked:
        cache = DynamicCache(config=model.config.get_text_config())
        for part in ids.split(9, 1):
            model(input_ids=part, past_key_values=cache, use_cache=True)
    assert chunked.positions == whole.positions
    assert torch.allclose(chunked.masses(), whole.masses(), atol=1e-5)


@pytest.mark.parametrize("reduce_heads", [False, True])
def test_a_batch_without_such_queries_has_no_masses(reduce_heads: bool) -> None:
    model, roles = qwen(), roles_of("sssstvvvvvvvtuuuuut")
    with torch.no_grad(), observe(model, roles, queries="response", reduce_heads=reduce_heads) as observation:
        model(**batch(roles), use_cache=False)
    assert observation.positions == []
    assert observation.masses().shape == (LAYERS, 1, 1 if reduce_heads else HEADS, 0, len(GROUPS))
    assert observation.query_mask(Role.RESPONSE).shape == (1, 0)


def test_a_part_of_the_heads_is_refused() -> None:
    model = qwen()
    for layer in model.model.language_model.layers:  # as tensor parallelism leaves them on each device
        attention = layer.self_attn
        attention.q_proj, attention.o_proj = torch.nn.Linear(32, 16), torch.nn.Linear(16, 32)
        attention.k_proj, attention.v_proj = torch.nn.Linear(32, 8), torch.nn.Linear(32, 8)
    with observe(model, PLAIN), pytest.raises(ObserveError, match="2 of 4 heads are here"):
        model(**batch(PLAIN), use_cache=False)


def agto(image: Tensor, system: Tensor, roles: TokenRoles, queries: Tensor) -> Tensor:
    counts = [roles.mask(role).sum(1) for role in (Role.IMAGE, Role.SYSTEM)]
    losses = attention_losses(image, system, queries, *counts)
    return 0.15 * losses.enhance_image + 0.15 * losses.suppress_system


def eager_loss(reference: Any, inputs: dict[str, Tensor], roles: TokenRoles, query: Role) -> Tensor:
    """L_LM + 0.15 Eq. 5 + 0.15 Eq. 6, written from the equations, sequence by sequence, over whole maps."""
    maps, logits = eager_maps(reference, inputs)
    total = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels_of(inputs)[:, 1:].flatten())
    for row in range(len(roles.codes)):
        of_query, of_image, of_system = (roles.mask(role)[row] for role in (query, Role.IMAGE, Role.SYSTEM))
        logs = []
        for attention in maps:
            for head in attention[row]:
                image = head[of_query][:, of_image].sum() / (of_query.sum() * of_image.sum())
                system = head[of_query][:, of_system].sum() / (of_query.sum() * of_system.sum())
                logs.append(0.15 * (system + 1e-6).log() - 0.15 * image.log())
        total = total + torch.stack(logs).mean() / len(roles.codes)
    return total


@pytest.mark.parametrize("checkpointing", ["off", "on", "backward after the context"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("query", [Role.USER, Role.RESPONSE])
def test_losses_and_gradients_of_all_parameters_equal_eager_float64(
    checkpointing: str, implementation: str, query: Role
) -> None:
    functions = dict(ALL_ATTENTION_FUNCTIONS)
    model, inputs = qwen(implementation).train(), batch(ROLES)
    if checkpointing != "off":
        model.gradient_checkpointing_enable()
    with observe(model, ROLES, queries=query.name.lower(), groups=("system", "image")) as observation:
        out = model(**inputs, labels=labels_of(inputs), use_cache=False)
        auxiliary = agto(observation.mass("image"), observation.mass("system"), ROLES, observation.query_mask(query))
        loss = out.loss + auxiliary
        if checkpointing != "backward after the context":
            loss.backward()
            assert observation.masses().shape[0] == LAYERS  # the recomputation is not counted
    if checkpointing == "backward after the context":
        loss.backward()
    assert dict(ALL_ATTENTION_FUNCTIONS) == functions
    reference = eager_copy(model)
    expected = eager_loss(reference, inputs, ROLES, query)
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    wanted = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    for name, parameter in model.named_parameters():
        if parameter.grad is None:  # the vision tower
            assert "visual" in name
            continue
        difference = float((parameter.grad - wanted[name]).norm())
        # a key bias shifts every score of a query alike: its exact gradient from the softmax is 0
        assert difference <= 1e-4 * float(wanted[name].norm()) + (1e-6 if "k_proj.bias" in name else 0), name


def test_reentrant_checkpointing_is_refused() -> None:
    model, inputs = qwen().train(), batch(PLAIN)
    model.gradient_checkpointing_enable({"use_reentrant": True})
    with pytest.raises(ObserveError, match="use_reentrant"), observe(model, PLAIN):
        pass
    model.gradient_checkpointing_disable()
    own_layers = [type(layer).forward for layer in model.model.language_model.layers]
    assert own_layers
    layer = model.model.language_model.layers[1]
    plain = layer.forward
    layer.forward = lambda hidden, **rest: checkpoint(partial(plain, **rest), hidden, use_reentrant=True)
    model.enable_input_require_grads()
    with observe(model, PLAIN), pytest.raises(ObserveError, match="use_reentrant"):
        model(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()


def test_a_backward_of_an_earlier_batch_is_refused_under_checkpointing() -> None:
    model, inputs = qwen().train(), batch(PLAIN)
    model.gradient_checkpointing_enable()
    with observe(model, PLAIN) as observation:
        first = model(**inputs, use_cache=False).logits.sum() + observation.masses().log().mean()
        observation.start(PLAIN)
        second = model(**inputs, use_cache=False).logits.sum() + observation.masses().log().mean()
        with pytest.raises(ObserveError, match="before the next start"):
            (first + second).backward()


def test_transformers_is_as_it_was_after_leaving_and_after_errors() -> None:
    model = qwen()
    before = dict(ALL_ATTENTION_FUNCTIONS)
    with pytest.raises(ZeroDivisionError), observe(model, PLAIN):
        raise ZeroDivisionError
    assert dict(ALL_ATTENTION_FUNCTIONS) == before
    with observe(model, PLAIN) as outer:
        with pytest.raises(ObserveError, match="already"), observe(model, PLAIN):
            pass
        model(**batch(PLAIN), use_cache=False)
    assert outer.masses().shape[:3] == (LAYERS, 1, HEADS)
    assert dict(ALL_ATTENTION_FUNCTIONS) == before
    assert model.config.get_text_config()._attn_implementation == "sdpa"


def test_two_threads_observe_two_models() -> None:
    models, everyone = [qwen(), gemma(), qwen("eager")], [PLAIN, ROLES, ROLES]
    found: dict[int, Tensor] = {}

    def run(index: int) -> None:
        for _ in range(5):
            with torch.no_grad(), observe(models[index], everyone[index]) as observation:
                models[index](**batch(everyone[index]), use_cache=False)
            found[index] = observation.masses()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(3):
        with torch.no_grad(), observe(models[index], everyone[index]) as observation:
            models[index](**batch(everyone[index]), use_cache=False)
        assert torch.equal(found[index], observation.masses())


def test_a_new_pass_replaces_the_last_one() -> None:
    model = qwen()
    with torch.no_grad(), observe(model, PLAIN) as observation:
        for seed in (0, 1):
            model(**batch(PLAIN, seed), use_cache=False)
        second = observation.masses()
        observation.start(ROLES)
        model(**batch(ROLES), use_cache=False)
        assert observation.masses().shape[1] == 3
    with torch.no_grad(), observe(model, PLAIN) as alone:
        model(**batch(PLAIN, 1), use_cache=False)
    assert torch.equal(second, alone.masses())


@pytest.mark.parametrize("model", [gemma()])
def test_packed_sequences_do_not_see_each_other(model: Any) -> None:
    one, two = roles_of("ssstvvvvtuuuutrrr"), roles_of("sstvvtuuuuutrr")
    packed = TokenRoles(
        torch.cat([one.codes, two.codes], 1), torch.tensor([[0] * one.codes.shape[1] + [1] * two.codes.shape[1]])
    )
    ids = torch.cat([batch(one)["input_ids"], batch(two, 1)["input_ids"]], 1)
    positions = torch.cat([torch.arange(one.codes.shape[1]), torch.arange(two.codes.shape[1])])[None]
    with torch.no_grad(), observe(model, packed) as observation:
        model(input_ids=ids, position_ids=positions, use_cache=False)
    together, at = observation.masses(), 0
    for roles, seed in ((one, 0), (two, 1)):
        width = roles.codes.shape[1]
        with torch.no_grad(), observe(model, roles) as alone:
            model(**batch(roles, seed), use_cache=False)
        columns = [observation.positions.index(at + position) for position in alone.positions]
        assert torch.allclose(together[:, :, :, columns], alone.masses(), atol=2e-6)
        at += width


@pytest.mark.parametrize("make", [qwen, gemma])
@pytest.mark.parametrize("roles", [ROLES, PLAIN], ids=["padded", "plain"])
def test_padding_and_windows_are_read_as_flash_attention_reads_them(
    make: Any, roles: TokenRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_attention_2", flash_attention)
    model, inputs = make(), batch(roles)
    model.config.get_text_config()._attn_implementation = "flash_attention_2"
    with torch.no_grad(), observe(model, roles) as observation:
        model(**inputs, use_cache=False)
        expected = groups_of(eager_maps(eager_copy(model), inputs)[0], key_groups(roles))
    wanted = observation.query_mask(Role.USER) | observation.query_mask(Role.RESPONSE)
    measured = observation.masses().permute(1, 3, 0, 2, 4)[wanted]
    assert close(measured, expected[:, :, :, observation.positions].permute(1, 3, 0, 2, 4)[wanted])
    generated = model.generate(**inputs, max_new_tokens=5, do_sample=False, pad_token_id=0)
    with observe(model, roles) as stepwise:
        assert torch.equal(generated, model.generate(**inputs, max_new_tokens=5, do_sample=False, pad_token_id=0))
    final = TokenRoles(torch.nn.functional.pad(roles.codes, (0, 5), value=int(Role.RESPONSE)))
    of_response = stepwise.masses().permute(1, 3, 0, 2, 4)[stepwise.query_mask(Role.RESPONSE, final)]
    assert torch.allclose(of_response[..., 1:].sum(-1), torch.ones(()))


def test_packed_sequences_are_read_as_flash_attention_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_attention_2", flash_attention)
    model = gemma()
    model.config._attn_implementation = "flash_attention_2"
    test_packed_sequences_do_not_see_each_other(model)


def test_a_compiled_model_gives_the_same_masses() -> None:
    model, inputs = qwen(), batch(PLAIN)
    with torch.no_grad(), observe(model, PLAIN) as plain:
        model(**inputs, use_cache=False)
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        compiled(**inputs, use_cache=False)  # compiled without an observer: must not be used with one
        with observe(compiled, PLAIN) as observation:
            compiled(**inputs, use_cache=False)
    assert torch.allclose(observation.masses(), plain.masses(), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"layers": [3]}, "layers must be"), ({"layers": []}, "layers must be"), ({"groups": ["sytem"]}, "sytem")],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ObserveError, match=message), observe(qwen(), PLAIN, **options):
        pass


def test_what_cannot_be_captured_is_an_error() -> None:
    model, inputs = qwen(), batch(PLAIN)
    with observe(model) as observation:
        with pytest.raises(ObserveError, match="roles"):
            model(**inputs, use_cache=False)
        with pytest.raises(ObserveError, match="nothing was captured"):
            observation.masses()
        observation.start(ROLES)
        with pytest.raises(ObserveError, match="roles of 3 sequences were given, but the model runs 1"):
            model(**inputs, use_cache=False)
    model.config.get_text_config()._attn_implementation = "paged|eager"
    with pytest.raises(ObserveError, match="cannot be observed"), observe(model, PLAIN):
        pass


def test_groups_partition_a_sequence() -> None:
    membership = key_groups(ROLES)
    present = ROLES.codes != Role.PADDING
    assert torch.equal(membership[..., 1:].sum(-1).bool(), present)
    assert int(membership[..., GROUPS.index("sink")].sum()) == 3


def test_autocast_does_not_round_the_masses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed under bfloat16 autocast, as in training, is what the same queries and keys give without it."""
    computed: list[tuple[Any, Any, Any]] = []

    def spy(*arguments: Any, **options: Any) -> Any:
        masses = attention_mass(*arguments, **options)
        computed.append((arguments, options, masses))
        return masses

    monkeypatch.setattr("avar_eval.attention.interface.attention_mass", spy)
    model = qwen()
    with torch.autocast("cpu", dtype=torch.bfloat16), observe(model, PLAIN):
        model(**batch(PLAIN), use_cache=False)
    assert len(computed) == LAYERS
    for arguments, options, masses in computed:
        assert torch.equal(masses, attention_mass(*arguments, **options))
