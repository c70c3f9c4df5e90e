"""Masses and gradients of each attention implementation against attention written out in float64.

Two layers with the shape's heads (of Qwen2, which every implementation runs) run in each dtype under each
implementation, once without padding and once with one sequence of the batch left-padded. `observe` measures them; the
queries and keys that the attention function is given are kept, and the reference makes whole maps of these in float64,
so that what it finds is the error of measuring alone.

On a GPU each dtype has a process of its own, all at a time: most of what they take is compiling kernels.
"""

import contextlib
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from avar_eval.attention import interface
from avar_eval.attention.implementations import implementations, resolve_kernel_name, unavailable_reason
from avar_eval.attention.kernel_probe import normaliser_source
from avar_eval.attention.observe import RECORDED, observe
from avar_eval.attention.roles import Role, TokenRoles
from avar_eval.doctor import bars
from avar_eval.doctor.checks import Check, Checks
from avar_eval.doctor.shapes import Shape
from avar_eval.doctor.workload import VOCABULARY, make_ids, make_roles
from avar_eval.terminal import say

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LAYERS, _MLP, _PADDING = 2, 256, 37
_TOKENS = {"cpu": 201, "cuda": 777}
"""No multiples of a kernel's blocks."""
_SPREAD = 1.5
"""Standard deviation of queries and keys: with the usual small weights attention is uniform, which hides mistakes."""


def check_exactness(checks: Checks, shape: Shape, device: str, asked: str = "sdpa") -> None:
    """`normaliser.…`, `masses.…` and `gradients.…` of every implementation, the one asked for too, and dtype."""
    if torch.device(device).type == "cpu":
        for dtype in DTYPES:
            _check_dtype(checks, shape, device, asked, dtype)
    else:
        check_in_processes(checks, shape, device, asked)


def check_in_processes(checks: Checks, shape: Shape, device: str, asked: str) -> None:
    """The same, each dtype in a process of its own, all at a time."""
    processes = {}
    for dtype in DTYPES:
        arguments = json.dumps([asdict(shape), device, asked, dtype])
        command = [sys.executable, "-m", "avar_eval.doctor.exactness", arguments]
        processes[dtype] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for dtype, process in processes.items():
        with checks.attempt(f"masses.{asked}.{dtype}.error"):
            printed, complaint = process.communicate()
            if process.returncode:
                raise RuntimeError(f"its process ended with code {process.returncode}: {complaint[-200:]}")
            checks.made += [Check(**check) for check in json.loads(printed)]


def _check_dtype(checks: Checks, shape: Shape, device: str, asked: str, dtype: str) -> None:
    place, torch_dtype = torch.device(device), DTYPES[dtype]
    plain = make_roles(_TOKENS[place.type], batch=2)
    model = _two_layers(shape, device, torch_dtype)
    known = implementations(place, torch_dtype)
    for implementation, reason in (known | {asked: unavailable_reason(asked, place, torch_dtype)}).items():
        kind = f"{implementation}.{dtype}"
        names = f"normaliser.{kind}", f"masses.{kind}.error", f"gradients.{kind}.error"
        if reason is not None:
            checks.unavailable(reason, names)
            continue
        with checks.attempt(*names), _as_doctor(implementation, device) as how:
            model.set_attn_implementation(implementation)
            if (kernel := resolve_kernel_name(implementation)) != implementation:
                how += f", by {kernel}"
            source = normaliser_source(resolve_kernel_name(implementation), place, torch_dtype)
            checks.add(
                names[0],
                source,
                why=f"where the softmax normaliser comes from{how}",
            )
            # FlexAttention is compiled for each kind of mask, and without padding its mask hides no more
            sequences = [_padded(plain)] if implementation == "flex_attention" else [plain, _padded(plain)]
            found = [errors(model, roles) for roles in sequences]
            of = f"all {len(RECORDED)} key groups, user and response queries{how}"
            checks.add(names[1], max(masses for masses, _ in found), "greatest difference", bars.MASSES, of)
            gradients = [error for _, error in found if error is not None]
            if gradients:
                checks.add(names[2], max(gradients), "relative", bars.GRADIENTS[dtype], of)
            else:
                checks.unavailable(f"{implementation} gives no gradient on this device", names[2:])


@contextmanager
def _as_doctor(implementation: str, device: str) -> Iterator[str]:
    """What FlexAttention needs to be examined.

    On a CPU it runs as it is written: compiling it takes a minute, and nobody uses it there. On a GPU its backward pass
    would throw away what the next layer's gradient is taken from again.
    """
    if implementation != "flex_attention":
        yield ""
    elif torch.device(device).type == "cpu":
        with torch.compiler.set_stance("force_eager"):
            yield ", not compiled"
    else:
        with torch._functorch.config.patch(donated_buffer=False):
            yield ""


