"""`avar-eval doctor`: what it prints, what it calls a failure, and that nothing ends it before its last line."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Finished
from typer.testing import CliRunner, Result

from avar_eval.attention import interface
from avar_eval.attention.roles import Role, TokenRoles
from avar_eval.cli import app
from avar_eval.doctor import cost, exactness, examine, memory
from avar_eval.doctor.bars import cost_bar, decoding_bar
from avar_eval.doctor.checks import Check, Checks, UnavailableError
from avar_eval.doctor.shapes import SHAPES, find_shape
from avar_eval.doctor.vllm_engine import check_vllm
from avar_eval.doctor.workload import make_ids, make_model, make_roles

SHORT = {"forward": (64,), "training": (64,), "prompt": 64, "generated": 3, "seconds": 0.0}
KEYS = {"name", "status", "value", "unit", "bar", "why"}
NAMES = {
    "normaliser.sdpa.float32",
    "masses.sdpa.bfloat16.error",
    "masses.eager.float16.error",
    "gradients.sdpa.float32.error",
    "gradients.flash_attention_2.bfloat16.error",
    "forward.plain.64.seconds",
    "forward.user.64.ratio",
    "forward.response.64.ratio",
    "forward.both.64.ratio",
    "forward.64.same_output",
    "forward.user.64.memory",
    "training.user.64.ratio",
    "training.response.64.ratio",
    "decode.plain.milliseconds",
    "decode.observed.ratio",
    "decode.steered.logit.ratio",
    "decode.steered.prob.ratio",
    "decode.plain.same_text",
    "decode.same_text",
}
ON_CPU = ("doctor", "--device", "cpu")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*ON_CPU, *arguments])


def checks_of(result: Result) -> dict[str, Any]:
    """The checks of a report by name; standard output holds nothing but the report."""
    report = json.loads(result.stdout)
    assert set(report) == {"machine", "checks"}
    checks = {check["name"]: check for check in report["checks"]}
    assert len(checks) == len(report["checks"])
    return checks


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short sequences, one dtype, no process of its own."""
    monkeypatch.setitem(examine._DEFAULTS, "cpu", SHORT)
    monkeypatch.setattr(exactness, "DTYPES", {"float32": torch.float32})
    monkeypatch.setattr(cost, "peaks_in_a_process", no_process)


def no_process(*_: Any) -> Iterator[Any]:
    raise UnavailableError("not in this test")


@pytest.fixture(scope="module")
def report() -> Result:
    begin = time.perf_counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(examine._DEFAULTS, "cpu", SHORT)
        result = run("--json")
    print(f"{time.perf_counter() - begin:.0f} s")
    return result


def test_the_report_names_every_check(report: Result) -> None:
    assert report.exit_code == 0, report.output
    checks = checks_of(report)
    assert set(checks) >= NAMES
    for check in checks.values():
        assert set(check) == KEYS
        assert check["status"] in ("measured", "unavailable")
        assert (check["value"] is None) == (check["status"] == "unavailable")
        assert check["why"]
    assert checks["masses.sdpa.bfloat16.error"]["value"] < checks["masses.sdpa.bfloat16.error"]["bar"] == 1e-5
    assert checks["gradients.sdpa.float32.error"]["bar"] == 1e-4
    assert checks["decode.same_text"]["value"] is True
    assert checks["forward.64.same_output"]["value"] is True
    assert checks["forward.user.64.ratio"]["bar"] is None  # shorter than what bars are for
    assert checks["forward.plain.64.megabytes"]["value"] > 100
    assert "8 user queries, all 7 key groups" in checks["forward.user.64.ratio"]["why"]
    assert "CPU" in checks["masses.flash_attention_2.bfloat16.error"]["why"]


def test_the_report_knows_its_machine(report: Result) -> None:
    machine = json.loads(report.stdout)["machine"]
    assert machine["torch"] == torch.__version__.partition("+")[0] or machine["torch"] == torch.__version__
    assert machine["shape"] == "small"
    assert machine["dtype"] == "float32"
    assert machine["implementation"] == "sdpa"
    assert {"python", "transformers", "trl", "vllm", "triton", "flash-attn", "cuda", "driver", "gpus"} <= set(machine)


