"""`avar-eval` as a user meets it: quick to answer, one clear message for every mistake, never a traceback."""

import errno
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import RevisionNotFoundError
from runs import MODEL, Finished, Server, records_of, wait_for_records
from safetensors.torch import load_file, save_file

from avar_eval.models.checkpoint import CheckpointError, resolve_checkpoint
from avar_eval.models.registry import registry
from avar_eval.results.causal import PASSES
from avar_eval.tasks.catalog import catalog

SHORT = ("--model", MODEL, "--tasks", "shapes", "--limit", "2", "--max-new-tokens", "4")
COMMAND = str(Path(sys.executable).with_name("avar-eval"))
HEAVY = ("torch", "transformers", "lmms_eval", "datasets", "trl", "huggingface_hub")

Run = Callable[..., Finished]


def said(finished: Finished, code: int) -> str:
    """The one message of a failed run, with its exit code; nothing is on standard output."""
    assert "Traceback" not in finished.stderr, finished.stderr
    assert finished.code == code, finished.stderr
    assert finished.stdout == ""
    return finished.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["models"], ["tasks"], ["models", "--help"], ["score", "--help"]]
)
def test_nothing_heavy_is_imported_for_a_quick_answer(arguments: list[str]) -> None:
    program = "import sys; from avar_eval.cli import main\nsys.argv = ['avar-eval', *sys.argv[1:]]\n"
    program += f"try: main()\nfinally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert len(done.stdout) > 10


def test_help_takes_at_most_twice_the_time_of_its_libraries() -> None:
    seconds([COMMAND, "--help"])
    ours: list[float] = []
    libraries: list[float] = []
    for _ in range(3):  # more runs if other processes made the first ones uneven
        for _ in range(5):
            ours.append(seconds([COMMAND, "--help"]))
            libraries.append(seconds([sys.executable, "-c", "import typer, rich"]))
        ratio = statistics.median(ours) / statistics.median(libraries)
        if ratio <= 2.0:
            break
    print(f"--help {statistics.median(ours):.3f} s, import {statistics.median(libraries):.3f} s, ratio {ratio:.2f}")
    assert ratio <= 2.0


