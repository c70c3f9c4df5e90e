"""`--vllm KEY=VALUE`: read without vLLM; what vLLM itself says of the values is tested in tests/in_vllm."""

import pytest

from avar_eval.errors import UsageError
from avar_eval.models.backend_options import VllmOptions
from avar_eval.models.engine_args import decisive, read_engine_args
from avar_eval.run.asking import Asking
from avar_eval.run.folder import run_folder
from avar_eval.run.model import resolve


def test_texts_and_mappings_say_the_same() -> None:
    texts = ["max-num-seqs=64", "kv_cache_dtype=fp8", 'speculative_config={"method": "ngram"}']
    values = {"max_num_seqs": 64, "kv-cache-dtype": "fp8", "speculative_config": {"method": "ngram"}}
    assert read_engine_args(texts) == read_engine_args(values)
    assert read_engine_args({"enable_prefix_caching": False}) == {"enable_prefix_caching": "false"}


@pytest.mark.parametrize(
    ("given", "problem"),
    {
        ("max_num_seqs",): "give KEY=VALUE, such as max_num_seqs=64, not 'max_num_seqs'",
        ("=5",): "give KEY=VALUE",
        ("a=1", "--a=2"): "--vllm a is given twice",
        ("gpu_memory_utilization=0.5",): "--vllm gpu_memory_utilization is said with --gpu-memory",
        ("hf_overrides={}",): "--vllm hf_overrides is not free",
    }.items(),
)
def test_what_cannot_be_given(given: tuple[str, ...], problem: str) -> None:
    asking = Asking.of(model="avar-tiny", backend="vllm", engine_args=list(given))
    with pytest.raises(UsageError, match=problem.replace("(", r"\(")):
        resolve(asking)


def test_what_may_change_answers_makes_another_run() -> None:
    def folder(*given: str) -> str:
        return run_folder(resolve(Asking.of(model="avar-tiny", backend="vllm", engine_args=list(given)))).name

    assert decisive({"max_num_seqs": "64", "kv_cache_dtype": "fp8"}) == "kv_cache_dtype=fp8"
    assert folder() == folder("max_num_seqs=64", "enable_prefix_caching=false")
    assert folder("kv_cache_dtype=fp8") not in (folder(), folder("kv_cache_dtype=fp8_e5m2"))


def test_every_field_of_the_engine_can_be_chosen() -> None:
    asking = Asking.of(
        model="avar-tiny", backend="vllm", gpu_memory=0.5, in_flight=7, eager=True, distributed="mp", data_parallel=2
    )
    assert resolve(asking).options == VllmOptions(
        gpu_memory=0.5, in_flight=7, eager=True, distributed="mp", data_parallel=2
    )


def test_another_backend_has_no_engine() -> None:
    with pytest.raises(UsageError, match="--vllm is an option of --backend vllm"):
        resolve(Asking.of(model="avar-tiny", engine_args=["max_num_seqs=3"]))
