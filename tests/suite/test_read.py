"""SUITE.yaml: what it comes to, and what is said of a mistake, with its line."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from avar_eval.cli import app
from avar_eval.errors import UsageError
from avar_eval.models.backend_options import ApiOptions, TransformersOptions, VllmOptions
from avar_eval.suite.keys import OF_MODEL, OF_RUN, asking_keys
from avar_eval.suite.read import PlannedRun, read_suite
from avar_eval.suite.slurm import sbatch_text

TOP = "tasks: [shapes]\n"


def read(folder: Path, text: str, **given: Any) -> list[PlannedRun]:
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return list(read_suite(path, folder / "runs", given).runs)


def faults_of(folder: Path, text: str) -> list[str]:
    """What is found wrong with a suite, from the lines' numbers on."""
    with pytest.raises(UsageError) as found:
        read(folder, text)
    return [line.removeprefix(f"{folder / 'suite.yaml'}, line ") for line in str(found.value).splitlines()]


def options_of(command: str) -> Mapping[str, Any]:
    """What `avar-eval run` would be given by a command line."""
    program, *words = shlex.split(command)
    assert program == "avar-eval"
    context = typer.main.get_command(app).make_context("avar-eval", words)
    return {name: value for name, value in context.params.items() if value not in (None, [], ())}


def test_every_option_of_a_run_is_a_key() -> None:
    flags = {
        flag.removeprefix("--")
        for parameter in typer.main.get_command(app).commands["run"].command.params  # type: ignore[attr-defined]
        for flag in parameter.opts
        if flag.startswith("--")
    }
    not_of_a_suite = {"model", "tasks", "output", "attribute", "json", "help"}
    assert flags - not_of_a_suite == {*asking_keys(), *OF_RUN}


def test_a_model_may_be_a_name_or_say_what_is_its_own(tmp_path: Path) -> None:
    first, second = read(
        tmp_path,
        "tasks: shapes, shapes_prior\nlimit: 7\nmax_new_tokens: 30\nmodels:\n- avar-tiny\n"
        "- {model: avar-tiny, name: hot, limit: 3, temperature: 0.5, tasks: [shapes], causal: off, attention: off}\n",
    )
    assert [task.name for task in first.tasks] == ["shapes", "shapes_prior"]
    assert first.model.asking.limit == 7
    assert first.command == "avar-eval --model avar-tiny --tasks shapes,shapes_prior --limit 7 --max-new-tokens 30"
    assert [task.name for task in second.tasks] == ["shapes"]
    asking = second.model.asking
    assert (asking.limit, asking.causal, asking.attention_samples, second.model.name) == (3, "off", 0, "hot")
    assert second.model.decoding.temperature == 0.5
    assert first.name.startswith("avar-tiny--max30-")
    assert second.name.startswith("hot--t0.5--max30-")


def test_a_command_of_a_run_says_the_same_as_the_file(tmp_path: Path) -> None:
    text = """
tasks: [shapes]
models:
- model: avar-tiny
  backend: vllm
  vllm: {max_num_seqs: 8, enable_prefix_caching: false, kv_cache_dtype: fp8}
  eager: true
  gpu-memory: 0.5
  uniform-prompts: false
  attention: off
  system-prompt: "Look; then \\"say\\" it's $HOME."
  judge: grader
  judge-url: http://localhost:1/v1
  judge-rate: 2
"""
    (planned,) = read(tmp_path, text)
    options = options_of(planned.command)
    assert options["engine_args"] == ["max_num_seqs=8", "enable_prefix_caching=false", "kv_cache_dtype=fp8"]
    assert options["eager"] is True
    assert options["gpu_memory"] == 0.5
    assert options["attention"] == "off"
    assert options["system_prompt"] == planned.model.system_prompt == 'Look; then "say" it\'s $HOME.'
    assert (options["judge"], options["judge_rate"]) == ("grader", 2.0)
    assert planned.judge is not None
    assert planned.judge.rate == 2
    assert not options.get("uniform_prompts")
    assert planned.model.options.engine_args == {  # type: ignore[union-attr]
        "max_num_seqs": "8", "enable_prefix_caching": "false", "kv_cache_dtype": "fp8"
    }  # fmt: skip


