"""The model registry: what it holds, what a user may add, and what each mistake is answered with."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from huggingface_hub.errors import GatedRepoError
from runs import Finished, records_of

from avar_eval.errors import UsageError
from avar_eval.models.answer_format import instruction_for, with_instruction
from avar_eval.models.checkpoint import CheckpointError, resolve_checkpoint
from avar_eval.models.decoding import Decoding, decoding_for
from avar_eval.models.registry import (
    ModelEntry,
    RegistryError,
    choose_backend,
    find_model,
    get_model,
    registry,
    user_models_path,
)
from avar_eval.tasks.prompts import BOXED, THINKING, instruction

Run = Callable[..., Finished]

SHORT_NAMES = """
avar-thinker qwen2.5-vl-3b qwen2.5-vl-7b qwen2.5-vl-32b qwen2.5-vl-72b qwen3-vl r1-onevision thinklite-vl mm-eureka
revisual-r1-cs revisual-r1 ovr-cs ovr mimo-vl-sft mimo-vl-rl openvlthinker vision-r1 vlaa-thinker vision-sr1 mulberry
internvl2.5-8b llava-onevision-7b llama-3.2-11b-vision gpt-4o claude-3.7-sonnet
"""


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """The registry is read once in a process, and here anew for each test."""
    registry.cache_clear()


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes the user's file of models."""

    def write(text: str) -> Path:
        path = tmp_path / "models.yaml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("AVAR_MODELS", str(path))
        return path

    return write


@pytest.mark.parametrize("name", SHORT_NAMES.split())
def test_every_model_of_the_paper_is_known_by_its_short_name(name: str) -> None:
    entry = get_model(name.upper())
    assert entry.repository or entry.api
    assert entry.revision is None or len(entry.revision) == 40


def test_no_name_stands_for_two_models() -> None:
    names = [name for entry in registry().values() for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)


def test_a_printed_average_is_that_of_its_columns_or_a_known_misprint() -> None:
    """The paper's averages against its own columns. ThinkLite-VL's row averages 52.4 and says 53.1."""
    off = {}
    for entry in registry().values():
        printed = entry.published
        if printed is None or printed.average is None:
            continue
        scores = [value for name, value in printed if name not in ("average", "vas") and value is not None]
        assert len(scores) == 7
        if abs(sum(scores) / 7 - printed.average) > 0.051:
            off[entry.name] = round(sum(scores) / 7, 1)
    assert off == {"thinklite-vl": 52.4}


@pytest.mark.parametrize(("name", "trained"), [("vision-r1", True), ("mulberry", True), ("avar-thinker", False)])
def test_scores_on_training_data_are_marked(name: str, trained: bool) -> None:
    assert get_model(name).trained_on_task("mathvision") is trained
    assert get_model(name).trained_on_task("mathvision_mini") is trained
    assert not get_model(name).trained_on_task("mathvista")


def test_an_entry_is_shown(avar_eval: Run) -> None:
    shown = avar_eval("models", "revisual-r1")
    assert shown.code == 0
    for part in ("csfufu/Revisual-R1-final", "main, not pinned", "boxed", "temperature 1.0", "16384", "FIRST think"):
        assert part in shown.stdout
    entry = json.loads(avar_eval("models", "avar-thinker", "--json").stdout)
    assert entry["published"]["vas"] == 18.9
    assert entry["answer_format"] == "thinking"


def test_the_recommended_decoding_holds_until_another_is_chosen() -> None:
    entry = get_model("revisual-r1")
    assert decoding_for(entry) == Decoding(temperature=1, top_p=0.95, top_k=50, max_new_tokens=16384)
    chosen = decoding_for(entry, temperature=0.0, max_new_tokens=7, top_k=None)
    assert chosen.greedy
    assert chosen.max_new_tokens == 7
    assert decoding_for(None) == Decoding(max_new_tokens=4096)
    with pytest.raises(UsageError, match="--samples above 1 needs --temperature above 0"):
        decoding_for(None, samples=2)


