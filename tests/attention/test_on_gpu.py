"""What only a GPU shows: its kernels' normalisers against float64, no waiting for it in a pass, the same text.

References are computed on the CPU.
"""

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from decoders import batch, eager_copy, eager_maps, groups_of, qwen, roles_of
from torch import Tensor
from torch.nn.attention import SDPBackend, activate_flash_attention_impl, restore_flash_attention_impl, sdpa_kernel

from avar_eval import Steering, observe, steer
from avar_eval.attention.groups import KeyGroups
from avar_eval.attention.implementations import implementations
from avar_eval.attention.kernel_probe import normaliser_source
from avar_eval.attention.mass import attention_mass
from avar_eval.attention.normaliser import NormaliserTap
from avar_eval.attention.observe import key_groups
from avar_eval.attention.roles import Role, TokenRoles
from avar_eval.attention.visibility import Visibility
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.transformers_backend import TransformersBackend

pytestmark = pytest.mark.gpu

LENGTH, DIM, SCALING = 300, 64, 0.125
ONE = "s" * 20 + "v" * 120 + "t" + "u" * 40 + "t" + "r" * 60
PADDED = roles_of("-" * 30 + ONE, "s" * 30 + ONE, "-" * 11 + "s" * 19 + ONE)
PLAIN = roles_of(ONE, ONE)
ROWS = range(40, 260)


