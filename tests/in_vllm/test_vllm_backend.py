"""vLLM and transformers follow one decoding specification, and a killed run with vLLM asks nothing twice."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from runs import MODEL, records_of, wait_for_records
from safetensors.torch import load_file, save_file
from shapes_questions import Question, rendered

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: .ci/vllm makes an environment with it", allow_module_level=True)

from avar_eval.attention.steering import parse_steering
from avar_eval.models.backend import BackendError, Generation, Refusal
from avar_eval.models.backend_options import VllmOptions
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.decoding import Decoding
from avar_eval.models.image_limits import ImageLimits
from avar_eval.models.registry import get_model
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.models.vllm_backend import VllmBackend
from avar_eval.records.record import record_key
from avar_eval.tasks.shapes.dataset import rows

N = 20
GREEDY = Decoding(max_new_tokens=64)
STEERING = parse_steering("image=0.3,system=0.9,rows=all")


@pytest.fixture(scope="module")
def transformers() -> TransformersBackend:
    return TransformersBackend(resolve_checkpoint(MODEL), "cpu", "float32")


@pytest.fixture(scope="module", autouse=True)
def _little_memory() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
        yield


@pytest.fixture(scope="module")
def vllm(transformers: TransformersBackend) -> Iterator[VllmBackend]:
    backend = VllmBackend(transformers, VllmOptions(max_model_len=1024, eager=True, in_flight=8, distributed="uni"))
    yield backend
    backend.release()


@pytest.fixture(scope="module")
def questions(transformers: TransformersBackend) -> list[Question]:
    """The first questions of the test split, of all kinds."""
    asked = rendered(transformers, list(rows("test"))[:: 500 // N][:N])
    assert len({question.prompt for question in asked}) > 5
    return asked


def engines() -> list[psutil.Process]:
    """vLLM's processes that this one has started and that live."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE and child.name().startswith("VLLM")]


def by_transformers(
    backend: TransformersBackend, questions: list[Question], decoding: Decoding, batch: int = N
) -> list[Generation]:
    answers = []
    for start in range(0, len(questions), batch):
        part = questions[start : start + batch]
        inputs = backend.encode([q.prompt for q in part], [q.images() for q in part])
        answers += backend.generate(inputs, decoding, [q.key for q in part])
    return answers


def by_vllm(backend: VllmBackend, questions: list[Question], decoding: Decoding) -> list[Generation]:
    answers = dict(backend.answer(questions, decoding))
    return [answers[number] for number in range(len(questions))]


@pytest.mark.parametrize(
    "decoding",
    [
        GREEDY,
        Decoding(max_new_tokens=64, repetition_penalty=3.0),
        Decoding(max_new_tokens=64, temperature=0.7, min_p=1.0),
        Decoding(max_new_tokens=64, stop=("<answer>", "so ")),
        Decoding(max_new_tokens=5),
        Decoding(max_new_tokens=64, temperature=0.7, top_k=1),
    ],
    ids=["greedy", "repetition penalty", "min-p 1", "stop strings", "token limit", "top-k 1"],
)
def test_both_backends_answer_alike_token_by_token(
    transformers: TransformersBackend, vllm: VllmBackend, questions: list[Question], decoding: Decoding
) -> None:
    ours, theirs = by_transformers(transformers, questions, decoding), by_vllm(vllm, questions, decoding)
    for one, other in zip(ours, theirs, strict=True):
        assert one == other


def test_the_settings_under_test_change_something(
    transformers: TransformersBackend, vllm: VllmBackend, questions: list[Question]
) -> None:
    greedy = by_vllm(vllm, questions, GREEDY)
    assert {answer.finish_reason for answer in greedy} >= {"stop"}
    assert len({answer.text for answer in greedy}) > N // 2
    penalised = by_vllm(vllm, questions, replace(GREEDY, repetition_penalty=3.0))
    assert [answer.text for answer in penalised] != [answer.text for answer in greedy]
    short = by_vllm(vllm, questions, Decoding(max_new_tokens=5))
    assert {answer.finish_reason for answer in short} == {"length"}
    stopped = by_vllm(vllm, questions, Decoding(max_new_tokens=64, stop=("<answer>",)))
    assert any(answer.text.endswith("<answer>") and answer.finish_reason == "stop" for answer in stopped)


def test_a_presence_penalty_is_vllms(questions: list[Question], tmp_path: Path) -> None:
    """The model with a tenth of all its logits: it is less certain, so that a penalty of 1.5 changes its words."""
    unsure = Path(shutil.copytree(resolve_checkpoint(MODEL).path, tmp_path / "unsure"))
    weights = load_file(unsure / "model.safetensors")
    (norm,) = (name for name in weights if name.endswith(("language_model.norm.weight", "model.norm.weight")))
    save_file(weights | {norm: weights[norm] * 0.1}, unsure / "model.safetensors", metadata={"format": "pt"})
    transformers = TransformersBackend(resolve_checkpoint(str(unsure)), "cpu", "float32")
    vllm = VllmBackend(transformers, VllmOptions(max_model_len=1024, eager=True, in_flight=8, distributed="uni"))
    greedy = by_transformers(transformers, questions, GREEDY)
    try:
        for options in ({"presence_penalty": 1.5}, {"presence_penalty": -2.0, "repetition_penalty": 1.2}):
            decoding = Decoding(max_new_tokens=64, **options)
            ours, theirs = by_transformers(transformers, questions, decoding), by_vllm(vllm, questions, decoding)
            assert [answer.text for answer in ours] != [answer.text for answer in greedy]
            assert ours == theirs
    finally:
        vllm.release()


