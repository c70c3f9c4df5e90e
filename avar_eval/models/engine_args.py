"""`--vllm KEY=VALUE`: vLLM's engine arguments by vLLM's own names, checked by vLLM's own argument class. Light."""

import argparse
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from avar_eval.errors import UsageError, unknown_name

_OURS: Final = {
    "model": "--model", "revision": "--model NAME@REVISION", "dtype": "--dtype",
    "tensor_parallel_size": "--tensor-parallel", "data_parallel_size": "--data-parallel",
    "distributed_executor_backend": "--distributed", "max_model_len": "--max-model-len",
    "gpu_memory_utilization": "--gpu-memory", "enforce_eager": "--eager", "seed": "--seed",
    "mm_processor_kwargs": "--image-min-pixels and --image-max-pixels",
}  # fmt: skip
"""Arguments that an option of ours sets."""
_SET: Final = (
    "limit_mm_per_prompt", "generation_config", "hf_overrides", "model_impl", "additional_config", "tokenizer",
    "tokenizer_mode", "skip_tokenizer_init", "runner", "convert", "language_model_only", "mm_encoder_only",
    "enable_lora", "default_mm_loras", "video_pruning_rate", "worker_cls", "worker_extension_cls",
)  # fmt: skip
"""Arguments that the way a model is asked here decides, or that would make another model of it."""
_LAYOUT: Final = frozenset((
    "max_num_seqs", "max_num_batched_tokens", "max_num_scheduled_tokens", "long_prefill_token_threshold",
    "enable_chunked_prefill", "disable_chunked_mm_input", "enable_prefix_caching", "prefix_caching_hash_algo",
    "block_size", "num_gpu_blocks_override", "kv_cache_memory_bytes", "cpu_offload_gb", "swap_space",
    "mm_processor_cache_gb", "mm_processor_cache_type", "mm_encoder_tp_mode", "skip_mm_profiling",
    "renderer_num_workers", "pipeline_parallel_size", "enable_expert_parallel", "data_parallel_backend",
    "distributed_timeout_seconds", "disable_custom_all_reduce", "max_parallel_loading_workers", "download_dir",
    "safetensors_load_strategy", "scheduling_policy", "async_scheduling", "stream_interval", "disable_log_stats",
    "enable_log_requests", "cudagraph_capture_sizes", "max_cudagraph_capture_size", "numa_bind",
))  # fmt: skip
"""Arguments of memory, batches, processes and logs: like --batch-size they are in no record's key."""


def read_engine_args(given: object) -> dict[str, str]:
    """KEY=VALUE texts, or a mapping, as vLLM's names with values as its command line takes them.

    Raises ValueError for what is no KEY=VALUE, for a key that is given twice, and for one that is not free.
    """
    if isinstance(given, Mapping):
        pairs = [(str(key), _text(value)) for key, value in given.items()]
    else:
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, Iterable):
            raise ValueError(f"give KEY=VALUE, such as max_num_seqs=64, not {given!r}")
        pairs = []
        for text in texts:
            key, equals, value = str(text).partition("=")
            if not equals or not key.strip():
                raise ValueError(f"give KEY=VALUE, such as max_num_seqs=64, not {text!r}")
            pairs.append((key.strip(), value.strip()))
    found: dict[str, str] = {}
    for key, value in pairs:
        name = key.removeprefix("--").replace("-", "_")
        if name in found:
            raise ValueError(f"--vllm {name} is given twice")
        if name in _OURS:
            raise ValueError(f"--vllm {name} is said with {_OURS[name]}")
        if name in _SET:
            raise ValueError(f"--vllm {name} is not free: how models are asked here decides it")
        found[name] = value
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def decisive(given: Mapping[str, str]) -> str:
    """Those that may change an answer, for record keys and protocols, in the order of their names; "" for none."""
    return " ".join(f"{name}={value}" for name, value in sorted(given.items()) if name not in _LAYOUT)


def parsed(given: Mapping[str, str]) -> dict[str, Any]:
    """The values as vLLM's argument class has them. Raises UsageError for a name or a value that it does not take.

    vLLM is imported, if there is anything to check.
    """
    if not given:
        return {}
    from vllm import AsyncEngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        def error(self, message: str) -> Any:
            raise UsageError(f"--vllm: {message}")

    parser = AsyncEngineArgs.add_cli_args(Parser(add_help=False))
    actions = {action.dest: action for action in parser._actions}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in actions:
            raise unknown_name("engine argument of vLLM", name, actions, "(vllm serve --help=EngineArgs lists them)")
        if isinstance(actions[name], argparse.BooleanOptionalAction):
            if value.lower() not in ("true", "false"):
                raise UsageError(f"--vllm {name} takes true or false, not {value!r}")
            values[name] = value.lower() == "true"
            continue
        flag = next(flag for flag in actions[name].option_strings if flag.startswith("--"))
        values[name] = getattr(parser.parse_args([f"{flag}={value}"]), name)
    return values
