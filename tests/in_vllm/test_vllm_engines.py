"""Engine arguments of vLLM's own, two engines in one node, and an engine that dies while it answers."""

import importlib.util
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from runs import MODEL
from shapes_questions import Question, rendered

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: .ci/vllm makes an environment with it", allow_module_level=True)

from avar_eval.errors import UsageError
from avar_eval.models.backend import BackendError, Generation
from avar_eval.models.backend_options import VllmOptions
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.decoding import Decoding
from avar_eval.models.engine_args import parsed
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.models.vllm_backend import VllmBackend
from avar_eval.run.asking import Asking
from avar_eval.run.evaluate import RunConfig, evaluate
from avar_eval.run.model import resolve
from avar_eval.suite.checks import SuiteError, check_runs
from avar_eval.suite.read import read_suite
from avar_eval.tasks.shapes.dataset import rows

N = 8
GREEDY = Decoding(max_new_tokens=48)


@pytest.fixture(scope="module", autouse=True)
def _little_memory() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
        yield


@pytest.fixture(scope="module")
def transformers() -> TransformersBackend:
    return TransformersBackend(resolve_checkpoint(MODEL), "cpu", "float32")


@pytest.fixture(scope="module")
def questions(transformers: TransformersBackend) -> list[Question]:
    return rendered(transformers, list(rows("test"))[:N])


@pytest.fixture(scope="module")
def expected(transformers: TransformersBackend, questions: list[Question]) -> list[Generation]:
    inputs = transformers.encode([q.prompt for q in questions], [q.images() for q in questions])
    return transformers.generate(inputs, GREEDY, [q.key for q in questions])


def cores() -> list[psutil.Process]:
    """Processes of engine cores that this one has started and that live."""
    children = psutil.Process().children(recursive=True)
    living = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in living if child.name().startswith("VLLM::EngineCor")]


def test_arguments_are_what_vllms_own_command_line_makes_of_them() -> None:
    given = {"max_num_seqs": "8", "max_num_batched_tokens": "2k", "enable_prefix_caching": "false", "seed": "3"}
    given |= {"kv_cache_dtype": "fp8", "speculative_config": '{"method": "ngram"}', "block_size": "32"}
    assert parsed(given) == {
        "max_num_seqs": 8, "max_num_batched_tokens": 2000, "enable_prefix_caching": False, "seed": 3,
        "kv_cache_dtype": "fp8", "speculative_config": {"method": "ngram"}, "block_size": 32,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("max_num_seq", "8", "unknown engine argument of vLLM 'max_num_seq': did you mean max_num_seqs"),
        ("max_num_seqs", "many", "argument --max-num-seqs: invalid int value: 'many'"),
        ("kv_cache_dtype", "int1", "argument --kv-cache-dtype: invalid choice: 'int1'"),
        ("enable_prefix_caching", "perhaps", "takes true or false, not 'perhaps'"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_starts(
    transformers: TransformersBackend, name: str, value: str, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        VllmBackend(transformers, VllmOptions(engine_args={name: value}))
    assert not cores()


def test_a_suite_names_a_wrong_argument_once_before_its_first_run(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        f"tasks: [shapes]\nbackend: vllm\nvllm: {{max_num_seq: 3}}\nmodels: [{MODEL}, {{model: {MODEL}, name: b}}]\n"
    )
    suite = read_suite(tmp_path / "suite.yaml", tmp_path / "runs", {})
    with pytest.raises(SuiteError, match=r"avar-tiny.*, b.*: unknown engine argument of vLLM 'max_num_seq': did you"):
        check_runs(suite.runs, tmp_path / "runs")


def test_two_engines_answer_as_one(
    transformers: TransformersBackend, questions: list[Question], expected: list[Generation]
) -> None:
    options = VllmOptions(
        max_model_len=1024, eager=True, data_parallel=2, engine_args={"max_num_seqs": "2", "block_size": "32"}
    )
    backend = VllmBackend(transformers, options)
    try:
        backend.load()
        assert len(cores()) == 2
        before = [core.cpu_times().user for core in cores()]
        answers = dict(backend.answer(questions, GREEDY))
        used = [core.cpu_times().user - one for core, one in zip(cores(), before, strict=True)]
        assert min(used) > 0.1 * max(used), f"one engine did nearly all of the work: {used} s"
    finally:
        backend.release()
    assert [answers[number] for number in range(N)] == expected
    assert not cores()


def test_an_engine_that_dies_is_started_again_once(
    transformers: TransformersBackend, questions: list[Question], expected: list[Generation]
) -> None:
    backend = VllmBackend(transformers, VllmOptions(max_model_len=1024, eager=True, distributed="uni", in_flight=4))
    told: list[str] = []
    backend.on_restart = told.append
    numbers: list[int] = []
    answers: dict[int, Generation] = {}
    for number, answer in backend.answer(questions, GREEDY):
        assert isinstance(answer, Generation)
        numbers.append(number)
        answers[number] = answer
        if len(numbers) == 2:
            kill_the_engine()
    assert sorted(numbers) == list(range(N)), "each question is answered once"
    assert [answers[number] for number in range(N)] == expected
    assert told == ["vLLM's engine died while it answered, and was started again; what it had was asked again"]
    with pytest.raises(BackendError, match="vLLM cannot answer a question"):  # noqa: PT012
        for _ in backend.answer(questions, GREEDY):
            kill_the_engine()
    assert not cores(), "none stays behind"
    assert len(told) == 1


def kill_the_engine() -> None:
    for core in cores():
        core.send_signal(signal.SIGKILL)


def test_a_run_whose_engine_died_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking.of(
        model=MODEL, limit=6, max_new_tokens=24, backend="vllm", max_model_len=1024, eager=True, in_flight=2,
        causal="off", attention_samples=0, dtype="float32", engine_args=["enable_prefix_caching=false"],
    )  # fmt: skip
    undisturbed = evaluate(RunConfig(resolve(asking), ["shapes"], tmp_path / "undisturbed"))
    ask = VllmBackend.ask
    asked = 0

    async def ask_and_kill(self: VllmBackend, *of: object) -> object:
        nonlocal asked
        asked += 1
        if asked == 4:
            kill_the_engine()
        return await ask(self, *of)  # type: ignore[arg-type]

    monkeypatch.setattr(VllmBackend, "ask", ask_and_kill)
    disturbed = evaluate(RunConfig(resolve(asking), ["shapes"], tmp_path / "disturbed"))
    (note,) = disturbed.notes
    assert "was started again" in note
    written = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("undisturbed", "disturbed")]
    assert written[1].pop("notes") == [note]
    assert written[0] == written[1], "but for the note they are the same"
    assert undisturbed.run_id == disturbed.run_id
    monkeypatch.setattr(VllmBackend, "ask", ask)
    again = evaluate(RunConfig(resolve(asking), ["shapes"], tmp_path / "disturbed"))
    assert again.notes == [note], "a later look at a run forgets nothing"