def seconds(command: list[str]) -> float:
    """Wall time of a command that succeeds, with bytecode on the disk as users have it from the first call on."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "avar-tny", "--tasks", "shapes"], r"unknown model 'avar-tny': did you mean avar-tiny"),
        (["--model", "qwen2.5-vl-7", "--tasks", "shapes"], r"did you mean .*qwen2\.5-vl-7b"),
        (["--model", "zzz", "--tasks", "shapes"], r"unknown model 'zzz': `avar-eval models` lists"),
        (["--model", "a/b/c", "--tasks", "shapes"], r"there is no model folder 'a/b/c'"),
        (["--model", "/no/such/folder", "--tasks", "shapes"], r"there is no model folder '/no/such/folder'"),
        (["--model", "someone/no name", "--tasks", "shapes"], r"'someone/no name' is neither a folder .* repository"),
        ([*SHORT, "--tasks", "shape"], r"unknown task 'shape': did you mean shapes"),
        ([*SHORT, "--tasks", "shapes,mathvsta"], r"unknown task 'mathvsta': did you mean .*mathvista"),
        ([*SHORT, "--tasks", ","], r"name at least one task; `avar-eval tasks` lists them"),
        ([*SHORT, "--tasks", ""], r"give --model and --tasks"),
        ([*SHORT, "--model", ""], r"give --model and --tasks"),
        (["--model", MODEL], r"give --model and --tasks"),
        ([*SHORT, "--limitt", "3"], r"No such option: --limitt.*--limit"),
        ([*SHORT, "--limit"], r"'--limit' requires an argument"),
        ([*SHORT, "--limit", "-3"], r"'--limit': it is -3, not 1 or more|'--limit'.*x>=1"),
        ([*SHORT, "--limit", "0"], r"'--limit'.*1"),
        ([*SHORT, "--limit", "many"], r"'--limit': it is \"many\", not a whole number|'--limit'.*integer"),
        ([*SHORT, "--batch-size", "0"], r"'--batch-size'.*1"),
        ([*SHORT, "--max-new-tokens", "0"], r"'--max-new-tokens'.*1"),
        ([*SHORT, "--samples", "0"], r"'--samples'.*1"),
        ([*SHORT, "--samples", "2"], r"--samples above 1 needs --temperature above 0"),
        ([*SHORT, "--temperature", "-1"], r"'--temperature'.*0"),
        ([*SHORT, "--temperature", "nan"], r"temperature"),
        ([*SHORT, "--temperature", "inf"], r"--temperature takes 0 \(greedy\) or a number"),
        ([*SHORT, "--temperature", "1e-40"], r"--temperature takes 0 \(greedy\) or a number"),
        ([*SHORT, "--top-p", "0"], r"--top-p is 0.0, not above 0"),
        ([*SHORT, "--top-p", "1.5"], r"'--top-p'.*1"),
        ([*SHORT, "--top-p", "nan"], r"'--top-p'"),
        ([*SHORT, "--seed", "-1"], r"'--seed'.*0"),
        ([*SHORT, "--seed", "4294967296"], r"'--seed'.*4294967295"),
        ([*SHORT, "--dtype", "int4"], r"--dtype takes float32, bfloat16, float16, not 'int4'"),
        ([*SHORT, "--prompt-style", "loud"], r"--prompt-style takes thinking, direct, boxed, none, not 'loud'"),
        ([*SHORT, "--judge", "m"], r"a judge needs both --judge MODEL and --judge-url URL"),
        ([*SHORT, "--attention", "maybe"], r"--attention takes on, off, not 'maybe'"),
        ([*SHORT, "--attention-samples", "-1"], r"'--attention-samples'.*0"),
        ([*SHORT, "--device", "nonsense"], r"--device 'nonsense' cannot be used here"),
        ([*SHORT, "--device", "cuda:99"], r"--device 'cuda:99' cannot be used here"),
        ([*SHORT, "--device", "meta"], r"--device 'meta' cannot be used here"),
        (
            [*SHORT, "--api-url", "http://x/v1"],
            r"--api-url is an option of --backend api, and avar-tiny is run by transf",
        ),
        ([*SHORT, "--tensor-parallel", "2"], r"--tensor-parallel is an option of --backend vllm"),
        (
            ["--model", "gpt-4o", "--tasks", "shapes", "--max-model-len", "9"],
            r"--max-model-len is an .*gpt-4o is run by api",
        ),
        ([*SHORT, "--attn-implementation", "spda"], r"'spda' cannot be used here: it is none of eager, sdpa, flash"),
        ([*SHORT, "--attn-implementation", "paged|sdpa"], r"'paged\|sdpa' cannot be used here: .*leave out `paged\|`"),
        ([*SHORT, "--device", "cpu", "--attn-implementation", "flash_attention_3"], r"does not run on a CPU: use sdpa"),
        (
            ["--model", "gpt-4o", "--tasks", "shapes", "--attn-implementation", "eager"],
            r"--attn-implementation is an option of --backend transformers, and gpt-4o is run by api",
        ),
        (
            [*SHORT, "--backend", "vllm", "--attn-implementation", "eager"],
            r"--attn-implementation is an option of --backend transformers, and avar-tiny is run by vllm",
        ),
        ([*SHORT, "--system-prompt", "\udcff"], r"--system-prompt is not valid UTF-8"),
        (["models", "avar-tny"], r"unknown model 'avar-tny': did you mean avar-tiny"),
        (["models", "avar-tny", "--json"], r"unknown model 'avar-tny': did you mean avar-tiny"),
        (["modles"], r"No such command 'modles'.*models"),
        (["stray", *SHORT], r"No such command 'stray'"),
    ],
    ids=lambda value: (
        " ".join(value).replace(" ".join(SHORT), "…").encode("ascii", "replace").decode()
        if isinstance(value, list)
        else ""
    ),
)
def test_a_wrong_call_gets_one_message_and_code_2(avar_eval: Run, arguments: list[str], expected: str) -> None:
    assert re.search(expected, said(avar_eval(*arguments), 2), re.DOTALL)


def test_an_output_that_cannot_be_written_is_named(avar_eval: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = said(avar_eval(*SHORT, "--output", str(tmp_path / "file")), 1)
    assert message.startswith(f"avar-eval: cannot write to the output folder {tmp_path / 'file'}: ")


def test_an_image_placeholder_in_the_prompt_is_refused(avar_eval: Run) -> None:
    message = said(avar_eval(*SHORT, "--system-prompt", "Look at <|image_pad|>."), 1)
    assert "questions are refused, the last one: its text holds '<|image_pad|>', which is markup" in message


# Hugging Face's library reads its settings when it is imported, so these need processes of their own.
RESOLVE = """
import sys
from avar_eval.errors import AvarError
from avar_eval.models.checkpoint import resolve_checkpoint
try:
    resolve_checkpoint(sys.argv[2])