def test_what_decides_nothing_is_not_in_the_record_key() -> None:
    assert Decoding(max_new_tokens=5, top_k=3, seed=4).identity() == {"temperature": 0, "max_new_tokens": 5}
    drawn = Decoding(max_new_tokens=5, temperature=1)
    assert drawn.identity() == {"temperature": 1, "max_new_tokens": 5, "top_p": 1, "seed": 0}
    assert replace(drawn, top_k=3).identity() == drawn.identity() | {"top_k": 3}
    assert Decoding(max_new_tokens=5, repetition_penalty=1.1).identity()["repetition_penalty"] == 1.1
    assert Decoding(max_new_tokens=5, presence_penalty=1.5).identity()["presence_penalty"] == 1.5
    assert "min_p" not in Decoding(max_new_tokens=5, min_p=0.1).identity()
    assert replace(drawn, min_p=0.1).identity() == drawn.identity() | {"min_p": 0.1}


def test_protocols_tell_what_they_always_told_and_new_options_where_they_act() -> None:
    drawn = Decoding(max_new_tokens=5, temperature=1)
    before = {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "repetition_penalty": 1.0,
        "max_new_tokens": 5,
        "samples": 1,
        "seed": 0,
        "stop": [],
    }
    assert json.dumps(drawn.protocol()) == json.dumps(before)
    assert replace(drawn, min_p=0.1).protocol() == before | {"min_p": 0.1}
    assert decoding_for(get_model("qwen3-vl-4b")).protocol()["presence_penalty"] == 1.5


@pytest.mark.parametrize(
    ("model", "last"),
    [
        ("avar-thinker", ["2 or 3?", THINKING]),
        ("qwen2.5-vl-7b", ["2 or 3?", BOXED]),
        ("llava-onevision-7b", ["2 or 3?", "Answer directly."]),
        ("revisual-r1", ["2 or 3?", str(get_model("revisual-r1").instruction)]),
    ],
)
def test_the_answer_is_asked_for_in_the_model_s_form(model: str, last: list[str]) -> None:
    picture = {"type": "image", "url": "x"}
    entry = get_model(model)
    text = f"2 or 3?\n{instruction(entry.answer_format, 'Answer directly.')}"
    message = {"role": "user", "content": [picture, {"type": "text", "text": text}]}
    replacement = instruction_for(entry)
    asked = message if replacement is None else with_instruction(message, replacement)
    assert asked["content"] == [picture, {"type": "text", "text": "\n".join(last)}]
    assert asked["role"] == "user"


@pytest.mark.parametrize(
    ("model", "backend", "expected"),
    [
        ("avar-tiny", None, "transformers"),
        ("avar-tiny", "vllm", "vllm"),
        ("gpt-4o", None, "api"),
        ("internvl2.5-8b", None, "transformers"),
        ("some/repository", None, "transformers"),
        ("some/repository", "vllm", "vllm"),
    ],
)
def test_a_model_is_run_as_it_can_be(model: str, backend: str | None, expected: str) -> None:
    assert choose_backend(find_model(model), backend) == expected  # type: ignore[arg-type]


def test_a_backend_that_cannot_run_a_model_is_refused(avar_eval: Run) -> None:
    refused = avar_eval("--model", "gpt-4o", "--backend", "vllm", "--tasks", "shapes")
    assert (refused.code, refused.stdout) == (2, "")
    assert "gpt-4o runs with --backend api, not with vllm" in refused.stderr


MINE = """
my-model:
  aliases: [mine]
  folder: {folder}
  architecture: qwen2_5_vl
  answer_format: boxed
  max_new_tokens: 8
  batch_size: 4
  trained_on: [shapes]
  description: a model of my own
"""


def test_a_user_adds_a_model_and_runs_it(avar_eval: Run, tmp_path: Path, models: Callable[[str], Path]) -> None:
    path = models(MINE.format(folder=get_model("avar-tiny").path))
    options = ("--tasks", "shapes", "--limit", "2", "--output", str(tmp_path / "run"))
    done = avar_eval("--model", "mine", *options, AVAR_MODELS=str(path))
    assert done.code == 0, done.stderr
    assert "† shapes: in the training data of my-model" in done.stdout
    assert "shapes †" in done.stdout
    protocol = json.loads((tmp_path / "run" / "results.json").read_text())["protocol"]
    assert (protocol["model"], protocol["decoding"]["max_new_tokens"]) == ("my-model", 8)
    assert protocol["trained_on"] == ["shapes"]
    assert all("final answer within \\boxed{}" in record["prompt"] for record in records_of(tmp_path / "run"))
    assert all("<answer>" not in record["prompt"] for record in records_of(tmp_path / "run"))