def states(dtype: torch.dtype, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(  # type: ignore[return-value]
        torch.randn(2, heads, LENGTH, DIM, generator=generator).to(dtype) for heads in (8, kv_heads, kv_heads)
    )


def membership() -> Tensor:
    groups = torch.zeros(2, LENGTH, 2, dtype=torch.bool)
    groups[:, :20, 0] = groups[0, 20:120, 1] = groups[1, 30:60, 1] = groups[1, 90:150, 1] = True
    return groups


def whole(query: Tensor, key: Tensor, visible: Tensor) -> Tensor:
    """Masses from whole maps in float64."""
    scores = query.double() @ key.double().repeat_interleave(8 // key.shape[1], 1).transpose(-1, -2) * SCALING
    attention = scores.masked_fill(~visible, float("-inf")).softmax(-1).nan_to_num(0.0)
    return (attention @ membership()[:, None].double())[:, :, ROWS.start : ROWS.stop]


@pytest.mark.parametrize("kv_heads", [8, 2])
@pytest.mark.parametrize(
    ("backend", "dtype", "padded"),
    [
        (SDPBackend.FLASH_ATTENTION, torch.bfloat16, False),
        (SDPBackend.FLASH_ATTENTION, torch.float16, False),
        *((SDPBackend.EFFICIENT_ATTENTION, dtype, True) for dtype in (torch.bfloat16, torch.float16, torch.float32)),
        (SDPBackend.EFFICIENT_ATTENTION, torch.float32, False),
        (SDPBackend.CUDNN_ATTENTION, torch.bfloat16, False),
    ],
)
def test_masses_by_the_normaliser_of_each_kernel_equal_float64(
    gpu: torch.device, backend: SDPBackend, dtype: torch.dtype, padded: bool, kv_heads: int
) -> None:
    on_cpu = states(dtype, kv_heads)
    query, key, value = (of.to(gpu) for of in on_cpu)
    visible = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().expand(2, 1, LENGTH, LENGTH).clone()
    if padded:
        visible[0, :, :, :17] = False
    mask = visible.to(gpu) if padded else None
    repeated = [of.repeat_interleave(8 // kv_heads, 1) for of in (key, value)]  # as transformers does under a mask

    def attended() -> Tensor:
        return F.scaled_dot_product_attention(query, *repeated, attn_mask=mask, is_causal=not padded, scale=SCALING)

    with sdpa_kernel(backend):
        try:
            plain = attended()
        except RuntimeError as error:
            pytest.skip(f"{backend.name} does not run here: {error}")
        with NormaliserTap() as tap:
            tapped = attended()
    assert torch.equal(plain, tapped)
    lse = tap.lse(query)
    assert lse is not None, tap.source
    visibility = Visibility(causal=False, mask=mask) if padded else Visibility()
    groups = KeyGroups.of(membership()).to(gpu)
    masses = attention_mass(query, key, groups, visibility, scaling=SCALING, rows=ROWS, lse=lse)
    assert float((masses.cpu().double() - whole(*on_cpu[:2], visible)).abs().max()) <= 1e-5


@pytest.mark.parametrize("version", ["FA3", "FA4"])
def test_flash_attention_that_torch_was_told_to_use_gives_its_normaliser(gpu: torch.device, version: str) -> None:
    on_cpu = states(torch.bfloat16, 2)
    query, key, value = (of.to(gpu) for of in on_cpu)
    try:
        activate_flash_attention_impl(version)
    except Exception as error:
        pytest.skip(f"{version} cannot be activated: {error}")
    try:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION), NormaliserTap() as tap:
            F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=SCALING, enable_gqa=True)
    finally:
        restore_flash_attention_impl()
    lse = tap.lse(query)
    assert lse is not None, tap.source
    groups = KeyGroups.of(membership()).to(gpu)
    masses = attention_mass(query, key, groups, Visibility(), scaling=SCALING, rows=ROWS, lse=lse)
    visible = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    assert float((masses.cpu().double() - whole(*on_cpu[:2], visible)).abs().max()) <= 1e-5


def decoder(device: torch.device, dtype: torch.dtype, implementation: str = "sdpa") -> Any:
    """Heads of 64 dimensions, as flash kernels have them at least."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]}
    return qwen(implementation, hidden_size=256, intermediate_size=256, rope_parameters=rope).to(device, dtype)


def inputs_on(device: torch.device, roles: TokenRoles) -> dict[str, Tensor]:
    return {name: of.to(device) for name, of in batch(roles).items()}


@pytest.mark.parametrize("roles", [PADDED, PLAIN], ids=["padded", "plain"])
def test_masses_of_a_model_equal_eager_float64(gpu: torch.device, roles: TokenRoles) -> None:
    model = decoder(gpu, torch.float32)
    inputs = inputs_on(gpu, roles)
    with torch.no_grad():
        plain = model(**inputs, use_cache=False).logits
        with observe(model, roles) as observation:
            observed = model(**inputs, use_cache=False).logits
        maps, _ = eager_maps(eager_copy(decoder(torch.device("cpu"), torch.float32)), batch(roles))
    assert torch.equal(plain, observed)
    expected = groups_of(maps, key_groups(roles))[:, :, :, observation.positions]
    wanted = observation.query_mask(Role.USER) | observation.query_mask(Role.RESPONSE)
    difference = (observation.masses().cpu() - expected).permute(1, 3, 0, 2, 4)[wanted]
    assert float(difference.abs().max()) <= 2e-5, "float32 products of a whole model, and 1e-5 of the masses"


def syncs(gpu: torch.device, run: Any) -> int:
    """How often a call waits for the GPU."""
    for _ in range(2):  # compiles what is to be compiled; PyTorch's own first calls wait oftener
        run()
    torch.cuda.synchronize(gpu)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in told)


@pytest.mark.parametrize("roles", [PADDED, PLAIN], ids=["padded", "plain"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_measuring_waits_for_the_gpu_no_oftener_than_the_model(
    gpu: torch.device, roles: TokenRoles, dtype: torch.dtype
) -> None:
    model, inputs = decoder(gpu, dtype), inputs_on(gpu, roles)
    with torch.no_grad():
        plain = syncs(gpu, lambda: model(**inputs, use_cache=False))
        with observe(model, roles):
            assert syncs(gpu, lambda: model(**inputs, use_cache=False)) <= plain


def test_an_attention_call_never_waits_for_the_gpu(gpu: torch.device) -> None:
    query, key, value = (of.to(gpu) for of in states(torch.bfloat16, 2))
    groups = KeyGroups.of(membership()).to(gpu)

    def measured() -> Tensor:
        with NormaliserTap() as tap:
            F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=SCALING, enable_gqa=True)
        return attention_mass(query, key, groups, Visibility(), scaling=SCALING, rows=ROWS, lse=tap.lse(query))

    measured()
    torch.cuda.synchronize(gpu)
    torch.cuda.set_sync_debug_mode("error")
    try:
        measured()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_observed_text_of_a_batch_of_eight_is_the_plain_one(gpu: torch.device, cache: str) -> None:
    roles = TokenRoles(PADDED.codes[[0, 1, 2, 0, 1, 2, 0, 1], :-60])
    model, inputs = decoder(gpu, torch.bfloat16), inputs_on(gpu, roles)
    options: dict[str, Any] = {"max_new_tokens": 40, "min_new_tokens": 40, "do_sample": False, "pad_token_id": 0}
    if cache == "static":
        options |= {"cache_implementation": "static", "disable_compile": True}
    plain = model.generate(**inputs, **options)
    assert torch.equal(model.generate(**inputs, **options), plain), "plain text itself differs from run to run"
    with observe(model, roles) as observation:
        assert torch.equal(model.generate(**inputs, **options), plain)
    total = observation.masses()[..., 1:].sum(-1).permute(1, 3, 0, 2)
    final = TokenRoles(F.pad(roles.codes, (0, 39), value=int(Role.RESPONSE)))
    chosen = observation.query_mask(Role.RESPONSE, final)
    assert float((total[chosen.to(total.device)] - 1).abs().max()) < 1e-4


@pytest.mark.parametrize("mode", ["logit", "log", "prob", "abs"])
def test_steering_is_that_of_the_cpu(gpu: torch.device, mode: Any) -> None:
    steering, found = Steering(mode=mode, image=0.5, system=0.7), []
    for device in (torch.device("cpu"), gpu):
        model = decoder(device, torch.float32)
        with torch.no_grad(), steer(model, steering, PADDED):
            found.append(model(**inputs_on(device, PADDED), use_cache=False).logits.cpu())
    present = PADDED.codes != Role.PADDING
    assert torch.allclose(found[0][present], found[1][present], atol=2e-3)


@pytest.mark.parametrize("name", ["flash_attention_2", "flash_attention_3", "flash_attention_4"])
def test_flash_attention_that_is_installed_measures_what_sdpa_does(gpu: torch.device, name: str) -> None:
    if reason := implementations(gpu, torch.bfloat16)[name]:
        pytest.skip(reason)
    measured = []
    for implementation in ("sdpa", name):
        model = decoder(gpu, torch.bfloat16, implementation)
        with torch.no_grad(), observe(model, PADDED, layers=[0]) as observation:
            model(**inputs_on(gpu, PADDED), use_cache=False)
        wanted = observation.query_mask(Role.USER) | observation.query_mask(Role.RESPONSE)
        measured.append(observation.masses().permute(1, 3, 0, 2, 4).cpu()[wanted])
    # the first layer has the same queries and keys under both
    assert float((measured[0] - measured[1]).abs().max()) <= 2e-5


def test_pytorchs_kernels_give_their_normaliser(gpu: torch.device) -> None:
    for dtype in (torch.bfloat16, torch.float16):  # for float32 with grouped heads PyTorch has none but products
        assert normaliser_source("sdpa", gpu, dtype) == "kernel"


def test_a_run_takes_the_gpu_by_default(gpu: torch.device) -> None:
    backend = TransformersBackend(resolve_checkpoint("avar-tiny"))
    assert (backend.device.type, backend.dtype) == (gpu.type, "bfloat16")
