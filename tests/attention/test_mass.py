"""Attention masses and their gradients against whole softmax maps in float64, over drawn shapes, masks and groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from avar_eval.attention import mass as mass_module
from avar_eval.attention.groups import KeyGroups
from avar_eval.attention.mass import attention_mass
from avar_eval.attention.normaliser import NormaliserTap
from avar_eval.attention.visibility import Visibility

DIM = 8
"""Of a head, where it is not drawn."""
SCALING = 0.4


@dataclass
class Case:
    """One attention problem. visible: the whole map of what may be seen, as the reference uses it."""

    query: Tensor
    key: Tensor
    groups: Tensor
    visibility: Visibility
    visible: Tensor
    bias: Tensor | None
    rows: Any
    softcap: float | None
    sink: Tensor | None = None


def reference(case: Case, query: Tensor, key: Tensor, sink: Tensor | None = None) -> Tensor:
    """Masses from the whole softmax map, in the precision of `query`."""
    scores = query @ key.repeat_interleave(query.shape[1] // key.shape[1], 1).transpose(-1, -2) * SCALING
    if case.softcap is not None:
        scores = case.softcap * torch.tanh(scores / case.softcap)
    if case.bias is not None:
        scores = scores + case.bias.double()
    scores = scores.masked_fill(~case.visible, float("-inf"))
    if sink is not None:  # as gpt-oss has it: one more column, which is dropped after the softmax
        scores = torch.cat([scores, sink[:, None, None].expand(*scores.shape[:3], 1)], -1)
    attention = scores.softmax(-1).nan_to_num(0.0)[..., : key.shape[2]]
    return (attention @ case.groups[:, None].double())[:, :, torch.tensor(list(case.rows))]


FORMS = ("positions", "bool mask", "float mask", "bias by head", "mask function")


@st.composite
def cases(
    draw: st.DrawFn,
    dims: Sequence[int] = (DIM,),
    most_queries: int = 24,
    most_before: int = 12,
    forms: Sequence[str] = FORMS,
) -> Case:
    batch, kv_heads, per_kv = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    queries, dim = draw(st.integers(1, most_queries)), draw(st.sampled_from(dims))
    keys = queries + draw(st.integers(0, most_before))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    heads = kv_heads * per_kv
    size = 2 * (DIM / dim) ** 0.25  # scores of one size
    query, key = random(batch, heads, queries, dim) * size, random(batch, kv_heads, keys, dim) * size
    groups = torch.rand(batch, keys, 3, generator=generator) < torch.tensor([0.05, 0.3, 0.8])
    offset = keys - queries
    own, positions = torch.arange(queries)[:, None] + offset, torch.arange(keys)[None]
    visible = (positions <= own).expand(batch, 1, queries, keys)
    options: dict[str, Any] = {"offset": offset}
    if draw(st.booleans()):
        options["window"] = draw(st.integers(1, keys))
        visible = visible & (positions > own - options["window"])
    if draw(st.booleans()):
        left, right = draw(st.integers(0, keys // 3)), draw(st.integers(0, keys // 3))
        options["padding"] = torch.ones(batch, keys, dtype=torch.bool)
        options["padding"][0, :left] = False
        options["padding"][-1, keys - right :] = False
        visible = visible & options["padding"][:, None, None]
    if draw(st.booleans()):
        options["segments"] = torch.rand(batch, keys, generator=generator).gt(0.8).cumsum(1)
        own_segment = options["segments"][:, offset:]
        visible = visible & (own_segment[:, None, :, None] == options["segments"][:, None, None])
    form = draw(st.sampled_from(forms))
    bias = None
    if form == "bool mask":
        options = {"causal": False, "mask": visible.contiguous()}
    elif form == "float mask":
        options = {"causal": False, "mask": torch.zeros(visible.shape).masked_fill(~visible, float("-inf"))}
    elif form == "bias by head":
        bias = random(batch, heads, queries, keys)
        options["mask"] = bias
    elif form == "mask function":
        whole = visible.expand(batch, 1, queries, keys)
        options = {"causal": False, "mask_function": lambda b, h, q, k: whole[b, h, q, k]}
    rows = draw(st.sampled_from(["all", "range", "scattered"]))
    chosen: Any = range(queries)
    if rows == "range":
        first = draw(st.integers(0, queries - 1))
        chosen = range(first, draw(st.integers(first + 1, queries)))
    elif rows == "scattered":
        chosen = tuple(sorted(draw(st.sets(st.integers(0, queries - 1), min_size=1))))
    softcap = draw(st.sampled_from([None, None, 3.0]))
    sink = random(heads) * 3 if draw(st.booleans()) else None
    return Case(query, key, groups, Visibility(**options), visible, bias, chosen, softcap, sink)


def masses_of(
    case: Case,
    query: Tensor,
    key: Tensor,
    sink: Tensor | None = None,
    lse: Tensor | None = None,
    groups: KeyGroups | None = None,
) -> Tensor:
    return attention_mass(
        query,
        key,
        groups or KeyGroups.of(case.groups),
        case.visibility,
        scaling=SCALING,
        rows=case.rows,
        lse=lse,
        softcap=case.softcap,
        sink=sink,
    )


@settings(max_examples=150, deadline=None)
@given(case=cases(), block=st.sampled_from([1, 1 << 8, 1 << 19]), tile=st.sampled_from([1, 5, 1024]))
def test_masses_and_gradients_equal_whole_maps_in_float64(case: Case, block: int, tile: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mass_module._BLOCK_ELEMENTS, "cpu", block)
        patch.setitem(mass_module._TILE_KEYS, "cpu", tile)
        inputs = [of.clone().requires_grad_() for of in (case.query, case.key, case.sink) if of is not None]
        masses = masses_of(case, *inputs)
        weights = torch.randn(masses.shape, generator=torch.Generator().manual_seed(0))
        gradients = torch.autograd.grad((masses * weights).sum(), inputs)
    exact = [of.detach().double().requires_grad_() for of in inputs]
    expected = reference(case, *exact)
    expected_gradients = torch.autograd.grad((expected * weights.double()).sum(), exact)
    assert torch.allclose(masses.double(), expected, rtol=1e-5, atol=1e-9)
    on_all_keys = masses_of(case, *inputs, groups=KeyGroups.for_few_queries(case.groups))
    assert torch.allclose(on_all_keys.double(), expected, rtol=1e-5, atol=1e-9)
    gradients_on_all_keys = torch.autograd.grad((on_all_keys * weights).sum(), inputs)
    for found in (gradients, gradients_on_all_keys):
        for gradient, wanted in zip(found, expected_gradients, strict=True):
            # where masses add up to 1 it is 0, but for the rounding of lse, times the keys
            assert float((gradient - wanted).norm()) <= 1e-4 * float(wanted.norm()) + 3e-5 * float(weights.norm())


def causal_case(dtype: torch.dtype = torch.float32, length: int = 40) -> Case:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 6, length, DIM, generator=generator).to(dtype)
    key = torch.randn(2, 2, length, DIM, generator=generator).to(dtype)
    groups = torch.zeros(2, length, 2, dtype=torch.bool)
    groups[:, :5, 0] = True
    groups[0, 5:17, 1] = groups[1, 9:12, 1] = groups[1, 20:26, 1] = True
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    return Case(query, key, groups, Visibility(), visible, None, range(11, 31), None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_masses_from_the_kernels_own_normaliser(dtype: torch.dtype, mode: Any) -> None:
    """PyTorch's CPU kernel approximates the exponential (to 6e-5) in half precision: there it is not asked."""
    case = causal_case(dtype)
    value = torch.randn(2, 2, 40, DIM).to(dtype)
    with mode():
        plain = F.scaled_dot_product_attention(
            case.query, case.key, value, is_causal=True, scale=SCALING, enable_gqa=True
        )
        with NormaliserTap() as tap:
            tapped = F.scaled_dot_product_attention(
                case.query, case.key, value, is_causal=True, scale=SCALING, enable_gqa=True
            )
        lse = tap.lse(case.query)
        assert torch.equal(plain, tapped)
        assert (lse is not None) == (dtype == torch.float32)
        masses = masses_of(case, case.query, case.key, lse=lse)
    assert masses.dtype == torch.float32
    expected = reference(case, case.query.double(), case.key.double())
    assert torch.allclose(masses.double(), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention"])
def test_a_kernel_that_keeps_its_normaliser_without_a_gradient_is_asked_for_it(name: str) -> None:
    """A GPU's kernels, with their own names and arguments: both give an empty one if nothing asks."""
    known = getattr(torch.ops.aten, name).default._schema
    asked = [argument.name for argument in known.arguments].index("compute_log_sumexp")
    query, key = causal_case().query, causal_case().key
    heard: list[bool] = []

    def kernel(query: Tensor, key: Tensor, bias: Tensor | None, compute_log_sumexp: bool) -> tuple[Tensor, Tensor]:
        heard.append(compute_log_sumexp)
        lse = query.sum(-1) if compute_log_sumexp else query.new_empty(*query.shape[:2], 0)
        return query.clone(), lse

    with torch.library._scoped_library("avar_tests", "DEF") as library:
        library.define(f"{name}(Tensor query, Tensor key, Tensor? bias, bool compute_log_sumexp) -> (Tensor, Tensor)")
        library.impl(name, kernel, "CPU")
        operator = getattr(torch.ops.avar_tests, name)
        with torch.no_grad(), NormaliserTap() as tap:
            output, _ = operator(query, key, None, False)
    assert (asked, known.arguments[asked].default_value) == (4, None), "PyTorch passes it by its place"
    assert heard == [True]
    assert torch.equal(output, query)
    lse = tap.lse(query)
    assert lse is not None
    assert torch.equal(lse, query.sum(-1))


def test_gradients_of_half_precision_inputs_are_accumulated_in_float32() -> None:
    case = causal_case(torch.bfloat16)
    query, key = case.query.clone().requires_grad_(), case.key.clone().requires_grad_()
    gradients = torch.autograd.grad(masses_of(case, query, key)[..., 0].log().sum(), (query, key))
    exact = [case.query.double().requires_grad_(), case.key.double().requires_grad_()]
    expected = torch.autograd.grad(reference(case, *exact)[..., 0].log().sum(), exact)
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert gradient.dtype == torch.bfloat16
        assert torch.allclose(gradient.double(), wanted, rtol=2**-8, atol=1e-6)  # one rounding to bfloat16


def test_gradients_are_not_rounded_by_an_autocast_around_backward() -> None:
    case = causal_case(torch.float32)
    gradients = []
    for enabled in (False, True):
        query, key = case.query.clone().requires_grad_(), case.key.clone().requires_grad_()
        loss = masses_of(case, query, key)[..., 0].log().sum()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            gradients.append(torch.autograd.grad(loss, (query, key)))
    for plain, cast in zip(*gradients, strict=True):
        assert torch.equal(plain, cast)


def test_a_decode_step_equals_the_row_of_the_whole_sequence() -> None:
    case = causal_case()
    whole = masses_of(case, case.query, case.key)
    for position in case.rows:
        step = attention_mass(
            case.query[:, :, position : position + 1],
            case.key[:, :, : position + 1],
            KeyGroups.for_few_queries(case.groups[:, : position + 1]),
            Visibility(offset=position),
            scaling=SCALING,
        )
        assert torch.allclose(step[:, :, 0], whole[:, :, position - case.rows.start], rtol=1e-5)


def test_a_query_that_sees_nothing_has_no_mass_and_no_gradient() -> None:
    case = causal_case()
    padding = torch.ones(2, 40, dtype=torch.bool)
    padding[0, :15] = False
    query = case.query.clone().requires_grad_()
    masses = attention_mass(
        query, case.key, KeyGroups.of(case.groups), Visibility(padding=padding), scaling=SCALING, lse=None
    )
    assert float(masses[0, :, :15].detach().abs().sum()) == 0
    (gradient,) = torch.autograd.grad(masses.sum(), query)
    assert gradient.isfinite().all()
    assert float(gradient[0, :, :15].abs().sum()) == 0


def test_groups_without_any_key_have_mass_zero() -> None:
    case = causal_case()
    case.groups = torch.zeros_like(case.groups)
    assert masses_of(case, case.query.requires_grad_(), case.key).eq(0).all()


def test_gradcheck_in_float64() -> None:
    case = causal_case(torch.float64, length=40)
    case.softcap = 5.0
    case.rows = (3, 17, 30)
    query, key = case.query[:1, :2].clone().requires_grad_(), case.key[:1, :1].clone().requires_grad_()
    case.groups = case.groups[:1]
    assert torch.autograd.gradcheck(lambda q, k: masses_of(case, q, k), (query, key))


def long_case(sink_height: float = 0.0) -> Case:
    """Half of the keys are one group, whose mass may be had by difference; all queries see the first key alike.

    sink_height: how much higher their score on it is.
    """
    length, generator = 640, torch.Generator().manual_seed(3)
    query, key = (torch.randn(2, heads, length, DIM, generator=generator) for heads in (4, 2))
    query[..., 0], key[..., 0] = 1.0, 0.0
    key[:, :, 0] = torch.eye(DIM)[0] * sink_height / SCALING
    groups = torch.zeros(2, length, 4, dtype=torch.bool)
    groups[:, 0, 0] = groups[:, :30, 1] = groups[:, 30:200, 2] = groups[:, 300:, 3] = True
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    return Case(query, key, groups, Visibility(), visible, None, range(250, length), None)


BY_DIFFERENCE = (3,)


def check_masses_by_difference(case: Case, masses: Tensor) -> None:
    """5e-6 of the whole, and 1e-3 of themselves; nothing is negative, and what cannot be seen has mass 0."""
    expected = reference(case, case.query.double(), case.key.double())
    assert float((masses - expected).abs().max()) <= 5e-6
    assert torch.allclose(masses.double(), expected, rtol=1e-3, atol=0)
    assert torch.allclose(masses[..., :3].double(), expected[..., :3], rtol=1e-5, atol=1e-12)
    assert masses[:, :, :50, 3].eq(0).all()


@pytest.mark.parametrize("sink_height", [0.0, 4.0, 12.0])
def test_a_mass_by_difference_is_as_exact_as_is_said(sink_height: float) -> None:
    case = long_case(sink_height)
    groups = KeyGroups.of(case.groups, BY_DIFFERENCE)
    assert groups.residual == 3
    assert groups.without_residual.positions.shape[1] == 300
    check_masses_by_difference(case, masses_of(case, case.query, case.key, groups=groups))


def test_a_mass_by_difference_reads_nothing_that_it_need_not(monkeypatch: pytest.MonkeyPatch) -> None:
    case = long_case()
    case.rows = range(320, 640)
    groups, read = KeyGroups.of(case.groups, BY_DIFFERENCE), []
    plain = mass_module._SelectedKeys.of
    monkeypatch.setattr(
        mass_module._SelectedKeys, "of", lambda key, of: read.append(of.positions.shape[1]) or plain(key, of)
    )
    masses_of(case, case.query, case.key, groups=groups)
    assert read == [300]
