"""The default folder of a run: one for each model and each way to ask it that changes its answers."""

import re
from pathlib import Path
from typing import Any

import pytest

from avar_eval.fields import declared
from avar_eval.names import run_name
from avar_eval.records.record import Record
from avar_eval.run.asking import Asking
from avar_eval.run.folder import run_folder
from avar_eval.run.model import resolve

URL = "http://localhost:8000/v1"

USUAL: list[dict[str, Any]] = [
    {},
    {"limit": 10},
    {"batch_size": 2},
    {"device": "cpu"},
    {"attention_samples": 0},
    {"data_dir": Path(__file__).parent},
    {"steering": "image=0"},
    {"temperature": 0.0},
    {"max_new_tokens": 128},  # what the registry says of avar-tiny
    {"prompt_style": "thinking"},
    {"attn_implementation": "sdpa"},
    {"seed": 1},  # of nothing: it is greedy
    {"top_p": 0.5},
]


@pytest.mark.parametrize("given", USUAL, ids=str)
def test_what_changes_no_answer_changes_no_folder(given: dict[str, Any]) -> None:
    assert run_folder(resolve(Asking.of(model="avar-tiny", **given))) == Path("avar-runs/avar-tiny")


OTHER: list[tuple[dict[str, Any], str]] = [
    ({"steering": "avar"}, "avar-tiny--steer-avar"),
    ({"steering": "image=0.15,system=0.4"}, "avar-tiny--steer-avar"),
    ({"steering": "image=0.3,mode=prob"}, "avar-tiny--steer-image0.3-system0-modeprob"),
    ({"steering": "avar", "temperature": 0.6}, "avar-tiny--steer-avar--t0.6"),
    ({"temperature": 1, "top_p": 0.95, "top_k": 20, "samples": 8}, "avar-tiny--t1--p0.95--k20--n8"),
    ({"temperature": 1.0, "seed": 7}, "avar-tiny--t1--seed7"),
    ({"temperature": 1.0, "min_p": 0.1}, "avar-tiny--t1"),
    ({"repetition_penalty": 1.1}, "avar-tiny"),
    ({"max_new_tokens": 64}, "avar-tiny--max64"),
    ({"prompt_style": "direct"}, "avar-tiny--direct"),
    ({"protocol": "official"}, "avar-tiny--official"),
    ({"protocol": "official", "max_new_tokens": 64}, "avar-tiny--official--max64"),
    ({"uniform_prompts": True}, "avar-tiny"),
    ({"system_prompt": "Look twice."}, "avar-tiny"),
    ({"system_prompt": "Look again."}, "avar-tiny"),
    ({"image_min_pixels": 100_000}, "avar-tiny"),
    ({"image_max_pixels": 200_000}, "avar-tiny"),
    ({"dtype": "bfloat16"}, "avar-tiny--bfloat16"),
    ({"attn_implementation": "eager"}, "avar-tiny"),
    ({"backend": "vllm"}, "avar-tiny--vllm"),
    ({"steering": "image=0.1,layers=" + "+".join(map(str, range(0, 80, 2)))}, "avar-tiny--steer-image0.1-system0-"),
]


def test_each_other_way_has_a_folder_of_its_own_and_always_the_same() -> None:
    names = []
    for given, beginning in OTHER:
        name = run_folder(resolve(Asking.of(model="avar-tiny", **given))).name
        assert re.fullmatch(re.escape(beginning) + r"[\w.+-]*-[0-9a-f]{8}", name), (given, name)
        assert len(name) < 120
        assert run_folder(resolve(Asking.of(model="avar-tiny", **given | {"limit": 3, "device": "cpu"}))).name == name
        names.append(name)
    assert len(set(names)) == len(OTHER) - 1  # the strengths of avar are avar


def test_every_field_of_asking_is_in_the_name_or_changes_no_answer() -> None:
    """A new field must be decided on: it belongs into `_settings` and above, or here."""
    changes_nothing = {"limit", "batch_size", "attention_samples", "data_dir", "allow_outside", "device", "name"}
    changes_nothing |= {"causal", "causal_samples", "knockout_windows", "vas_queries", "cluster", "cluster_workers"}
    parts = {"model", "decoding", "backend_options"}  # options of decoding are taken as they decide record keys
    named = {name for given, _ in OTHER for name in given} & declared(Asking).keys()
    assert named | changes_nothing | parts == declared(Asking).keys()


def test_two_servers_of_one_model_have_two_folders() -> None:
    given = {"model": "some/model", "backend": "api"}
    folders = [run_folder(resolve(Asking.of(api_url=url, **given))) for url in (URL, "https://example.org/v1")]
    assert all(folder.name.startswith("model--api-") for folder in folders)
    assert folders[0] != folders[1]
    slower = Asking.of(api_url=URL, api_concurrency=1, **given)
    assert run_folder(resolve(slower)) == folders[0]


def test_a_folder_name_of_today_is_that_of_tomorrow() -> None:
    """Runs of earlier versions are found again: a change of these digits would ask them anew."""
    asking = Asking.of(model="avar-tiny", steering="avar", temperature=0.6)
    assert run_folder(resolve(asking)) == Path("avar-runs/avar-tiny--steer-avar--t0.6-5b8a7040")


def test_where_earlier_versions_put_such_a_run_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = resolve(Asking.of(model="avar-tiny", temperature=0.6))
    folder = run_folder(model, tmp_path)
    assert capsys.readouterr().err == ""
    (tmp_path / "avar-tiny").mkdir()
    records = tmp_path / "avar-tiny" / "records.jsonl"
    parts: dict[str, Any] = {"task": "t", "row_id": "0", "sample": 0, "prompt": "?", "response": ""}
    parts |= {"prompt_token_ids": [], "response_token_ids": [], "finish_reason": "stop"}
    earlier = Record(key="a", **parts).model_dump_json(exclude_none=True) + "\n"
    of_today = Record(key="b", protocol_id="0123456789abcdef", **parts).model_dump_json() + "\n"
    for content in ("", earlier + of_today, "torn\n" + of_today):
        records.write_text(content)
        assert run_folder(model, tmp_path) == folder
        assert f"--output {tmp_path / 'avar-tiny'} goes on with it" in " ".join(capsys.readouterr().err.split())
    records.write_text(of_today)
    assert run_folder(model, tmp_path) == folder
    assert capsys.readouterr().err == "", "this version put nothing of other settings there"
    folder.mkdir()
    run_folder(model, tmp_path)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("avar-tiny", "avar-tiny"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl-7b-instruct"),
        ("trained/My-Model/", "my-model"),
        ("trained/checkpoint-100", "trained--checkpoint-100"),
        ("/data/Out/step_20", "out--step_20"),
        ("out/best", "out--best"),
        ("bestiary", "bestiary"),
        ("/checkpoint-1", "checkpoint-1"),
    ],
)
def test_what_a_models_runs_are_called(model: str, name: str) -> None:
    assert run_name(model) == name


def test_a_model_in_this_folder_is_called_after_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Training" / "checkpoint-5").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "Training")
    assert run_name(".") == "training"
    assert run_name("checkpoint-5") == "training--checkpoint-5"
    monkeypatch.chdir("checkpoint-5")
    assert run_name("..") == "training"
    assert run_name(".") == "training--checkpoint-5"