def test_a_wrong_kernel_is_named_and_the_rest_is_measured(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    right = interface.attention_mass
    monkeypatch.setattr(interface, "attention_mass", lambda *given, **named: 1.0005 * right(*given, **named))
    result = run("--json")
    assert result.exit_code == 1
    checks = checks_of(result)
    failed = {name for name, check in checks.items() if check["status"] == "failed"}
    expected = {f"{what}.{kernel}.float32.error" for what in ("masses", "gradients") for kernel in ("eager", "sdpa")}
    assert failed == expected | {"masses.flex_attention.float32.error"}
    assert "the bar is 1e-05" in checks["masses.sdpa.float32.error"]["why"]
    assert checks["decode.observed.ratio"]["status"] == "measured"


def test_a_check_that_breaks_says_so_in_one_line_and_ends_nothing(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a kernel\nthat breaks")

    monkeypatch.setattr(cost, "steer", broken)
    result = run()
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].endswith(" 2 failed")
    assert "FAILED: decode.steered.{logit,prob}.ratio" in result.stdout
    assert "RuntimeError: a kernel that breaks" in " ".join(result.stdout.split())
    assert "user.64.ratio" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def costs(shape: str, implementation: str = "sdpa", dtype: str = "float32") -> dict[str, Check]:
    """The checks of costs alone."""
    checks = Checks()
    setting = cost.Setting(find_shape(shape), "cpu", dtype, implementation, **SHORT)
    cost.check_costs(checks, setting, lambda _: None)
    return {check.name: check for check in checks.made}


def test_what_does_not_fit_the_memory_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "free_bytes", lambda: 1e9)
    checks = costs("Qwen2.5-VL-7B", dtype="bfloat16")
    assert set(checks) > {"forward.user.64.ratio", "forward.user.64.memory", "training.user.64.ratio"}
    assert {check.status for check in checks.values()} == {"unavailable"}
    assert {check.why for check in checks.values()} == {"weights take 13.1 GB, and 1.0 GB of memory are free"}


def test_a_kernel_that_the_model_has_not_has_no_costs() -> None:
    checks = costs("small", "flex_attention")  # Qwen2.5-VL does without
    assert {check.status for check in checks.values()} == {"unavailable"}
    assert "flex_attention" in (checks["training.user.64.ratio"].why or "")


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_its_checks_say_what_to_install() -> None:
    checks = Checks()
    check_vllm(checks, lambda _: None)
    names = {check.name for check in checks.made}
    assert names > {"vllm.logit.error", "vllm.prob.error", "vllm.v1.logit.ratio", "vllm.v2.prob.milliseconds"}
    for check in checks.made:
        assert check.status == "unavailable"
        assert "pip install 'avar-eval[vllm]'" in (check.why or "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "qwen2.5-vl-7"], "unknown shape 'qwen2.5-vl-7': did you mean qwen2.5-vl-7b"),
        (["--lengths", "4,096"], "--lengths takes numbers of tokens from 64 to 131072, separated by commas"),
        (["--lengths", ""], "--lengths takes numbers of tokens"),
        (["--lengths", "1e4"], "--lengths takes numbers of tokens"),
        (["--lengths", "999999"], "--lengths takes numbers of tokens"),
        (["--device", "cuda:99"], "--device 'cuda:99' cannot be used here"),
        (["--device", "meta"], "--device 'meta' cannot be"),
        (["--dtype", "int4"], "--dtype takes float32, bfloat16, float16, not 'int4'"),
        (["--attn-implementation", "sdpaa"], "--attn-implementation 'sdpaa'"),
        (["--device", "cpu", "--attn-implementation", "flash_attention_2"], "does not run on a CPU"),
    ],
)
def test_a_bad_option_gets_one_message(avar_eval: Callable[..., Finished], arguments: list[str], message: str) -> None:
    finished = avar_eval("doctor", "--json", *arguments)
    assert finished.code == 2
    assert finished.stdout == ""
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("case", json.loads(Path(__file__).with_name("bar_cases.json").read_text()), ids=str)
def test_bars(case: list[Any]) -> None:
    *place, device, shape, expected = case
    assert cost_bar(*place, device, find_shape(shape)) == expected


def test_bars_of_generation_are_for_a_gpu() -> None:
    assert decoding_bar("observed", "cuda", find_shape("qwen2.5-vl-7b")) == 1.05
    assert decoding_bar("steered", "cuda", find_shape("qwen2.5-vl-7b")) == 1.03
    assert decoding_bar("observed", "cpu", find_shape("small")) is None


