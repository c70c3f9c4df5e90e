"""What measuring, training on and steering attention cost, beside the plain model, on random weights of a shape."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from avar_eval.attention.observe import RECORDED, ROLES_OF, QuerySet, observe
from avar_eval.attention.steer import steer
from avar_eval.attention.steering import Mode, Steering
from avar_eval.doctor import bars
from avar_eval.doctor.checks import Checks, UnavailableError, one_line
from avar_eval.doctor.exactness import DTYPES
from avar_eval.doctor.memory import free_bytes, peaks_in_a_process
from avar_eval.doctor.shapes import Shape
from avar_eval.doctor.timing import interleaved, ratio
from avar_eval.doctor.workload import AGTO_GROUPS, Workload, make_ids, make_model, make_roles

FORWARD: Final[tuple[QuerySet, ...]] = ("user", "response", "both")
TRAINING: Final[tuple[QuerySet, ...]] = ("user", "response")
STEERED: Final[tuple[Mode, ...]] = ("logit", "prob")
BATCH: Final = 8
"""Sequences that are generated at a time."""


@dataclass(frozen=True)
class Setting:
    """What costs are measured on. forward, training: lengths. prompt, generated: tokens of a generation.

    seconds: for one comparison, about; there are two rounds at least.
    """

    shape: Shape
    device: str
    dtype: str
    implementation: str
    forward: tuple[int, ...]
    training: tuple[int, ...]
    prompt: int
    generated: int
    seconds: float

    @property
    def kind(self) -> str:
        """`cpu` or `cuda`."""
        return torch.device(self.device).type


def forward_names(setting: Setting, tokens: int) -> list[str]:
    """The checks of forward passes of that length, but for memory."""
    ratios = [f"forward.{queries}.{tokens}.ratio" for queries in FORWARD]
    return [f"forward.plain.{tokens}.seconds", *ratios, f"forward.{tokens}.same_output"]


def memory_names(tokens: int) -> list[str]:
    """The checks of their memory."""
    return [f"forward.plain.{tokens}.megabytes", *(f"forward.{queries}.{tokens}.memory" for queries in FORWARD)]


def training_names(tokens: int) -> list[str]:
    """The checks of training steps of that length."""
    return [f"training.plain.{tokens}.seconds", *(f"training.{queries}.{tokens}.ratio" for queries in TRAINING)]


def decoding_names() -> list[str]:
    """The checks of generation."""
    ratios = [f"decode.{way}.ratio" for way in ("observed", *(f"steered.{mode}" for mode in STEERED))]
    return ["decode.plain.milliseconds", *ratios, "decode.plain.same_text", "decode.same_text"]


def check_costs(checks: Checks, setting: Setting, say: Callable[[str], None]) -> None:
    """All of the above."""
    forward = [name for tokens in setting.forward for name in (*forward_names(setting, tokens), *memory_names(tokens))]
    training = [name for tokens in setting.training for name in training_names(tokens)]
    with checks.attempt(*forward, *training, *decoding_names()):
        say("making a model")
        model = _model(setting)
        for tokens in setting.forward:
            say(f"forward passes of {tokens:,} tokens")
            with checks.attempt(
                *forward_names(setting, tokens), *(memory_names(tokens) if setting.kind == "cuda" else ())
            ):
                _check_forward(checks, setting, model.eval(), tokens)
        if setting.kind == "cpu":
            say("memory of forward passes")
            with checks.attempt(*(name for tokens in setting.forward for name in memory_names(tokens))):
                for tokens, peaks in peaks_in_a_process(
                    setting.shape, setting.implementation, setting.dtype, setting.forward
                ):
                    _add_memory(checks, setting, tokens, peaks, "peak resident memory of the process")
        say("generation")
        with checks.attempt(*decoding_names()):
            _check_decoding(checks, setting, model.eval())
        for tokens in setting.training:
            say(f"training steps of {tokens:,} tokens")
            with checks.attempt(*training_names(tokens)):
                _check_training(checks, setting, model, tokens)


def _model(setting: Setting) -> Any:
    _refuse_beyond_memory(setting, setting.shape.parameters * DTYPES[setting.dtype].itemsize, "weights")
    try:
        return make_model(setting.shape, setting.implementation, setting.device, DTYPES[setting.dtype])
    except (ImportError, ValueError) as error:  # transformers says so where an implementation is not there
        raise UnavailableError(one_line(error)) from error


def _check_forward(checks: Checks, setting: Setting, model: Any, tokens: int) -> None:
    _refuse_maps(setting, tokens)
    workload = Workload(model, tokens)
    ways: dict[str, Callable[[], Tensor]] = {"plain": partial(_logits, workload, None)}
    ways |= {queries: partial(_logits, workload, queries) for queries in FORWARD}
    seconds, outputs = _taking_turns(checks, setting, ways, lambda way: _forward_names(setting, way, tokens))
    rounds = len(seconds["plain"])
    checks.add(f"forward.plain.{tokens}.seconds", median(seconds["plain"]), "s", why=f"median of {rounds} rounds")
    measured = [queries for queries in FORWARD if queries in seconds]
    for queries in measured:
        bar = bars.cost_bar("forward", queries, tokens, "ratio", setting.kind, setting.shape)
        what = f"{_queries(workload, queries)}, all {len(RECORDED)} key groups; {rounds} rounds"
        checks.add(f"forward.{queries}.{tokens}.ratio", ratio(seconds, queries), "× plain", bar, what)
    _add_same(checks, f"forward.{tokens}.same_output", outputs, measured, "logits with masses and without, bit by bit")
    if setting.kind == "cuda":
        peaks = {name: _peak_on_gpu(setting.device, ways[name]) for name in seconds}
        _add_memory(checks, setting, tokens, peaks, "peak of allocated memory, weights included")


def _forward_names(setting: Setting, queries: str, tokens: int) -> list[str]:
    memory = [f"forward.{queries}.{tokens}.memory"] if setting.kind == "cuda" else []
    return [f"forward.{queries}.{tokens}.ratio", *memory]


def _logits(workload: Workload, queries: QuerySet | None) -> Tensor:
    return workload.forward(queries)[0]


def _add_memory(checks: Checks, setting: Setting, tokens: int, peaks: dict[str, float], what: str) -> None:
    checks.add(f"forward.plain.{tokens}.megabytes", peaks["plain"] / 1e6, "MB", why=what)
    for queries in (queries for queries in FORWARD if queries in peaks):
        bar = bars.cost_bar("forward", queries, tokens, "memory", setting.kind, setting.shape)
        checks.add(f"forward.{queries}.{tokens}.memory", peaks[queries] / peaks["plain"], "× plain", bar, what)


def _check_training(checks: Checks, setting: Setting, model: Any, tokens: int) -> None:
    _refuse_maps(setting, tokens)
    _refuse_beyond_memory(setting, setting.shape.parameters * DTYPES[setting.dtype].itemsize, "gradients")
    model.train().gradient_checkpointing_enable({"use_reentrant": False})
    workload = Workload(model, tokens)
    ways: dict[str, Callable[[], Tensor]] = {"plain": partial(workload.training_step, None)}
    ways |= {queries: partial(workload.training_step, queries) for queries in TRAINING}
    seconds, _ = _taking_turns(checks, setting, ways, lambda way: [f"training.{way}.{tokens}.ratio"])
    rounds = len(seconds["plain"])
    what = f"forward and backward, checkpointed; {rounds} rounds"
    checks.add(f"training.plain.{tokens}.seconds", median(seconds["plain"]), "s", why=what)
    for queries in (queries for queries in TRAINING if queries in seconds):
        bar = bars.cost_bar("training", queries, tokens, "ratio", setting.kind, setting.shape)
        of = f"both AGTO losses of {_queries(workload, queries)}, {' and '.join(AGTO_GROUPS)} keys; {rounds} rounds"
        checks.add(f"training.{queries}.{tokens}.ratio", ratio(seconds, queries), "× plain", bar, of)


def _check_decoding(checks: Checks, setting: Setting, model: Any) -> None:
    roles = make_roles(setting.prompt, BATCH)
    ids = make_ids(setting.prompt, BATCH).to(model.device)

    @torch.inference_mode()
    def generate() -> Tensor:
        text: Tensor = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=setting.generated,
            min_new_tokens=setting.generated,
            do_sample=False,
            pad_token_id=0,
        )
        return text

    def observed() -> Tensor:
        with observe(model, roles, groups=RECORDED) as observation:
            text = generate()
            observation.masses()
            return text

    def steered(mode: Mode) -> Tensor:
        with steer(model, Steering(image=0.15, system=0.4, mode=mode), roles):
            return generate()

    ways: dict[str, Callable[[], Tensor]] = {"plain": generate, "observed": observed}
    ways |= {f"steered.{mode}": partial(steered, mode) for mode in STEERED}
    names = {way: [f"decode.{way}.ratio"] for way in ways}
    names["observed"].append("decode.same_text")
    seconds, texts = _taking_turns(checks, setting, ways, names.__getitem__)
    what = f"{setting.generated} tokens after {setting.prompt:,}, batch {BATCH}, prefill included"
    checks.add("decode.plain.milliseconds", 1000 * median(seconds["plain"]) / setting.generated, "ms a token", why=what)
    for way in list(seconds)[1:]:
        bar = bars.decoding_bar(way.partition(".")[0], setting.kind, setting.shape)
        checks.add(f"decode.{way}.ratio", ratio(seconds, way), "× plain", bar, what)
    same = _repeats(texts["plain"])
    checks.add("decode.plain.same_text", same, why="plain generations among themselves: whether the kernels repeat")
    if "observed" not in texts:
        return
    what = "observed against plain, greedy"
    if not same:  # what does not repeat itself shows nothing: again without the kernel that may be the reason
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
            texts = {"plain": [generate(), generate()], "observed": [observed()]}
        what += ", without cuDNN's attention, under which plain text differs from itself"
    _add_same(checks, "decode.same_text", texts, ["observed"], what)


def _add_same(checks: Checks, name: str, outputs: dict[str, list[Tensor]], others: Sequence[str], what: str) -> None:
    """Whether others gave what the plain runs gave, if these repeat themselves."""
    first = outputs["plain"][0]
    if not others:
        checks.unavailable("there is nothing to compare a plain run with", [name])
    elif _repeats(outputs["plain"]):
        checks.add(
            name, all(torch.equal(first, output) for way in others for output in outputs[way]), bar=True, why=what
        )
    else:
        checks.unavailable("two plain runs differ here already", [name])


def _repeats(outputs: Sequence[Tensor]) -> bool:
    return all(torch.equal(output, outputs[0]) for output in outputs)


def _taking_turns(
    checks: Checks,
    setting: Setting,
    ways: Mapping[str, Callable[[], Tensor]],
    names: Callable[[str], Sequence[str]],
) -> tuple[dict[str, list[float]], dict[str, list[Tensor]]]:
    """Of each way its seconds in each round, and all outputs. A way that breaks fails its checks, and is left out.

    names: the checks of a way but `plain`, which breaks all.
    """
    outputs = {"plain": [ways["plain"]()]}
    for name in list(ways)[1:]:
        with checks.attempt(*names(name)):
            outputs[name] = [ways[name]()]
    runs = {name: partial(_keep, outputs[name], ways[name]) for name in outputs}
    seconds = interleaved(runs, 2, most=9, within=setting.seconds, device=setting.device, warm_up=False)
    return seconds, outputs


def _keep(outputs: list[Tensor], run: Callable[[], Tensor]) -> None:
    outputs.append(run())


def _queries(workload: Workload, queries: QuerySet) -> str:
    count = sum(int(workload.roles.mask(role).sum()) for role in ROLES_OF[queries])
    return f"{count:,} {'user and response' if queries == 'both' else queries} queries"


def _peak_on_gpu(device: str, run: Callable[[], object]) -> float:
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return float(torch.cuda.max_memory_allocated(device))


def _refuse_maps(setting: Setting, tokens: int) -> None:
    """Eager attention holds whole maps, in float32 for a moment."""
    if setting.implementation == "eager":
        needed = setting.shape.heads * tokens**2 * (4 + 2 * DTYPES[setting.dtype].itemsize)
        _refuse_beyond_memory(setting, needed, f"eager maps of {tokens:,} tokens")


def _refuse_beyond_memory(setting: Setting, needed: int, what: str) -> None:
    """Raise UnavailableError before the system ends a process that asks for more memory than there is."""
    if setting.kind == "cuda":
        torch.cuda.empty_cache()
        free: float = torch.cuda.mem_get_info(setting.device)[0]
    else:
        free = free_bytes()
    if needed > 0.9 * free:
        raise UnavailableError(f"{what} take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free")