def test_options_of_a_backend_are_those_of_the_models_that_run_on_it(tmp_path: Path) -> None:
    engine, kernel, server = read(
        tmp_path,
        TOP + "backend: vllm\ntensor-parallel: 2\napi-concurrency: 3\nattn-implementation: eager\nmodels:\n"
        "- avar-tiny\n- {model: avar-tiny, backend: transformers}\n"
        "- {model: m, backend: api, api-url: 'http://localhost:1/v1'}\n",
    )
    assert engine.model.options == VllmOptions(tensor_parallel=2)
    assert kernel.model.options == TransformersOptions(attn_implementation="eager")
    assert server.model.options == ApiOptions(url="http://localhost:1/v1", concurrency=3)
    with pytest.raises(UsageError, match="line 3: --tensor-parallel is an option of --backend vllm"):
        read(tmp_path, TOP + "models:\n- {model: avar-tiny, tensor-parallel: 2}\n")


def test_where_it_is_computed_is_no_part_of_a_run(tmp_path: Path) -> None:
    text = TOP + "models:\n- avar-tiny\n- {model: m, backend: api, api-url: 'http://localhost:1/v1'}\n"
    alone, on_cluster = read(tmp_path, text), read(tmp_path, text, cluster="ray", cluster_workers=2)
    assert [(run.name, run.command) for run in alone] == [(run.name, run.command) for run in on_cluster]
    assert [run.model.asking.cluster for run in on_cluster] == ["ray", None]


def test_steerings_and_seeds_multiply(tmp_path: Path) -> None:
    runs = read(
        tmp_path,
        TOP + "steerings: [none, avar, 'image=0.3']\nseeds: [0, 1]\nmodels:\n- {model: avar-tiny, temperature: 0.7}\n",
    )
    found = [(str(run.model.asking.steering or ""), run.model.decoding.seed) for run in runs]
    assert len(set(found)) == len({run.name for run in runs}) == len(runs) == 6
    assert found[:2] == [("", 0), ("", 1)]
    assert [run.name.rsplit("-", 1)[0] for run in runs[2:4]] == [
        "avar-tiny--steer-avar--t0.7", "avar-tiny--steer-avar--t0.7--seed1"
    ]  # fmt: skip


def test_seeds_of_greedy_decoding_are_run_once(tmp_path: Path) -> None:
    runs = read(tmp_path, TOP + "seeds: [0, 1, 2]\nmodels: [avar-tiny, {model: avar-tiny, name: b, temperature: 1}]\n")
    assert [run.model.decoding.seed for run in runs] == [0, 0, 1, 2]


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    (planned,) = read(tmp_path, TOP + "limit: 7\nmodels: [{model: avar-tiny, limit: 9}]\n", limit=2)
    assert planned.model.asking.limit == 2
    assert "--limit 2" in planned.command


