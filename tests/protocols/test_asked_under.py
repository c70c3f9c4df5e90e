"""A model asked under a named protocol: what decides its answers, what the card says, and what makes it custom."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invented_rows import ROWS, write_folder
from runs import Finished, records_of

from avar_eval.errors import UsageError
from avar_eval.models.decoding import Decoding
from avar_eval.models.image_limits import ImageLimits
from avar_eval.run.asking import Asking
from avar_eval.run.model import resolve
from avar_eval.tasks.catalog import catalog

Run = Callable[..., Finished]


def test_a_protocol_goes_before_the_registry_and_a_choice_before_it() -> None:
    plain = resolve(Asking.of(model="vision-r1"))
    assert (plain.decoding.temperature, plain.decoding.max_new_tokens) == (0.6, 4096)
    under = resolve(Asking.of(model="vision-r1", protocol="vlmevalkit"))
    assert under.decoding == Decoding(max_new_tokens=2048)
    assert under.image_limits == ImageLimits(min_pixels=1280 * 28**2, max_pixels=16384 * 28**2)
    assert (under.system_prompt, under.instruction) == (None, None)
    assert under.prompt_settings(catalog()["mathvista"]) == {"prompt_template": "{{ query }}"}
    other = resolve(Asking.of(model="vision-r1", protocol="vlmevalkit", temperature=1.0, image_max_pixels=2_000_000))
    assert other.decoding.temperature == 1.0
    assert other.image_limits.max_pixels == 2_000_000


def test_pixel_limits_of_one_family_are_not_another_s() -> None:
    llava = resolve(Asking.of(model="llava-onevision-7b", protocol="vlmevalkit"))
    assert not llava.image_limits
    assert llava.decoding.max_new_tokens == 2048
    chosen = resolve(Asking.of(model="llava-onevision-7b", protocol="vlmevalkit", image_max_pixels=500_000))
    assert chosen.image_limits == ImageLimits(max_pixels=500_000)
    assert resolve(Asking.of(model="owner/unregistered", protocol="vlmevalkit")).image_limits.min_pixels == 1280 * 28**2


def test_a_benchmark_s_own_token_limit_and_ends() -> None:
    model = resolve(Asking.of(model="qwen2.5-vl-7b", protocol="lmms-eval"))
    limits = {
        name: model.task_decoding(catalog()[name]).max_new_tokens for name in ("mathvista", "mathverse_vo", "mmmu")
    }
    assert limits == {"mathvista": 16384, "mathverse_vo": 1024, "mmmu": 128}
    assert model.task_decoding(catalog()["mathverse_vo"]).stop == ("ASSISTANT:",)
    chosen = resolve(Asking.of(model="qwen2.5-vl-7b", protocol="lmms-eval", max_new_tokens=7))
    assert chosen.task_decoding(catalog()["mmmu"]).max_new_tokens == 7


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({}, {}),
        ({"temperature": 0.0, "max_new_tokens": 2048, "image_max_pixels": 16384 * 28**2}, {}),
        ({"temperature": 0.6}, {"temperature": (0, 0.6)}),
        ({"top_k": 5}, {"top_k": (0, 5)}),
        ({"max_new_tokens": 9}, {"max_new_tokens": (2048, 9)}),
        ({"image_min_pixels": 784}, {"image_min_pixels": (1280 * 28**2, 784)}),
        ({"system_prompt": "Look."}, {"system_prompt": (None, "Look.")}),
        ({"prompt_style": "boxed"}, {"prompt_style": ("vlmevalkit", "boxed")}),
        ({"limit": 5, "batch_size": 2, "samples": 1}, {}),
    ],
    ids=str,
)
def test_what_was_changed_makes_it_custom(given: dict[str, Any], changed: dict[str, Any]) -> None:
    named = resolve(Asking.of(model="qwen2.5-vl-7b", protocol="vlmevalkit", **given)).protocol
    assert named is not None
    assert named.changed == changed
    assert named.name == ("custom" if changed else "vlmevalkit")
    card = named.card([catalog()["mmmu"]])
    assert card["verdict"] == {"mmmu": "judge"}
    assert card.get("based_on") == ("vlmevalkit" if changed else None)
    json.dumps(card)


def test_a_wrong_call_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown protocol 'vlmeval': did you mean vlmevalkit"):
        resolve(Asking.of(model="avar-tiny", protocol="vlmeval"))
    with pytest.raises(UsageError, match="leave out --uniform-prompts"):
        resolve(Asking.of(model="avar-tiny", protocol="official", uniform_prompts=True))


def test_uniform_prompts_forget_what_a_model_s_entry_says() -> None:
    names = ("mm-eureka", "vlaa-thinker", "thinklite-vl", "qwen2.5-vl-7b", "avar-thinker")
    asked = [resolve(Asking.of(model=name, uniform_prompts=True)) for name in names]
    assert {(one.system_prompt, one.prompt_style, one.instruction) for one in asked} == {(None, "none", None)}
    chosen = resolve(Asking.of(model="mm-eureka", uniform_prompts=True, prompt_style="boxed", system_prompt="Look."))
    assert (chosen.system_prompt, chosen.prompt_style, chosen.instruction) == ("Look.", "boxed", None)


def test_a_run_under_a_protocol_says_so(avar_eval: Run, tmp_path: Path) -> None:
    how = ("--model", "avar-tiny", "--tasks", "shapes", "--limit", "2", "--attention", "off")
    run = avar_eval(*how, "--protocol", "official", "--output", str(tmp_path / "a"))
    assert run.code == 0, run.stderr
    assert "protocol: official; published scores under it are by verdict official" in run.stdout
    card = json.loads((tmp_path / "a" / "results.json").read_text())["protocol"]
    assert card["protocol"]["name"] == "official"
    assert card["protocol"]["verdict"] == {"shapes": "official"}
    assert all("<think>" not in record["prompt"] for record in records_of(tmp_path / "a"))
    changed = avar_eval(*how, "--protocol", "official", "--temperature", "0.5", "--output", str(tmp_path / "b"))
    card = json.loads((tmp_path / "b" / "results.json").read_text())["protocol"]["protocol"]
    assert changed.code == 0
    assert "protocol: custom, official with temperature 0.5 for 0.0; published" in changed.stdout
    assert (card["name"], card["based_on"]) == ("custom", "official")
    assert card["changed"] == {"temperature": {"protocol": 0.0, "chosen": 0.5}}
    refused = avar_eval(*how, "--protocol", "vlmevalkit", "--output", str(tmp_path / "c"))
    assert (refused.code, refused.stdout) == (2, "")
    assert "--protocol vlmevalkit says nothing of shapes" in refused.stderr


def test_tasks_with_limits_of_their_own_are_asked_in_one_run(avar_eval: Run, tmp_path: Path) -> None:
    for name in ("mmmu", "mmmu_pro_vision", "mmstar"):
        write_folder(tmp_path / "data", catalog()[name], ROWS[name])
    where = ("--data-dir", str(tmp_path / "data"), "--output", str(tmp_path / "run"), "--attention", "off")
    tasks = ("--tasks", "mmmu,mmmu_pro_vision,mmstar", "--protocol", "lmms-eval", "--image-min-pixels", "3136")
    run = avar_eval("--model", "avar-tiny", *tasks, "--image-max-pixels", "12544", *where)
    assert run.code == 0, run.stderr
    card = json.loads((tmp_path / "run" / "results.json").read_text())["protocol"]
    limits = {name: of["decoding"]["max_new_tokens"] for name, of in card["tasks"].items() if "decoding" in of}
    assert limits == {"mmmu_pro_vision": 256}, "of the others it is avar-tiny's own"
    assert card["image_limits"] == {"min_pixels": 3136, "max_pixels": 12544}
    assert card["protocol"]["based_on"] == "lmms-eval"
    prompts = {record["task"]: record["prompt"] for record in records_of(tmp_path / "run")}
    assert "Answer with the option's letter from the given choices directly" in prompts["mmstar"]
    assert "Answer with the option letter from the given choices directly." in prompts["mmmu_pro_vision"]
