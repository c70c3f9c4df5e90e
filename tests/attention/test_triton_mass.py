"""The Triton kernels against whole softmax maps in float64: masses, gradients, and what a layer asks of the GPU.

They run on a GPU, or in Triton's interpreter (`test_triton_in_interpreter.py` starts this file there).
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from eager_reference import in_eager_float64
from family_batches import POOLED, batches
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from operators import Operators
from test_families import compare, reference_of
from test_mass import (
    BY_DIFFERENCE,
    FORMS,
    SCALING,
    Case,
    cases,
    causal_case,
    check_masses_by_difference,
    long_case,
    reference,
)
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from avar_eval.attention import mass as mass_module
from avar_eval.attention.groups import KeyGroups
from avar_eval.attention.mass import attention_mass
from avar_eval.attention.visibility import Places, Visibility
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


@pytest.fixture
def _large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's time goes by blocks, not by their size."""
    if INTERPRETED:
        monkeypatch.setattr(triton_mass.Tile, "of", lambda *_: triton_mass.Tile(128, 64, 16, 4, 1))


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
        # where masses add up to 1 it is 0, but for the rounding of lse, times the keys
        assert error <= DTYPES[dtype] * float(of_reference.norm()) + 3e-5 * float(weights.norm())


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
    groups = KeyGroups.for_few_queries(case.groups) if few else KeyGroups.of(case.groups)
    compare_with_whole_maps(case, dtype, groups, given_lse)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [96, 128, 256])
def test_wide_heads(dim: int, dtype: torch.dtype) -> None:
    case = causal_case(length=70)
    generator = torch.Generator().manual_seed(2)
    case.query, case.key = (torch.randn(1, heads, 70, dim, generator=generator) / dim**0.25 for heads in (2, 1))
    case.groups, case.rows = case.groups[:1], range(30, 70)
    compare_with_whole_maps(case, dtype, KeyGroups.of(case.groups))


@pytest.mark.usefixtures("_large_blocks")
@pytest.mark.parametrize("sink_height", [0.0, 12.0])
def test_a_mass_by_difference_is_as_exact_as_is_said(sink_height: float) -> None:
    case = long_case(sink_height)
    groups = KeyGroups.of(case.groups, BY_DIFFERENCE).to(DEVICE)
    assert groups.blocks.difference
    masses = attention_mass(
        case.query.to(DEVICE), case.key.to(DEVICE), groups, case.visibility, scaling=SCALING, rows=case.rows
    )
    check_masses_by_difference(case, masses.cpu())


@pytest.mark.usefixtures("_large_blocks")
def test_gradients_are_the_same_in_every_run() -> None:
    case = causal_case(torch.bfloat16, length=70)
    groups, found = KeyGroups.of(case.groups).to(DEVICE), []
    for _ in range(2):
        query, key = (of.to(DEVICE).requires_grad_() for of in (case.query, case.key))
        masses = attention_mass(query, key, groups, case.visibility, scaling=SCALING)
        found.append(torch.autograd.grad(masses.log1p().sum(), (query, key)))
    assert all(map(torch.equal, *found))


class Watch(Operators):
    """Whether any operator makes the CPU wait for a GPU, too."""

    WAITING = ("aten::item", "aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::_to_copy")

    def launches(self) -> list[str]:
        """Those that run something on a GPU: not views, nor new memory."""
        views = (
            "view",
            "slice",
            "select",
            "expand",
            "detach",
            "alias",
            "empty",
            "new_empty",
            "empty_like",
            "as_strided",
        )
        return [name for name in self.names if name.removeprefix("aten::") not in views]


@pytest.mark.usefixtures("_large_blocks")
@pytest.mark.parametrize("scattered", [False, True])
def test_a_layer_costs_a_few_launches_and_waits_for_nothing(scattered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One kernel for the masses, and two operators and two kernels for the gradient, once the first layer has run."""
    case, launched = causal_case(length=70), []

    def counted(name: str, run: Any, *arguments: Any, **options: Any) -> Any:
        launched.append(name)
        with _disable_current_modes():  # the interpreter works with tensors
            return run(*arguments, **options)

    for name in ("masses", "on_all_keys", "joined", "query_gradient", "key_gradient"):
        kernel = getattr(triton_mass.kernels, name)
        monkeypatch.setattr(kernel, "run", partial(counted, name, kernel.run))
    groups = KeyGroups.of(case.groups).to(DEVICE)
    rows = Places(range(1, 70, 3)) if scattered else range(11, 60)
    query, key = (of.to(DEVICE).requires_grad_() for of in (case.query, case.key))
    lse = torch.randn(2, 6, 70, device=DEVICE)
    for layer in range(2):
        launched.clear()
        with Watch() as forward:
            masses = attention_mass(query, key, groups, case.visibility, scaling=SCALING, rows=rows, lse=lse)
        assert launched == ["masses"]
        gradient = torch.ones_like(masses)
        with Watch() as backward:
            torch.autograd.grad(masses, (query, key), gradient)
        assert launched == ["masses", "query_gradient", "key_gradient"]
        if layer:
            assert forward.launches() == []
            assert set(backward.launches()) <= {"aten::zeros_like", "aten::linalg_vector_norm"}
            assert len(backward.launches()) <= 3
            assert not {*forward.names, *backward.names} & {*Watch.WAITING}


@pytest.mark.usefixtures("_large_blocks")
def test_measures_by_the_kernels_equal_eager_float64(backend: TransformersBackend) -> None:
    reference, pool = in_eager_float64(backend.model), backend.checkpoint.name in POOLED
    whole = batches(backend)[0]
    records = backend.measure(whole.encoded(backend), whole.responses)
    for one, record in zip(whole.rows(), records, strict=True):
        with torch.no_grad():
            masses, _ = reference_of(reference, backend, one)
        compare(record, masses, has_image=bool(one.images[0]), pool=pool)
