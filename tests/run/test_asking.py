"""How a model is asked: checked when it is said, and settled once, whatever name the model goes by."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs import MODEL

from avar_eval.attention.steering import PRESETS
from avar_eval.errors import UsageError
from avar_eval.models.backend_options import ApiOptions, TransformersOptions, VllmOptions
from avar_eval.models.checkpoint import find_source, resolve_checkpoint
from avar_eval.models.registry import get_model
from avar_eval.models.training_run import TrainingRun
from avar_eval.run.asking import Asking, asking_fields
from avar_eval.run.model import ResolvedModel, resolve
from avar_eval.watch.scoring import scoring

FOLDER = resolve_checkpoint(MODEL).path


def settled(model: ResolvedModel) -> tuple[Any, ...]:
    """What decides the answers, beside the weights."""
    return model.system_prompt, model.prompt_style, model.instruction, model.decoding, model.batch_size, model.backend


def test_fields_side_by_side_go_where_they_belong() -> None:
    asking = Asking.of(
        model=MODEL,
        temperature=0.5,
        min_p=0.1,
        limit=3,
        steering="avar",
        backend="api",
        api_url="http://x/v1",
        top_k=None,
    )
    assert asking == Asking(
        model=MODEL,
        limit=3,
        decoding={"temperature": 0.5, "min_p": 0.1},
        steering=PRESETS["avar"],
        backend="api",
        backend_options={"url": "http://x/v1"},
    )
    assert replace(asking, limit="4").limit == 4  # type: ignore[arg-type] # as lmms-eval's --model_args come
    with pytest.raises(UsageError, match=r"limit is 0, not 1 or more"):
        replace(asking, limit=0)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"temprature": 1}, "unknown argument 'temprature': did you mean temperature"),
        ({"tensor_paralel": 2}, "unknown argument 'tensor_paralel': did you mean tensor_parallel"),
        ({"decoding": {"topp": 1}}, "unknown decoding option 'topp': did you mean top_p"),
        ({"presence_penalty": 3}, "--presence-penalty is 3, not 2 or less"),
        ({"min_p": -0.1}, "--min-p is -0.1, not 0 or more"),
        ({"top_p": 0}, "--top-p is 0, not above 0"),
        ({"seed": 2**32}, "--seed is 4294967296, not 4294967295 or less"),
        ({"dtype": "int4"}, "--dtype takes float32, bfloat16, float16, not 'int4'"),
        (
            {"tensor_parallel": 2},
            "--tensor-parallel is an option of --backend vllm, and avar-tiny is run by transformers",
        ),
        ({"backend": "vllm", "steering": "pai"}, "vLLM cannot steer mode=abs exactly"),
        ({"backend": "vllm", "tensor_parallel": 0}, "option tensor_parallel is 0, not 1 or more"),
        ({"backend": "api"}, "--backend api needs --api-url"),
        ({"system_prompt": "\udcff"}, "--system-prompt is not valid UTF-8"),
        ({"model": "avar-tinny"}, "unknown model 'avar-tinny': did you mean avar-tiny"),
        ({"model": "gpt-4o", "backend": "vllm"}, "gpt-4o runs with --backend api, not with vllm"),
    ],
)
def test_what_is_wrong_is_known_before_anything_is_loaded(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(Asking.of(**{"model": MODEL} | asked))


def test_resolving_a_model_of_the_hub_downloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("downloaded"))
    for model in ("avar-thinker", "Antimage01/AVAR-Thinker-7B", "someone/unknown@v2"):
        resolve(Asking(model=model))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (MODEL, str(FOLDER)),
        (MODEL, MODEL.upper()),
        ("qwen2.5-vl-7b", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("qwen3-vl-8b", "qwen/qwen3-vl-8b-instruct"),
        ("revisual-r1", "csfufu/Revisual-R1-final"),
    ],
)
def test_a_name_a_folder_and_a_repository_mean_the_same(name: str, other: str) -> None:
    by_name, by_other = resolve(Asking(model=name)), resolve(Asking(model=other))
    assert by_name.entry == by_other.entry == get_model(name)
    assert settled(by_name) == settled(by_other)


def test_another_revision_of_a_repository_is_not_the_registered_one() -> None:
    assert find_source("Qwen/Qwen2.5-VL-7B-Instruct@abc").entry is None
    assert find_source("Qwen/Qwen2.5-VL-7B-Instruct@abc").revision == "abc"


def test_an_unknown_model_is_asked_to_think_and_greedily() -> None:
    model = resolve(Asking(model="someone/unknown"))
    assert model.entry is None
    assert settled(model)[:3] == (None, "thinking", None)
    assert model.decoding.protocol() | {"max_new_tokens": 4096} == model.decoding.protocol()
    assert (model.decoding.greedy, model.batch_size) == (True, 16)


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """An output folder of AVAR's trainers with one checkpoint of avar-tiny."""
    TrainingRun(run="mine", base=MODEL, started="2026-01-01T00:00:00+00:00", finished=True).write(tmp_path / "out")
    shutil.copytree(FOLDER, tmp_path / "out" / "checkpoint-5")
    return tmp_path / "out"


