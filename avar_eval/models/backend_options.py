"""The ways to ask a model, and what each of them can be told. Light.

The fields are options of the command line, too: those of an endpoint with `--api-` before them, others as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from avar_eval.endpoint.url import check_url
from avar_eval.fields import THE_MODELS, Checked, Option
from avar_eval.models.engine_args import read_engine_args

BackendName = Literal["transformers", "vllm", "api"]

DEAREST: Final = 1_000_000
"""Dollars a million tokens: one a token."""


def check_prices(given: object) -> object:
    """`PROMPT,RESPONSE` as the command line writes it. Raises ValueError for what can be no price."""
    if given is None:
        return None
    parts = given.split(",") if isinstance(given, str) else given
    try:
        prices = tuple(map(float, parts)) if isinstance(parts, list | tuple) else ()
    except (TypeError, ValueError):
        prices = ()
    if len(prices) != 2 or not all(0 <= price <= DEAREST for price in prices):
        raise ValueError(
            f"give PROMPT,RESPONSE in dollars a million tokens, such as 2.5,10, not {given!r} (0 to {DEAREST:,} each)"
        )
    return prices


@dataclass(frozen=True, kw_only=True)
class TransformersOptions(Checked):
    """attn_implementation: the attention kernel, by transformers' name (None: SDPA)."""

    attn_implementation: Annotated[
        str | None,
        Option(
            "Attention kernel (transformers): sdpa, eager, flash_attention_2 (3, 4), flex_attention, or a hub name.",
            shown="sdpa",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class VllmOptions(Checked):
    """How the engine is laid out.

    tensor_parallel: GPUs that share one copy of the weights. data_parallel: copies. distributed: what runs the workers,
    `ray` for several nodes, `uni` the engine's own process (None: vLLM's choice). max_model_len: tokens of prompt and
    response (None: what the model was made for). gpu_memory: share of each GPU's memory. in_flight: questions in the
    engine at a time; it batches as many of them as fit. eager: without torch.compile and CUDA graphs. engine_args:
    others of vLLM's engine, as `avar_eval.models.engine_args` reads them.
    """

    tensor_parallel: Annotated[int, Option("GPUs a copy (vllm).", least=1)] = 1
    data_parallel: Annotated[int, Option("Copies (vllm).", least=1)] = 1
    distributed: Annotated[
        Literal["uni", "mp", "ray"] | None,
        Option("What runs an engine's workers: uni, mp, or ray for several nodes (vllm).", shown="vLLM's choice"),
    ] = None
    max_model_len: Annotated[int | None, Option("Tokens of prompt and response (vllm).", shown=THE_MODELS, least=1)] = (
        None
    )
    gpu_memory: Annotated[float, Option("Share of each GPU's memory that it takes (vllm).", above=0, most=1)] = 0.9
    in_flight: Annotated[int, Option("Questions in the engine at a time (vllm).", least=1)] = 512
    eager: Annotated[
        bool, Option("Without torch.compile and CUDA graphs (vllm).", shown="with them", flags=("--eager",))
    ] = False
    engine_args: Annotated[
        Mapping[str, str],
        Option(
            "Another argument of vLLM's engine, by vLLM's name; more than once, if need be (vllm).",
            shown="none",
            flags=("--vllm",),
            metavar="KEY=VALUE",
            repeated=True,
            read=read_engine_args,
        ),
    ] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ApiOptions(Checked):
    """How to reach an endpoint, and how hard to press it.

    url: up to and with `/v1`. key_env: the environment variable with the key. concurrency: requests at a time.
    requests_per_minute: at most so many are begun. price: US dollars a million tokens of prompt and of response.
    cost_limit: US dollars that are not exceeded, what the record book holds already counted; a request is begun only if
    there is room for what it may cost at worst. retries: after a busy or failing server; the waits double, from
    `first_wait` seconds. timeout: seconds for one response, from the connection to its last byte; a server that asks
    for a longer wait than this is not waited for. weights: the checkpoint that is served, if it is at hand here: a
    registered name, a folder or a repository; it measures attention.
    """

    url: Annotated[str, Option("OpenAI-compatible endpoint, up to and with /v1.")]
    key_env: Annotated[str | None, Option("Environment variable with its key.", shown="OPENAI_API_KEY")] = None
    weights: Annotated[
        str | None,
        Option(
            "The checkpoint that it serves, as --model would name it: measures attention (vLLM).",
            shown="attention is not measured",
        ),
    ] = None
    concurrency: Annotated[int, Option("Requests at a time.", least=1)] = 16
    requests_per_minute: Annotated[
        float | None, Option("Begin no more requests than this.", shown="no limit", above=0)
    ] = None
    price: Annotated[
        tuple[float, float] | None,
        Option("PROMPT,RESPONSE: dollars a million tokens.", shown="not counted", read=check_prices),
    ] = None
    cost_limit: Annotated[float | None, Option("Dollars after which nothing is asked.", shown="no limit", above=0)] = (
        None
    )
    retries: Annotated[int, Option("", least=0)] = 6
    first_wait: Annotated[float, Option("", above=0)] = 1.0
    timeout: Annotated[float, Option("", above=0)] = 600.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_url(self.url)
        if self.cost_limit is not None and self.price is None:
            raise ValueError("a cost limit needs the prices: --api-price PROMPT,RESPONSE in dollars a million tokens")


BackendOptions = TransformersOptions | VllmOptions | ApiOptions

OPTIONS: Final[Mapping[BackendName, type[BackendOptions]]] = {
    "transformers": TransformersOptions,
    "vllm": VllmOptions,
    "api": ApiOptions,
}