@pytest.mark.parametrize(
    ("text", "problem"),
    {
        "": "line 1: a suite has `models`",
        "- avar-tiny\n": "line 1: a suite has `models`",
        "tasks: [shapes]\n": "line 1: `models` is a list",
        TOP + "models: []\n": "line 2: `models` is a list",
        TOP + "models: [7]\n": "line 2: a model is a name",
        TOP + "models:\n- {name: x}\n": "line 3: say which model it is",
        TOP + "models:\n- avar-tiny\n- avar-tinny\n": "line 4: .*did you mean avar-tiny",
        TOP + "models:\n- avar-tiny\n- model: avar-tiny\n  limt: 3\n": "line 5: unknown key 'limt': did you mean limit",
        TOP + "max-new-token: 3\nmodels: [avar-tiny]\n": "line 2: unknown key 'max-new-token': did you mean max-new-t",
        TOP + "models:\n- model: avar-tiny\n  models: [x]\n": "line 4: models stands at the top, for all models$",
        TOP + "models:\n- model: avar-tiny\n  slurm: {}\n": "line 4: slurm stands at the top, for all models$",
        TOP + "name: x\nmodels: [avar-tiny]\n": "line 2: name stands with a model",
        TOP + "top_p: 3\nmodels:\n- avar-tiny\n- {model: avar-tiny, name: b}\n": "line 2: top-p is 3, not 1 or less$",
        TOP + "temperature: 1e-9\nsamples: 2\nmodels: [avar-tiny]\n": "line 2: --temperature takes 0",
        TOP + "samples: 2\nmodels:\n- model: avar-tiny\n  temperature: 0\n": "line 5: --samples above 1 needs",
        TOP + "backend: vlm\nmodels: [{model: avar-tiny, tensor-parallel: 2}]\n": "line 2: backend is .vlm., not",
        TOP + "dtype: int4\nmodels:\n- avar-tiny\n- {model: avar-tiny, name: b}\n": "line 2: --dtype takes float32",
        TOP + "data_dir: none\nmodels:\n- avar-tiny\n- {model: avar-tiny, name: b}\n": "line 2: --data-dir 'none'",
        TOP + "include_path: none\nmodels:\n- avar-tiny\n- {model: avar-tiny, name: b}\n": "line 2: .*none",
        TOP + "protocol: none\nmodels:\n- avar-tiny\n- {model: avar-tiny, name: b}\n": "line 2: unknown protocol",
        TOP + "judge-url: x\njudge: y\nmodels: [avar-tiny]\n": "line 2: judge-url: the URL must begin with",
        TOP + "judge-rate: 0\nmodels: [avar-tiny]\n": "line 2: judge-rate takes requests a second, above 0",
        TOP + "models:\n- {model: m, backend: api, api-url: x}\n": "line 3: api-url: the URL must begin with",
        TOP
        + "api-cost-limit: 1\nmodels: [{model: m, backend: api, api-url: 'http://h/v1'}]\n": "line 3: .*--api-price",
        TOP + "backend: api\nmodels:\n- m\n": "line 4: --backend api needs --api-url",
        TOP + "models:\n- {model: m, backend: api}\n": "line 3: --backend api needs --api-url",
        TOP + "models:\n- {model: ''}\n": "line 3: .*`avar-eval models`",
        TOP + "vllm: [x]\nmodels: [avar-tiny]\n": "line 2: vllm: ",
        TOP + "steer: avar=1\nmodels:\n- avar-tiny\n": "line 2: .*--steer",
        "tasks:\n- shapes\n- shapess\nmodels: [avar-tiny]\n": "line 3: unknown task 'shapess': did you mean shapes",
        "models: [avar-tiny]\n": "line 1: `tasks` is a list",
        "tasks: [3]\nmodels: [avar-tiny]\n": "line 1: `tasks` is a list",
        TOP
        + "models:\n- avar-tiny\n- {model: avar-tiny, limit: 3}\n": "line 4: .*line 3, too.*give one of them a `name`",
        TOP + "models:\n- {model: avar-tiny, name: ../up}\n": "line 3: a name is made of letters",
        TOP + "models:\n- {model: avar-tiny, limit: many}\n": "line 3: limit: .*not 'many'",
        TOP + "models:\n- {model: avar-tiny, limit: 0}\n": "line 3: limit is 0, not 1 or more",
        TOP + "temperature: hot\nmodels: [avar-tiny]\n": "line 2: temperature: a number is wanted, not 'hot'",
        TOP + "temperature: [1]\nmodels:\n- avar-tiny\n": "line 2: temperature is a list of 1, not a number",
        TOP + "judge-rate: fast\nmodels: [avar-tiny]\n": "line 2: judge-rate: a number is wanted, not 'fast'",
        TOP + "judge-rate: [1]\nmodels: [avar-tiny]\n": "line 2: judge-rate is a number",
        TOP + "judge-url: 7\nmodels: [avar-tiny]\n": "line 2: judge-url is a text, not 7",
        TOP + "include-path: [5]\nmodels: [avar-tiny]\n": "line 2: include-path is a folder or a list of folders",
        TOP + "include-path: {a: b}\nmodels: [avar-tiny]\n": "line 2: include-path is a folder or a list of folders",
        TOP + "batch-size: 1\nbatch_size: 2\nmodels: [avar-tiny]\n": "line 3: batch-size is given twice",
        TOP + "models:\n- {model: avar-tiny, name: suite.json}\n": "line 3: suite.json is a name of the suite's own",
        TOP
        + "models:\n- {model: avar-tiny, name: timings.jsonl}\n": "line 3: timings.jsonl is a name of the suite's own",
        TOP + "models:\n- {model: avar-tiny, name: logs}\n": "line 3: logs is a name of the suite's own",
        TOP + "models:\n- {model: avar-tiny, name: resume.json}\n": "line 3: resume.json is a name of the suite's own",
        TOP + f"models:\n- {{model: avar-tiny, name: {'n' * 256}}}\n": "line 3: n+… is too long a name",
        TOP + "limit:\nmodels: [avar-tiny]\n": "line 2: limit has no value",
        TOP + "limit: 3\nlimit: 4\nmodels: [avar-tiny]\n": "line 3: limit is given twice",
        TOP + "steerings: [avr]\nmodels:\n- avar-tiny\n": "line 2: .*avr",
        TOP + "steerings: [3]\nmodels: [avar-tiny]\n": "line 2: `steerings` are texts of --steer",
        TOP + "steer: avar\nsteerings: [none]\nmodels: [avar-tiny]\n": "line 3: give either `steer` or `steerings`",
        TOP + "seeds: [a]\nmodels: [avar-tiny]\n": "line 2: `seeds` are whole numbers",
        TOP + "seeds: [1, 1]\nmodels: [avar-tiny]\n": "line 2: `seeds` has a value twice",
        TOP + "attention: 1\nmodels:\n- avar-tiny\n": "line 2: attention takes on, off, not 1",
        TOP + "judge: x\nmodels:\n- avar-tiny\n": "line 2: a judge needs both",
        TOP + "slurm: 3\nmodels: [avar-tiny]\n": "line 2: `slurm` is a mapping",
        "tasks: [shapes\n": "cannot be read as YAML",
    }.items(),
    ids=lambda value: repr(value)[-60:],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=f"suite.yaml.*{problem}") as found:
        read(tmp_path, text)
    assert "\n" not in str(found.value)