def test_a_penalty_does_not_depend_on_the_batch(transformers: TransformersBackend, questions: list[Question]) -> None:
    decoding = Decoding(max_new_tokens=64, repetition_penalty=3.0)
    together, alone = (by_transformers(transformers, questions, decoding, batch) for batch in (N, 1))
    assert together == alone


def test_a_question_draws_from_its_own_stream(vllm: VllmBackend, questions: list[Question]) -> None:
    decoding = Decoding(max_new_tokens=64, temperature=1.5)
    together = by_vllm(vllm, questions, decoding)
    assert by_vllm(vllm, questions[::-1], decoding) == together[::-1]
    other = [Question(record_key(other=question.key), question.prompt, question.picture) for question in questions]
    assert by_vllm(vllm, other, decoding) != together


def test_a_prompt_that_is_too_long_is_refused_beside_good_ones(vllm: VllmBackend, questions: list[Question]) -> None:
    long = Question("00" * 32, questions[0].prompt.replace("user\n", "user\n" + "red " * 2000, 1), questions[0].picture)
    expected = by_vllm(vllm, questions[:12], GREEDY)
    answers = dict(vllm.answer([*questions[:2], long, *questions[2:12]], GREEDY, may_refuse=1))
    refusal = answers.pop(2)
    assert isinstance(refusal, Refusal)
    assert "vLLM cannot answer a question" in refusal.reason
    assert [answers[number] for number in sorted(answers)] == expected  # more than are in the engine at a time
    with pytest.raises(BackendError, match="vLLM cannot answer a question"):
        list(vllm.answer([long], GREEDY))


def test_attention_is_measured_after_the_engine_has_gone(
    transformers: TransformersBackend, vllm: VllmBackend, questions: list[Question]
) -> None:
    asked = questions[:4]
    answers = by_vllm(vllm, asked, GREEDY)
    assert engines()
    vllm.release()
    assert not engines()
    inputs = transformers.encode([question.prompt for question in asked], [question.images() for question in asked])
    for row, mask, answer in zip(inputs["input_ids"], inputs["attention_mask"], answers, strict=True):
        assert row[mask.bool()].tolist() == answer.prompt_token_ids
    records = transformers.measure(inputs, [answer.token_ids for answer in answers])
    assert len(records) == len(asked)


def test_a_killed_run_asks_nothing_twice_and_is_steered_and_measured_to_the_end(tmp_path: Path) -> None:
    output = tmp_path / "run"
    options = ["--model", MODEL, "--backend", "vllm", "--max-model-len", "1024", "--tasks", "shapes", "--limit", "100"]
    options += ["--attention-samples", "12", "--output", str(output), "--steer", str(STEERING)]
    program = "import sys; from avar_eval.cli import main\nsys.argv = ['avar-eval', *sys.argv[1:]]\nmain()"
    command = [sys.executable, "-c", program, *options]
    environment = os.environ | {"VLLM_CPU_CI_ENV": "1"}  # traced, but not compiled
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, env=environment) as run:
        wait_for_records(output, 10)
        os.killpg(run.pid, signal.SIGKILL)
    before = records_of(output)
    assert 10 <= len(before) < 100
    assert all(record["attention"] is None for record in before)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    lines = records_of(output)
    records = {record["key"]: record for record in lines}
    assert len(records) == len(lines) == 100
    for record in before:
        assert records[record["key"]] | {"attention": None, "causal": None} == record
    measured = [record for record in lines if record["attention"] is not None]
    assert [record for record in lines if record["causal"] is not None] == measured
    results = json.loads((output / "results.json").read_text())
    assert results["tasks"]["shapes"]["metrics"]["vas"]["n"] == len(measured) == 12
    assert results["protocol"]["backend"] == {"backend": "vllm"}
    assert set(results["protocol"]["versions"]) >= {"vllm", "transformers"}
    assert_answered_as_by_transformers(measured)


def assert_answered_as_by_transformers(records: list[dict[str, Any]]) -> None:
    """The records' token ids are those of transformers, steered alike, and not those of the model as it is."""
    pictures = {row["id"]: row["image"].convert("RGB") for row in rows("test")}
    asked = [Question(record["key"], record["prompt"], pictures[record["row_id"]]) for record in records]
    decoding = Decoding(max_new_tokens=get_model(MODEL).max_new_tokens)
    steered, plain = (
        [
            answer.token_ids
            for answer in by_transformers(
                TransformersBackend(resolve_checkpoint(MODEL), "cpu", "float32", steering), asked, decoding
            )
        ]
        for steering in (STEERING, None)
    )
    assert [record["response_token_ids"] for record in records] == steered
    assert steered != plain


def test_pictures_have_the_pixels_that_limits_leave(questions: list[Question]) -> None:
    """The engine's processor keeps the limits that transformers' keeps: as many image tokens, the same answers."""
    limits = ImageLimits(min_pixels=56 * 56, max_pixels=84 * 84)
    limited = TransformersBackend(resolve_checkpoint(MODEL), "cpu", "float32", image_limits=limits)
    engine = VllmBackend(limited, VllmOptions(max_model_len=1024, eager=True, in_flight=8, distributed="uni"))
    try:
        found = by_vllm(engine, questions[:4], GREEDY)
    finally:
        engine.release()
    expected = by_transformers(limited, questions[:4], GREEDY)
    assert [one.prompt_token_ids for one in found] == [one.prompt_token_ids for one in expected]
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