def test_a_checkpoint_is_asked_alike_by_its_folder_and_under_watch(training: Path) -> None:
    """The token limit, system turn and style are those of the base model and of the training, for each of the two."""
    alone = resolve(Asking(model=str(training / "checkpoint-5")))
    assert alone.decoding.max_new_tokens == get_model(MODEL).max_new_tokens == 128
    watched = scoring(training, ["shapes"])
    for step, model in ((0, MODEL), (5, str(training / "checkpoint-5"))):
        assert settled(watched.model_of(step, model)) == settled(alone)
    assert watched.model_of(5, str(training / "checkpoint-5")).name == "mine/checkpoint-5"
    last = resolve(Asking(model=str(training)))
    assert settled(last) == settled(alone), "the trained model lies in the output folder itself"


def test_what_was_trained_from_a_trained_model_knows_its_first_base(training: Path) -> None:
    second = training.parent / "second"
    base = str(training / "checkpoint-5")
    TrainingRun(run="second", base=base, started="2026-01-02T00:00:00+00:00", finished=True).write(second)
    assert settled(resolve(Asking(model=str(second)))) == settled(resolve(Asking(model=base)))
    TrainingRun(run="mine", base=str(second), started="2026-01-01T00:00:00+00:00", finished=True).write(training)
    assert find_source(str(second)).base is None, "folders that name each other have no end, and no base"


def test_an_adapter_of_another_trainer_is_asked_as_its_base(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    named = {"base_model_name_or_path": "Qwen/Qwen3-VL-8B-Instruct"}
    (adapter / "adapter_config.json").write_text(json.dumps(named))
    model = resolve(Asking(model=str(adapter)))
    assert model.entry is None
    assert settled(model) == settled(resolve(Asking(model="qwen3-vl-8b")))
    assert settled(replace(resolve(Asking(model=str(adapter), prompt_style="direct"))))[1] == "direct"


def test_the_settings_of_a_watch_are_the_file_that_earlier_versions_wrote(training: Path) -> None:
    watched = scoring(training, ["shapes"], limit=2)
    assert json.loads((training / "scores" / "settings.json").read_text()) == watched.settings
    assert watched.settings == {
        "run": "mine",
        "started": "2026-01-01T00:00:00+00:00",
        "base": MODEL,
        "tasks": ["shapes"],
        "limit": 2,
        "system_prompt": "You are a helpful assistant.",
        "prompt_style": "thinking",
        "max_new_tokens": 128,
        "attention_samples": 200,
        "dtype": None,
        "backend": "transformers",
        "attn_implementation": None,
    }
    (training / "scores" / "step-0").mkdir()
    with pytest.raises(UsageError, match="were made with prompt_style 'thinking', now 'boxed'"):
        scoring(training, ["shapes"], limit=2, prompt_style="boxed")
    with pytest.raises(UsageError, match=r"were made with temperature None, now 0\.5"):
        scoring(training, ["shapes"], limit=2, temperature=0.5)


def test_options_of_a_backend_are_its_own() -> None:
    kinds = {
        "transformers": (TransformersOptions, {"attn_implementation": "eager"}),
        "vllm": (VllmOptions, {"tensor_parallel": 2}),
        "api": (ApiOptions, {"api_url": "http://x/v1", "api_price": "1,2", "api_concurrency": 3}),
    }
    for backend, (kind, options) in kinds.items():
        assert isinstance(resolve(Asking.of(model=MODEL, backend=backend, **options)).options, kind)
    assert resolve(Asking.of(model="gpt-4o", api_concurrency=3)).options == ApiOptions(
        url="https://api.openai.com/v1", key_env="OPENAI_API_KEY", concurrency=3
    )


def test_every_field_is_described() -> None:
    assert all(field.option.help.endswith((".", ").")) for field in asking_fields().values())
