"""The Triton kernels against whole softmax maps in float64: masses, gradients, and what a layer asks of the GPU.

They run on a GPU, or in Triton's interpreter (`test_triton_in_interpreter.py` starts this file there).
"""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from eager_reference import in_eager_float64
from family_batches import POOLED, batches
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_families import compare, reference_of
from test_mass import FORMS, SCALING, Case, cases, causal_case, reference
from torch import Tensor

from avar_eval.attention import mass as mass_module
from avar_eval.attention.groups import KeyGroups
from avar_eval.attention.mass import attention_mass
from avar_eval.attention.visibility import Visibility
from avar_eval.models.transformers_backend import TransformersBackend

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
triton_mass = pytest.importorskip("avar_eval.attention.triton_mass")
pytestmark = [] if INTERPRETED else [pytest.mark.gpu]  # test_triton_in_interpreter.py runs it elsewhere
DTYPES = {torch.float32: 1e-4, torch.bfloat16: 3e-3, torch.float16: 3e-3}
"""Inputs, and the relative error that gradients may have."""


@pytest.fixture(autouse=True, scope="module")
def _kernels() -> Iterator[None]:
    """In the interpreter, too, masses are those of the kernels."""
    with pytest.MonkeyPatch.context() as patch:
        if INTERPRETED:
            from triton_interpreter import mend_bfloat16

            mend_bfloat16(patch)
            patch.setattr(mass_module, "kernels_run_on", lambda device: True)
        yield


def on(device: torch.device, visibility: Visibility) -> Visibility:
    parts = {name: getattr(visibility, name) for name in ("padding", "segments", "mask")}
    return replace(visibility, **{name: part if part is None else part.to(device) for name, part in parts.items()})


def compare_with_whole_maps(case: Case, dtype: torch.dtype, groups: KeyGroups, given_lse: bool = False) -> None:
    """Masses within 1e-5, and gradients of random weights within what `DTYPES` says."""
    states = [of.to(DEVICE, dtype).requires_grad_() for of in (case.query, case.key)]
    sink = None if case.sink is None else case.sink.to(DEVICE).requires_grad_()
    inputs = [*states, *([] if sink is None else [sink])]
    exact = [of.detach().cpu().double().requires_grad_() for of in inputs]
    expected = reference(case, *exact)
    masses = attention_mass(
        *states,
        groups.to(DEVICE),
        on(DEVICE, case.visibility),
        scaling=SCALING,
        rows=case.rows,
        lse=whole_lse(case, *exact[:2]).float().to(DEVICE) if given_lse else None,
        softcap=case.softcap,
        sink=sink,
    )
    assert masses.dtype == torch.float32
    error = float((masses.detach().cpu() - expected.detach()).abs().max())
    assert error <= 1e-5
    assert float(masses.detach().min()) >= 0
    weights = torch.randn(masses.shape, generator=torch.Generator().manual_seed(0))
    gradients = torch.autograd.grad((masses * weights.to(DEVICE)).sum(), inputs)
    wanted = torch.autograd.grad((expected * weights.double()).sum(), exact)
    for gradient, of, of_reference in zip(gradients, inputs, wanted, strict=True):
        assert gradient.dtype == of.dtype
        error = float((gradient.cpu().double() - of_reference).norm())
        # it is 0, but for rounding, where masses add up to 1
        assert error <= DTYPES[dtype] * (float(of_reference.norm()) + float(weights.norm()) * 1e-2)


def whole_lse(case: Case, query: Tensor, key: Tensor) -> Tensor:
    """What an attention kernel gives beside its output; 0, as one of them does, where a query sees nothing."""
    with torch.no_grad():
        scores = query @ key.repeat_interleave(query.shape[1] // key.shape[1], 1).transpose(-1, -2) * SCALING
        if case.softcap is not None:
            scores = case.softcap * torch.tanh(scores / case.softcap)
        if case.bias is not None:
            scores = scores + case.bias.double()
        lse = scores.masked_fill(~case.visible, float("-inf")).logsumexp(-1)
        return lse.masked_fill(lse.isinf(), 0)


# in the interpreter an example takes a second: they are not made smaller
@settings(max_examples=16, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    case=cases(dims=(8, 16, 24, 64), most_queries=90, most_before=70, forms=FORMS[:-1]),
    dtype=st.sampled_from(list(DTYPES)),
    given_lse=st.booleans(),
    few=st.booleans(),
)
def test_masses_and_gradients_equal_whole_maps_in_float64(
    case: Case, dtype: torch.dtype, given_lse: bool, few: bool
) -> None:
    groups = KeyGroups.of_few_queries(case.groups) if few else KeyGroups.of(case.groups)
    compare_with_whole_maps(case, dtype, groups, given_lse)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [96, 128, 256])
def test_wide_heads(dim: int, dtype: torch.dtype) -> None:
    case = causal_case(length=70)
    generator = torch.Generator().manual_seed(2)
    case.query, case.key = (torch.randn(1, heads, 70, dim, generator=generator) / dim**0.25 for heads in (2, 1))
    case.groups, case.rows = case.groups[:1], range(30, 70)
    compare_with_whole_maps(case, dtype, KeyGroups.of(case.groups))


def test_measures_by_the_kernels_equal_eager_float64(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    if INTERPRETED:  # whose time goes by blocks, not by their size
        monkeypatch.setattr(triton_mass.Tile, "of", lambda *_: triton_mass.Tile(128, 64, 16, 4, 1))
    reference, pool = in_eager_float64(backend.model), backend.checkpoint.name in POOLED
    whole = batches(backend)[0]
    records = backend.measure(whole.encoded(backend), whole.responses)
    for one, record in zip(whole.rows(), records, strict=True):
        with torch.no_grad():
            masses, _ = reference_of(reference, backend, one)
        compare(record, masses, has_image=bool(one.images[0]), pool=pool)