except AvarError as error:
    print(f"avar-eval: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize(
    ("program", "environment"),
    [
        ([COMMAND], {"HF_HUB_OFFLINE": "1"}),
        ([sys.executable, "-c", RESOLVE], {"HF_HUB_OFFLINE": "1"}),
        ([sys.executable, "-c", RESOLVE], {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}),
    ],
    ids=["run", "offline", "unreachable"],
)
def test_without_network_one_sentence_names_the_repository_and_the_way_out(
    tmp_path: Path, program: list[str], environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [*program, "--model", "someone/some-model", "--tasks", "shapes"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"} | environment,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == (
        "avar-eval: the weights of someone/some-model are not in the cache and the Hugging Face hub cannot be reached; "
        "give --model the path of a local folder that holds it instead"
    )
    assert "Traceback" not in done.stderr


def no_such_revision(*_: object, **__: object) -> None:
    raise RevisionNotFoundError("404", response=SimpleNamespace(headers={}, request=None))  # type: ignore[arg-type]


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "model.safetensors")


@pytest.mark.parametrize(
    ("download", "expected"),
    [
        (no_such_revision, "someone/some-model has no revision 'v9' on the Hugging Face hub; give --model the path"),
        (no_room, "someone/some-model cannot be downloaded .*No space left on device.*; give --model the path"),
    ],
)
def test_a_download_that_fails_says_why(
    monkeypatch: pytest.MonkeyPatch, download: Callable[..., None], expected: str
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(CheckpointError, match=expected):
        resolve_checkpoint("someone/some-model@v9")


Damage = Callable[[Path], object]


def without_a_tensor(model: Path) -> None:
    """As if a shard were missing; transformers alone would fill it with random numbers and go on."""
    weights = load_file(model / "model.safetensors")
    weights.pop(min(name for name in weights if "mlp" in name))
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def not_numbers(model: Path) -> None:
    """A checkpoint whose training has diverged."""
    weights = load_file(model / "model.safetensors")
    name = min(name for name in weights if "mlp" in name)
    save_file(weights | {name: weights[name] * float("nan")}, model / "model.safetensors", metadata={"format": "pt"})


def cut_in_half(model: Path) -> None:
    """A download that broke off."""
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(data[: len(data) // 2])


def of_another_architecture(model: Path) -> None:
    """A model that is not for images."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))


def with_settings(part: str, **settings: Any) -> Damage:
    def damage(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | {part: config[part] | settings}))

    return damage


def with_processor_class(name: str) -> Damage:
    def damage(model: Path) -> None:
        config = json.loads((model / "processor_config.json").read_text())
        (model / "processor_config.json").write_text(json.dumps(config | {"processor_class": name}))

    return damage


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda model: (model / "config.json").unlink(), "is not a model folder: it has no config.json"),
        (lambda model: (model / "config.json").write_text("{"), r"config\.json cannot be read"),
        (
            lambda model: (model / "config.json").write_text("[]"),
            r"config\.json is an empty list, not an object: fetch it again",
        ),
        (of_another_architecture, "architecture 'llama'; supported: .*qwen2_5_vl"),
        (lambda model: (model / "model.safetensors").unlink(), r"holds no weights: it has no model\.safetensors"),
        (
            lambda model: (model / "model.safetensors").write_bytes(b"\x10" + b"\0" * 7 + b"x" * 99),
            r"weights of .* cannot be loaded: .*model\.safetensors is damaged or not complete: fetch it again",
        ),
        (
            lambda model: (model / "model.safetensors").write_bytes(b""),
            r"model\.safetensors is damaged or not complete",
        ),
        (
            lambda model: (model / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
            r"model\.safetensors is a pointer of Git LFS, not the weights: `git lfs pull`",
        ),
        (cut_in_half, r"model\.safetensors is damaged or not complete: fetch it again"),
        (with_settings("text_config", hidden_size=12), r"tensors have other shapes than .*config\.json says"),
        (with_settings("text_config", hidden_size="x"), r"config\.json holds a value that does not fit: .*hidden_size"),
        (without_a_tensor, "not complete: 1 tensors are missing, such as .*mlp"),
        (not_numbers, "computes values that are not numbers"),
        (lambda model: (model / "tokenizer.json").write_text("{}"), "loaded: the settings in .* do not fit together"),
        (lambda model: (model / "tokenizer.json").write_text("{"), r"tokenizer\.json cannot be read \(.*breaks off"),
        (lambda model: (model / "tokenizer.json").unlink(), r"loaded: .* has no tokenizer\.json: fetch it again"),
        (lambda model: (model / "processor_config.json").unlink(), r"has no processor_config\.json: fetch it again"),
        (
            lambda model: (model / "processor_config.json").write_text("[]"),
            r"config\.json cannot be read \(.*an object",
        ),
        (with_processor_class("Foo"), "processor of .* cannot be loaded: the settings in .* do not fit together"),
        (
            lambda model: (model / "chat_template.jinja").write_bytes(b"\xe9"),
            r"template\.jinja cannot be read \(.*0xe9",
        ),
        (lambda model: (model / "chat_template.jinja").unlink(), "has no chat template"),
        (
            lambda model: (model / "chat_template.jinja").write_text("{{ broken"),
            "template of .* refuses a plain question",
        ),
        (
            lambda model: (model / "chat_template.jinja").write_text("hello"),
            "template of .* no <.im_start.> in 'hello'",
        ),
        (lambda model: (model / "generation_config.json").write_text("{"), r"generation_config\.json cannot be read"),
    ],
)
def test_a_damaged_model_folder_is_named(avar_eval: Run, tmp_path: Path, damage: Damage, expected: str) -> None:
    model = Path(shutil.copytree(resolve_checkpoint(MODEL).path, tmp_path / "model"))
    damage(model)
    message = said(avar_eval(*SHORT, "--model", str(model)), 1)
    assert re.search(expected, message)
    assert str(model) in message


@pytest.fixture(scope="module")
def run(avar_eval: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    """A short run with --json, and its folder."""
    output = tmp_path_factory.mktemp("json") / "a" / "b"
    return avar_eval(*SHORT, "--output", str(output), "--json", "--system-prompt", "Grüße, “look”."), output


def test_json_prints_exactly_the_file(run: tuple[Finished, Path]) -> None:
    finished, output = run
    assert finished.code == 0, finished.stderr
    assert finished.stdout == (output / "results.json").read_text(encoding="utf-8")
    assert json.loads(finished.stdout)["protocol"]["system_prompt"] == "Grüße, “look”."


def test_results_hold_what_is_promised(run: tuple[Finished, Path]) -> None:
    results = json.loads(run[0].stdout)
    metrics = results["tasks"]["shapes"]["metrics"]
    assert list(metrics) == [
        "accuracy",
        "official",
        "vas",
        "vas_response",
        "ratio_of_sums",
        "vas_without_sink",
        "vas_text",
        "vas_geometric_mean",
        "vas_median",
        "vas_top_rows",
        "vas_top_terms",
        "truncated",
        "unparsed",
        "timeout",
        *PASSES,
    ]
    assert metrics.pop("official") == {"value": None, "ci95": None, "n": 0}, "shapes has no rule but ours"
    assert results["tasks"]["shapes"]["headline"] == {"name": "accuracy", "values": {"strict": metrics["accuracy"]}}
    for name, metric in metrics.items():
        assert set(metric) == {"value", "ci95", "n"}
        assert metric["n"] == 2 or name in PASSES
        assert metric["ci95"] is None or metric["ci95"][0] <= metric["value"] <= metric["ci95"][1]
    without = {name for name, metric in metrics.items() if metric["ci95"] is None}
    assert without - set(PASSES) == {"vas_median", "vas_top_rows"}
    promised = {
        "model",
        "revision",
        "weights_sha256",
        "system_prompt",
        "prompt_style",
        "judge",
        "decoding",
        "prompt_sha256",
        "grader",
        "versions",
    }
    assert promised | {"seed", "command"} <= set(results["protocol"])
    assert results["protocol"]["attn_implementation"] == "sdpa"
    assert results["protocol"]["command"].startswith("avar-eval --model")
    assert "--output" not in results["protocol"]["command"]


def test_records_hold_what_is_promised(run: tuple[Finished, Path]) -> None:
    promised = {"key", "task", "row_id", "prompt", "prompt_token_ids", "response_token_ids", "response"}
    for record in records_of(run[1]):
        assert promised | {"finish_reason", "judgement", "attention"} <= set(record)
        assert record["attention"]["user"]["share_by_layer"].keys() >= {"system", "image", "user", "response"}


def test_the_table_shows_every_column(avar_eval: Run, run: tuple[Finished, Path]) -> None:
    shown = avar_eval(*SHORT, "--output", str(run[1]))
    assert shown.code == 0, shown.stderr
    for heading in ("task", "n", "accuracy", "official", "VAS", "(response)", "truncated", "unparsed", "95 % interval"):
        assert heading in shown.stdout
    band = json.loads((run[1] / "results.json").read_text())["tasks"]["shapes"]["vas_band"]
    assert band in shown.stdout
    assert str(run[1]) in shown.stdout


def test_models_and_tasks_are_listed(avar_eval: Run) -> None:
    models, tasks = avar_eval("models"), avar_eval("tasks")
    assert models.code == tasks.code == 0
    assert all(name in models.stdout for name in registry())
    assert all(name in tasks.stdout for name in catalog())
    assert [entry["name"] for entry in json.loads(avar_eval("models", "--json").stdout)] == list(registry())
    assert [entry["name"] for entry in json.loads(avar_eval("tasks", "--json").stdout)] == list(catalog())


def test_a_model_shows_where_its_weights_are(avar_eval: Run) -> None:
    entry = json.loads(avar_eval("models", "avar-tiny", "--json").stdout)
    assert entry["name"] == "avar-tiny"
    assert (Path(entry["path"]) / "model.safetensors").is_file()
    assert json.loads(avar_eval("models", "AVAR-Thinker-7B", "--json").stdout)["path"] is None


def test_an_interrupted_run_says_so_and_can_be_resumed(server: Server, tmp_path: Path) -> None:
    options = ("--model", MODEL, "--tasks", "shapes", "--max-new-tokens", "8", "--batch-size", "1")
    # so many that the run cannot come to its end before the signal reaches it, however busy the machine is
    drawn = ("--temperature", "1", "--samples", "8")
    run = server.start(*options, *drawn, "--output", str(tmp_path))
    wait_for_records(tmp_path, 2)
    stopped = run.kill(signal.SIGINT)
    assert stopped.code == 130
    assert stopped.stderr.splitlines()[-1].startswith("avar-eval: interrupted; ")
    assert "Traceback" not in stopped.stderr
    assert len(stopped.stderr.splitlines()) <= 3
    kept = records_of(tmp_path)
    assert 2 <= len(kept) < 500 * 8
    assert not (tmp_path / "results.json").exists()
    resumed = server.start(*options, *drawn, "--limit", "3", "--output", str(tmp_path)).wait()
    assert resumed.code == 0, resumed.stderr
    records = records_of(tmp_path)
    assert [record["key"] for record in records[: len(kept)]] == [record["key"] for record in kept]
    asked = json.loads((tmp_path / "asked.json").read_text())["shapes"]["keys"]
    assert len(asked) == 3 * 8
    assert set(asked) <= {record["key"] for record in records}


MATHVISTA = ("--model", MODEL, "--tasks", "mathvista", "--max-new-tokens", "4", "--data-dir")


def test_rows_without_their_picture_are_left_out_and_reported(avar_eval: Run, mathvista: Path, tmp_path: Path) -> None:
    done = avar_eval(*MATHVISTA, str(mathvista), "--output", str(tmp_path / "run"))
    assert done.code == 0, done.stderr
    task: dict[str, Any] = json.loads((tmp_path / "run" / "results.json").read_text())["tasks"]["mathvista"]
    assert task["left_out"] == {"n": 1, "ids": ["2"], "reason": "its picture is missing"}
    assert task["metrics"]["accuracy"]["n"] == 3
    assert sorted(record["row_id"] for record in records_of(tmp_path / "run")) == ["1", "3", "4"]
    assert "mathvista: 1 row left out: its picture is missing" in done.stdout


@pytest.mark.parametrize("tasks", ["shapes", "mathvista"])
def test_a_data_folder_that_is_not_there_is_an_error_also_where_no_task_reads_it(avar_eval: Run, tasks: str) -> None:
    asked = ("--model", MODEL, "--tasks", tasks, "--data-dir", "nope")
    assert "--data-dir 'nope': there is no such folder" in said(avar_eval(*asked), 2)
    assert "--data-dir 'nope': there is no such folder" in said(avar_eval(*asked[:-2], AVAR_DATA_DIR="nope"), 2)


def test_broken_data_is_named(avar_eval: Run, mathvista: Path, tmp_path: Path) -> None:
    rows, picture = mathvista / "mathvista" / "rows.jsonl", mathvista / "mathvista" / "images" / "3.png"

    def message(folder: Path) -> str:
        return said(avar_eval(*MATHVISTA, str(folder), "--output", str(tmp_path / "run")), 1)

    (tmp_path / "none").mkdir()
    assert f"there is no {tmp_path / 'none' / 'mathvista' / 'rows.jsonl'}" in message(tmp_path / "none")
    for broken in (picture.with_name("1.png"), picture):  # one alone would be left out
        broken.write_bytes(broken.read_bytes()[:60])
    assert f"the picture {picture} is broken" in message(mathvista)
    rows.write_bytes(rows.read_bytes()[:-40])
    assert f"{rows}, line 4 is damaged" in message(mathvista)