def errors(model: Any, roles: TokenRoles) -> tuple[float, float | None]:
    """The greatest difference of a mass from the reference's, and the relative error of gradients.

    These are what random slopes of a layer's masses give its queries and keys; None where the kernel has no gradient.
    """
    try:
        masses, positions, attended = _observed(model, roles)
    except NotImplementedError:  # FlexAttention on a CPU
        with torch.no_grad():
            masses, positions, attended = _observed(model, roles)
    codes = roles.codes.to(masses.device)
    wanted = ((codes == Role.USER) | (codes == Role.RESPONSE))[:, None, positions, None]
    slopes = torch.randn(masses.shape[1:], generator=torch.Generator().manual_seed(0)).to(masses.device) * wanted
    off, off_gradients = 0.0, []
    for ours, (query, key) in zip(masses, attended, strict=True):
        exact = [of.detach().double().requires_grad_() for of in (query, key)]
        theirs = reference_masses(exact[0], exact[1], codes)[:, :, positions]
        off = max(off, float(((ours - theirs).detach() * wanted).abs().max()))
        if ours.requires_grad:
            given = torch.autograd.grad(ours, (query, key), slopes.to(ours.dtype), retain_graph=True)
            expected = torch.autograd.grad(theirs, exact, slopes.double())
            off_gradients += [_relative(a, b) for a, b in zip(given, expected, strict=True)]
    return off, max(off_gradients, default=None)


def _relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.double() - theirs).norm() / theirs.norm())


def reference_masses(
    query: Float[Tensor, "batch heads queries dim"],
    key: Float[Tensor, "batch kv_heads queries dim"],
    codes: Int[Tensor, "batch queries"],
) -> Float[Tensor, "batch heads queries groups"]:
    """Causal attention as whole maps, summed over each key group; it shares no code with what it judges."""
    scores = query @ key.repeat_interleave(query.shape[1] // key.shape[1], 1).mT * query.shape[-1] ** -0.5
    present = codes != Role.PADDING
    visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril() & present[:, None, None]
    attention = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    return torch.where(present[:, None, :, None], attention, 0) @ _membership(codes, present)[:, None].to(query.dtype)


def _membership(codes: Tensor, present: Tensor) -> Bool[Tensor, "batch keys groups"]:
    sink = torch.zeros_like(present)
    sink[range(len(codes)), present.int().argmax(1)] = True
    of = {role.name.lower(): codes == role for role in Role}
    of |= {"sink": sink, "system_beyond_sink": of["system"] & ~sink}
    return torch.stack([of[group] for group in RECORDED], -1)


def _observed(model: Any, roles: TokenRoles) -> tuple[Tensor, list[int], list[tuple[Tensor, Tensor]]]:
    """Masses of one pass, the positions of their queries, and what each layer's attention was of."""
    ids = make_ids(roles.codes.shape[1], len(roles.codes)).to(model.device)
    mask = (roles.codes != Role.PADDING).long().to(model.device)
    with observe(model, roles, groups=RECORDED) as observation, _attended(model) as attended:
        model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
        return observation.masses(), observation.positions, attended


@contextmanager
def _attended(model: Any) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Query and key of each call of the observed attention function."""
    name = model.config.get_text_config()._attn_implementation
    modules = set(interface.attention_modules(model))
    observed = ALL_ATTENTION_FUNCTIONS[name]
    found: list[tuple[Tensor, Tensor]] = []

    def attention(module: Any, query: Tensor, key: Tensor, *rest: Any, **named: Any) -> Any:
        if module in modules:
            found.append((query, key))
        return observed(module, query, key, *rest, **named)

    ALL_ATTENTION_FUNCTIONS[name] = attention
    try:
        yield found
    finally:
        ALL_ATTENTION_FUNCTIONS[name] = observed


def _two_layers(shape: Shape, device: str, dtype: torch.dtype) -> Any:
    """Random layers, with queries and keys of a spread that makes attention uneven, whatever the hidden size."""
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=shape.heads * shape.head_dim,
        intermediate_size=_MLP,
        num_hidden_layers=_LAYERS,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2ForCausalLM._from_config(config, attn_implementation="sdpa", dtype=dtype).eval()
    with torch.no_grad():
        for module in interface.attention_modules(model):
            for projection in (module.q_proj, module.k_proj):
                projection.weight.normal_(std=_SPREAD * projection.in_features**-0.5)
    return model


def _padded(roles: TokenRoles) -> TokenRoles:
    """The first sequence begins later, after padding."""
    codes = roles.codes.clone()
    codes[0] = codes[0].roll(_PADDING)
    codes[0, :_PADDING] = int(Role.PADDING)
    return TokenRoles(codes)


def _main(shape: dict[str, Any], device: str, asked: str, dtype: str) -> None:
    checks = Checks()
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        _check_dtype(checks, Shape(**shape), device, asked, dtype)
    say(json.dumps([check.model_dump() for check in checks.made]))


if __name__ == "__main__":
    _main(*json.loads(sys.argv[1]))
