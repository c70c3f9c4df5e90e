"""What differs between two protocols, setting by setting, in words."""

from collections.abc import Iterator
from typing import Any

from avar_eval.protocols.protocol import BenchmarkProtocol, PublishedProtocol

THE_MODELS = "the model's own"


def differences(one: PublishedProtocol, other: PublishedProtocol) -> list[str]:
    """A line for each setting in which they differ; none if they ask and judge alike."""
    pairs = [
        ("system prompt", _system_prompt(one), _system_prompt(other)),
        ("smallest picture", _pixels(one.image_min_pixels), _pixels(other.image_min_pixels)),
        ("largest picture", _pixels(one.image_max_pixels), _pixels(other.image_max_pixels)),
        ("decoding", _decoding(one.decoding), _decoding(other.decoding)),
        ("token limit", _limit(one.max_new_tokens), _limit(other.max_new_tokens)),
        ("verdict", one.verdict, other.verdict),
    ]
    said = [f"{name}: {first} -> {second}" for name, first, second in pairs if first != second]
    return said + [
        line for name in dict.fromkeys([*one.benchmarks, *other.benchmarks]) for line in _on(name, one, other)
    ]


def _on(benchmark: str, one: PublishedProtocol, other: PublishedProtocol) -> Iterator[str]:
    first, second = (of.benchmarks.get(benchmark) or of.benchmarks.get("default") for of in (one, other))
    if first is None or second is None:
        yield f"{benchmark}: {one.name if second is None else other.name} alone says how it is asked"
        return
    if _prompt(first) != _prompt(second):
        yield f"{benchmark}, prompt:\n  {_prompt(first)}\n  ->\n  {_prompt(second)}"
    limits = [of.max_new_tokens or protocol.max_new_tokens for of, protocol in ((first, one), (second, other))]
    if (first.max_new_tokens or second.max_new_tokens) and limits[0] != limits[1]:
        yield f"{benchmark}, token limit: {_limit(limits[0])} -> {_limit(limits[1])}"
    if first.stop != second.stop:
        yield f"{benchmark}, ends at: {_stops(first)} -> {_stops(second)}"
    verdicts = [of.verdict or protocol.verdict for of, protocol in ((first, one), (second, other))]
    if (first.verdict or second.verdict) and verdicts[0] != verdicts[1]:
        yield f"{benchmark}, verdict: {verdicts[0]} -> {verdicts[1]}"


def _prompt(of: BenchmarkProtocol) -> str:
    return repr(of.prompt) if of.prompt is not None else f"prompt style {of.style}"


def _system_prompt(of: PublishedProtocol) -> str:
    if not of.sets_system_prompt:
        return THE_MODELS
    return "the chat template's own" if of.system_prompt is None else repr(of.system_prompt)


def _pixels(limit: int | None) -> str:
    return "the processor's own" if limit is None else f"{limit} pixels"


def _decoding(sampling: dict[str, Any] | None) -> str:
    if sampling is None:
        return THE_MODELS
    if not sampling["temperature"]:
        return "greedy"
    return ", ".join(f"{name} {value:g}" for name, value in sampling.items())


def _limit(tokens: int | None) -> str:
    return THE_MODELS if tokens is None else f"{tokens} tokens"


def _stops(of: BenchmarkProtocol) -> str:
    return ", ".join(map(repr, of.stop)) or "the end of its turn"
