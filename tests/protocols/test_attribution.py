"""`--attribute`: a difference between two protocols, setting by setting, each change with its paired interval."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import Finished, records_of

from avar_eval.errors import UsageError
from avar_eval.protocols.protocol import find_protocol
from avar_eval.run.asking import Asking
from avar_eval.run.attribution import _runs
from avar_eval.tasks.catalog import catalog

Run = Callable[..., Finished]


def test_each_step_changes_one_setting_and_the_last_asks_as_the_other_does() -> None:
    tasks = [catalog()[name] for name in ("mathvista", "mathverse_vo")]
    asking = Asking.of(model="vision-r1", protocol="vision-r1")
    steps = list(_runs(asking, find_protocol("lmms-eval"), tasks))
    assert [setting for setting, _ in steps] == [
        None,
        "prompts",
        "system prompt",
        "pixels",
        "decoding",
        "token limit",
    ]
    models = dict(steps)
    assert models["prompts"].prompt_settings(tasks[1]) == {"prompt_template": "{{ query_wo | trim }}"}
    assert (models["prompts"].system_prompt, models["system prompt"].system_prompt) == (
        None,
        "You are a helpful assistant.",
    )
    assert not models["system prompt"].image_limits
    assert models["pixels"].image_limits.max_pixels == 1605632
    assert (models["pixels"].decoding.temperature, models["decoding"].decoding.temperature) == (0.6, 0.0)
    limits = [models[setting].task_decoding(tasks[1]).max_new_tokens for setting in ("decoding", "token limit")]
    assert limits == [16000, 1024]
    assert models["token limit"].task_decoding(tasks[1]).stop == ("ASSISTANT:",)
    named = models["decoding"].protocol
    assert named is not None
    assert named.name == "custom"
    assert list(named.changed) == ["prompts", "system prompt", "pixels", "decoding"]
    assert named.changed["prompts"] == ("vision-r1", "lmms-eval")


def test_what_changes_nothing_is_no_step() -> None:
    shapes = [catalog()["shapes"]]
    steps = list(_runs(Asking.of(model="avar-tiny", protocol="official"), find_protocol("paper"), shapes))
    assert [setting for setting, _ in steps] == [None, "prompts"], "avar-tiny has the paper's system prompt, and greedy"
    with pytest.raises(UsageError, match="--attribute needs --protocol"):
        list(_runs(Asking.of(model="avar-tiny"), find_protocol("paper"), shapes))


def test_a_difference_is_printed_with_its_cause(avar_eval: Run, tmp_path: Path) -> None:
    how = ("--model", "avar-tiny", "--tasks", "shapes", "--limit", "12", "--attention", "off", "--protocol", "official")
    done = avar_eval(*how, "--attribute", "paper", "--output", str(tmp_path))
    assert done.code == 0, done.stderr
    assert "prompts" in done.stdout
    written = json.loads((tmp_path / "attribution.json").read_text())
    assert [step["setting"] for step in written] == [None, "prompts"]
    strict = next(one for one in written[1]["comparisons"] if one["verdict"] == "strict")
    shares = [
        sum(record["judgement"]["correct"] for record in records_of(tmp_path / name)) / 12
        for name in ("0-official", "1-prompts")
    ]
    assert [strict["a"], strict["b"]] == pytest.approx(shares)
    assert strict["difference"]["value"] == pytest.approx(shares[1] - shares[0])
    card = json.loads((tmp_path / "1-prompts" / "results.json").read_text())["protocol"]["protocol"]
    assert (card["name"], card["based_on"]) == ("custom", "official")
    again = avar_eval(*how, "--attribute", "paper", "--output", str(tmp_path), "--json")
    assert json.loads(again.stdout) == written
    same = avar_eval(*how, "--attribute", "official", "--output", str(tmp_path / "same"))
    assert (same.code, same.stdout) == (2, "")
    assert "asks avar-tiny the same of these tasks" in same.stderr