def test_all_mistakes_are_said_at_once_each_once(tmp_path: Path) -> None:
    text = (
        "tasks: [shapes, shapess]\nlimt: 3\ntemperature: hot\nmodels:\n- avar-tiny\n"
        "- {model: avar-tiny, batch-sise: 1}\n"
        "- avar-tinny\n- {model: avar-tiny, limit: 0, tasks: [shaped]}\n- {name: x}\nslurm: 3\n"
    )
    lines = faults_of(tmp_path, text)
    said = {line.partition(":")[0]: line for line in lines}
    assert list(said) == ["2", "3", "1", "6", "7", "8", "9", "10"]
    assert len(lines) == len(said) + 1, "both of line 8"
    for line, problem in {"1": "'shapess'", "6": "'batch-sise'", "7": "'avar-tinny'", "9": "which model it is"}.items():
        assert problem in said[line]


def test_a_faulty_option_hides_no_other_and_is_said_once_at_its_line(tmp_path: Path) -> None:
    text = (
        "tasks: [shapes]\nlimit: -3\nsteerings:\n- none\n- avar=xx\nmodels:\n- avar-tiny\n"
        "- model: avar-tiny\n  name: /b\n  max-new-tokens: 0\n  seeds: [1, -1]\n"
        "- {model: avar-tiny, name: c, samples: 3}\n- {tasks: [x], top-k: -1}\n"
    )
    lines = faults_of(tmp_path, text)
    assert sorted(int(line.partition(":")[0]) for line in lines) == [2, 5, 9, 10, 11, 12, 13, 13, 13]
    for said in ("2: limit is -3, not 1 or more", "10: max-new-tokens is 0, not 1 or more", "11: seed is -1, not 0 or"):
        assert [line for line in lines if line.startswith(said)], lines


def test_what_the_command_line_gives_need_not_be_right_in_the_file(tmp_path: Path) -> None:
    (planned,) = read(tmp_path, TOP + "limit: -3\nmodels: [avar-tiny]\n", limit=2)
    assert planned.model.asking.limit == 2


def test_numbers_that_yaml_takes_for_texts_are_numbers(tmp_path: Path) -> None:
    (planned,) = read(tmp_path, TOP + "temperature: 1e-3\nlimit: '3'\nmodels: [avar-tiny]\n")
    assert (planned.model.decoding.temperature, planned.model.asking.limit) == (0.001, 3)
    assert options_of(planned.command)["temperature"] == 0.001
    (planned,) = read(tmp_path, TOP + "temperature: 0.12345678\nmodels: [avar-tiny]\n")
    assert options_of(planned.command)["temperature"] == 0.12345678


def test_there_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the suite .*none\.yaml cannot be read: No such file"):
        read_suite(tmp_path / "none.yaml", tmp_path, {})


def test_a_merged_mapping_is_its_owners(tmp_path: Path) -> None:
    (planned,) = read(tmp_path, TOP + "models:\n- <<: {model: avar-tiny, limit: 3}\n  name: own\n")
    assert (planned.model.asking.limit, planned.model.name) == (3, "own")


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "examples").glob("suite*.yaml")), ids=lambda of: of.name
)
def test_examples_can_be_read(tmp_path: Path, path: Path) -> None:
    suite = read_suite(path, tmp_path, {})
    assert len(suite.runs) >= 4
    assert sbatch_text(suite, tmp_path, {}, tmp_path, tmp_path)


def test_keys_of_a_model_are_no_options() -> None:
    assert not {*OF_MODEL} & {*asking_keys(), *OF_RUN}
    assert all(re.fullmatch(r"[a-z-]+", key) for key in (*asking_keys(), *OF_RUN))