def test_what_a_check_may_come_to() -> None:
    checks = Checks()
    checks.add("good", 1.0, bar=1.0)
    checks.add("over", 1.01, bar=1.0)
    checks.add("nan", float("nan"))
    checks.add("text", False, bar=True)
    with checks.attempt("made", "left"):
        checks.add("made", 2.0)
        with checks.attempt("inner"):
            raise UnavailableError("no such thing")
        raise ValueError("two\nlines")
    with checks.attempt("memory"):
        raise torch.OutOfMemoryError("CUDA out of memory")
    statuses = {check.name: check.status for check in checks.made}
    assert statuses == {
        "good": "measured",
        "over": "failed",
        "nan": "failed",
        "text": "failed",
        "made": "measured",
        "inner": "unavailable",
        "left": "failed",
        "memory": "unavailable",
    }
    said = {check.name: check.why for check in checks.made}
    assert said["left"] == "ValueError: two lines"
    assert said["inner"] == "no such thing"
    assert checks.counts() == {"measured": 2, "unavailable": 2, "failed": 4}


def test_the_reference_is_what_transformers_gives() -> None:
    torch.manual_seed(0)
    model = exactness._two_layers(SHAPES["small"], "cpu", torch.float32)
    roles = exactness._padded(make_roles(128, batch=2))
    model.set_attn_implementation("eager")
    _, _, attended = exactness._observed(model, roles)
    present = roles.codes != Role.PADDING
    maps = model(make_ids(128, 2), attention_mask=present.long(), output_attentions=True).attentions
    for (query, key), attention in zip(attended, maps, strict=True):
        expected = attention @ exactness._membership(roles.codes, present)[:, None].float()
        ours = exactness.reference_masses(query.double(), key.double(), roles.codes)
        difference = (ours - expected)[present[:, None].expand(ours.shape[:3])]
        assert difference.abs().max() < 1e-5  # theirs are in float32


@pytest.mark.parametrize("tokens", [64, 100, 512, 4097])
def test_a_sequence_has_all_its_parts(tokens: int) -> None:
    codes = make_roles(tokens).codes[0].tolist()
    assert len(codes) == tokens
    assert codes.count(Role.IMAGE) == tokens // 4
    assert codes.count(Role.USER) == min(64, tokens // 8)
    assert codes.count(Role.SYSTEM) == min(20, tokens // 16)
    assert codes.count(Role.RESPONSE) == tokens - tokens // 2


@pytest.mark.parametrize("name", ["small", "qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen3-vl-8b"])
def test_a_model_has_its_shape(name: str) -> None:
    shape = replace(find_shape(name), layers=1)
    model = make_model(shape, device="meta", dtype=torch.bfloat16)
    layers = model.model.language_model.layers
    count = sum(parameter.numel() for parameter in layers.parameters() if parameter.ndim > 1)
    assert count == shape.parameters
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_padding_begins_a_sequence_later() -> None:
    padded: TokenRoles = exactness._padded(make_roles(128, batch=2))
    assert (padded.codes[0] == Role.PADDING).sum() == 37
    assert (padded.codes[1] == Role.PADDING).sum() == 0


def test_a_process_that_measures_memory_says_why_it_ended() -> None:
    shape = replace(find_shape("small"), key_heads=3)
    with pytest.raises(RuntimeError, match="ended with code 1"):
        list(memory.peaks_in_a_process(shape, "sdpa", "float32", [64]))


def test_exactness_in_processes_is_that_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU is examined: the same checks, and a process that breaks fails its own."""
    monkeypatch.setattr(exactness, "DTYPES", {"float32": torch.float32})
    here, there, broken = Checks(), Checks(), Checks()
    exactness.check_exactness(here, find_shape("small"), "cpu")
    exactness.check_in_processes(there, find_shape("small"), "cpu", "sdpa")
    exactness.check_in_processes(broken, replace(find_shape("small"), heads=0), "cpu", "sdpa")
    assert [(check.name, check.status) for check in there.made] == [(check.name, check.status) for check in here.made]
    assert "masses.sdpa.float32.error" in {check.name for check in there.made if check.status == "measured"}
    assert [(check.name, check.status) for check in broken.made] == [("masses.sdpa.float32.error", "failed")]
    assert "ended with code 1" in (broken.made[0].why or "")


def test_text_that_does_not_repeat_is_compared_without_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain text that differs from itself shows nothing of measuring."""
    checks, asked = Checks(), cost.Setting(find_shape("small"), "cpu", "float32", "sdpa", (), (), 64, 3, 0.0)
    real = cost._taking_turns

    def differing(*arguments: Any) -> Any:
        seconds, texts = real(*arguments)
        texts["plain"][-1] = texts["plain"][-1] + 1
        return seconds, texts

    monkeypatch.setattr(cost, "_taking_turns", differing)
    cost._check_decoding(checks, asked, make_model(find_shape("small")).eval())
    found = {check.name: check for check in checks.made}
    assert found["decode.plain.same_text"].value is False
    assert found["decode.same_text"].value is True
    assert "without cuDNN" in (found["decode.same_text"].why or "")