def test_without_a_file_there_are_the_shipped_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AVAR_MODELS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert not user_models_path().exists()
    assert find_model("avar-tiny") is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my-model: {", "is not YAML"),
        ("- my-model", "must map names of models to their fields"),
        ("my-model:", "model my-model: give its fields"),
        ("my-model: {description: x, max_new_tokens: 5}", "model my-model: give `folder` or `repository`"),
        (
            "my-model: {repository: a/b, folder: c, architecture: d, description: x, max_new_tokens: 5}",
            "model my-model: give one of `folder` and `repository`",
        ),
        ("my-model: {repository: a/b, description: x, max_new_tokens: 5}", "give the `architecture`"),
        ("my-model: {folder: c, architecture: d, description: x}", "model my-model: it has no max_new_tokens"),
        (
            "my-model: {folder: c, architecture: d, description: x, max_new_tokens: 5, temprature: 1}",
            "model my-model: unknown field 'temprature': did you mean decoding.temperature",
        ),
        (
            "my-model: {folder: c, architecture: d, description: x, max_new_tokens: 5, decoding: {topp: 1}}",
            "model my-model: unknown field 'decoding.topp': did you mean decoding.top_p",
        ),
        (
            "my-model: {folder: c, architecture: d, description: x, max_new_tokens: 5, answer_format: loud}",
            "model my-model: answer_format is \"loud\", not 'thinking', 'boxed', 'direct' or 'none'",
        ),
        ("my-model: {bundled: avar_tiny, architecture: d, description: x, max_new_tokens: 5}", "give its fields"),
        (
            "avar-tiny: {folder: c, architecture: d, description: x, max_new_tokens: 5}",
            "model avar-tiny: 'avar-tiny' is already registered",
        ),
        (
            "my-model: {aliases: [ovr], folder: c, architecture: d, description: x, max_new_tokens: 5}",
            "model my-model: 'ovr' is already registered",
        ),
        (
            "my-model: {folder: c, architecture: d, description: x, max_new_tokens: 5, instruction: 'So: {question}'}",
            "model my-model: an `instruction` with {question} has it once, and needs `answer_format: none`",
        ),
        (
            "my-model: {folder: c, architecture: d, description: x, max_new_tokens: 5, answer_format: none, "
            "instruction: Think}",
            "with `answer_format: none` the `instruction` says where it goes: give it a {question}",
        ),
        ("My/Model: {folder: c, architecture: d, description: x, max_new_tokens: 5}", "lower case, without a slash"),
    ],
)
def test_a_mistake_in_the_file_is_named(models: Callable[[str], Path], text: str, expected: str) -> None:
    path = models(text)
    with pytest.raises(RegistryError) as caught:
        registry()
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AVAR_MODELS", str(tmp_path / "none.yaml"))
    with pytest.raises(RegistryError, match=r"AVAR_MODELS names .*none\.yaml, and there is no such file"):
        registry()


def test_an_entry_needs_a_source() -> None:
    with pytest.raises(ValueError, match="give `folder` or `repository`"):
        ModelEntry(name="x", architecture="y", max_new_tokens=1, description="z")


def test_a_gated_model_says_where_its_conditions_are(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = get_model("ovr")
    assert entry.gated

    def refuse(*args: object, **kwargs: object) -> None:
        raise GatedRepoError(
            "403", response=httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co"))
        )

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    said = (
        r"Kangheng/OVR-7B-RL is gated: accept its conditions at https://huggingface\.co/Kangheng/OVR-7B-RL and run `hf"
    )
    with pytest.raises(CheckpointError, match=said):
        resolve_checkpoint("ovr")
