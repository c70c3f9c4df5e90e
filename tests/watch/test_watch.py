"""`avar-eval watch` on what other trainers leave: adapters, shards that cannot be loaded, and a broken checkpoint."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from runs import Finished
from transformers import AutoModelForImageTextToText

from avar_eval.errors import UsageError
from avar_eval.leaderboard.store import Store
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.results.schema import Headline, Metric, Results, TaskResult
from avar_eval.watch import scoring as watched
from avar_eval.watch.complete import complete_checkpoints, mark_complete
from avar_eval.watch.scoring import WatchError, headline_score, link_best, scoring

BASE = resolve_checkpoint("avar-tiny").path
Run = Callable[..., Finished]


@pytest.fixture
def output_dir(tmp_path: Path) -> Path:
    """Step 5: an adapter. Step 10: sharded state, marked complete. Step 15: of an unknown architecture."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(BASE, dtype=torch.float32)
    folder = tmp_path / "out"
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(folder / "checkpoint-5")
    (folder / "checkpoint-10" / "pytorch_model_fsdp_0").mkdir(parents=True)
    (folder / "checkpoint-10" / "pytorch_model_fsdp_0" / "__0_0.distcp").write_bytes(b"shard")
    mark_complete(folder / "checkpoint-10", 10)
    shutil.copytree(BASE, folder / "checkpoint-15")
    config = json.loads((BASE / "config.json").read_text()) | {"model_type": "abacus"}
    (folder / "checkpoint-15" / "config.json").write_text(json.dumps(config))
    for step in (5, 15):
        (folder / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def test_what_can_be_scored_is_and_the_rest_is_told(avar_eval: Run, output_dir: Path, tmp_path: Path) -> None:
    leaderboard = tmp_path / "leaderboard"
    options = ("--limit", "2", "--max-new-tokens", "4", "--device", "cpu", "--run", "lora")
    done = avar_eval(
        "watch", str(output_dir), "--tasks", "shapes", "--once", *options, AVAR_LEADERBOARD=str(leaderboard)
    )
    assert done.code == 1
    assert "Traceback" not in done.stderr
    assert "not every checkpoint is scored: step 15 is not scored" in done.stderr
    assert "is of architecture 'abacus'" in done.stderr
    assert "checkpoint-10 holds sharded weights that only its training can load: merge them" in done.stderr
    rows = {row.training_step: row for row in Store(leaderboard).rows()}
    assert rows.keys() == {0, 5}
    assert {row.training_run for row in rows.values()} == {"lora"}
    assert rows[5].model == "lora/checkpoint-5"
    assert rows[0].vas is not None
    assert rows[5].vas != pytest.approx(rows[0].vas, rel=1e-3)
    assert (output_dir / "best").readlink() == Path("checkpoint-5")


def result(**scores: float | None) -> Results:
    def task(score: float | None) -> TaskResult:
        metric = Metric(value=score, ci95=None, n=4)
        return TaskResult.model_validate(
            {
                "metrics": {"accuracy": metric},
                "headline": Headline(name="accuracy", values={"strict": metric}),
                "vas_band": None,
                "left_out": {"n": 0, "ids": [], "reason": ""},
            }
        )

    return Results(run_id="0" * 16, tasks={name: task(score) for name, score in scores.items()}, protocol={})


def test_the_best_is_the_first_with_the_highest_mean_score(output_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = scoring(output_dir, ["shapes"], without_base=True)
    known: dict[int, Results] = {0: result(a=1.0), 5: result(a=0.2, b=0.6), 15: result(a=0.4, b=0.4)}
    monkeypatch.setattr(watched, "scored_steps", lambda _: known)
    link_best(of)
    assert (output_dir / "best").readlink() == Path("checkpoint-5"), "the base is no checkpoint"
    known[15] = result(a=0.4, b=0.5)
    link_best(of)
    assert (output_dir / "best").readlink() == Path("checkpoint-15")
    assert headline_score(result(a=None)) is None
    (output_dir / "best").unlink()
    (output_dir / "best").mkdir()
    with pytest.raises(WatchError, match="best is no link"):
        link_best(of)


def test_settings_are_those_of_the_scores_before(output_dir: Path, tmp_path: Path) -> None:
    first = scoring(output_dir, ["shapes"])
    assert first.base == str(BASE), "an adapter names its base"
    assert first.run == "out"
    scoring(output_dir, ["shapes"], base="avar-tini")
    assert scoring(output_dir, ["shapes"]).settings == first.settings, "nothing was scored under a mistyped name"
    (output_dir / "scores" / "step-0").mkdir()
    scoring(output_dir, ["shapes"], batch_size=3)
    with pytest.raises(UsageError, match=r"were made with tasks .*'shapes'.*, now .*'shapes_blind'"):
        scoring(output_dir, ["shapes_blind"])
    assert scoring(output_dir, ["shapes_blind"], scores=tmp_path / "other").tasks == ["shapes_blind"]
    shutil.rmtree(output_dir / "checkpoint-5")
    shutil.rmtree(output_dir / "scores")
    with pytest.raises(UsageError, match="give --base MODEL, or --without-base"):
        scoring(output_dir, ["shapes"])


def test_an_attention_kernel_that_cannot_be_had_is_refused_before_anything_is_scored(output_dir: Path) -> None:
    asked = scoring(output_dir, ["shapes"], device="cpu", attn_implementation="eager")
    assert asked.settings["attn_implementation"] == "eager"
    with pytest.raises(UsageError, match="does not run on a CPU: use sdpa"):
        scoring(output_dir, ["shapes"], device="cpu", attn_implementation="flash_attention_2")
    with pytest.raises(UsageError, match="an option of --backend transformers, not of vllm"):
        scoring(output_dir, ["shapes"], backend="vllm", attn_implementation="eager")


def test_a_folder_without_a_complete_checkpoint_says_so(avar_eval: Run, output_dir: Path) -> None:
    (output_dir / "checkpoint-5" / "trainer_state.json").write_text('{"global_st')
    for step in (10, 15):
        shutil.rmtree(output_dir / f"checkpoint-{step}")
    done = avar_eval("watch", str(output_dir), "--tasks", "shapes", "--once", "--without-base")
    assert done.code == 0, done.stderr
    assert done.stdout == f"nothing is scored: {output_dir} holds no complete checkpoint yet\n"


def test_scores_that_cannot_be_written_are_named(output_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WatchError, match=r"cannot make the folder .*file/scores: Not a directory"):
        scoring(output_dir, ["shapes"], scores=tmp_path / "file" / "scores")


def test_a_checkpoint_that_is_deleted_while_it_is_scored_is_told(
    output_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = scoring(output_dir, ["shapes"], without_base=True)

    def evaluate(config: Any) -> None:
        shutil.rmtree(config.model.asking.model)
        raise FileNotFoundError(config.model.asking.model)

    monkeypatch.setattr(watched, "evaluate", evaluate)
    problems = watched.score_waiting(of, {15})
    assert problems == ["step 5 was deleted while it was scored"]
    assert list(complete_checkpoints(output_dir)) == [10, 15]
