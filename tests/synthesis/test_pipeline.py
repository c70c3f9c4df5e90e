"""The whole pipeline on the embedded world: three actors behind an endpoint, who see no more than the models would."""

import json
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from actors import Actors, playing, recipe
from typer.testing import CliRunner

from avar_eval.cluster.driver import Done, Event, Ready
from avar_eval.cluster.jobs import Ask, Job
from avar_eval.errors import UsageError
from avar_eval.models.backend import BackendError, Generation, Refusal
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.spending import CostLimitError
from avar_eval.recipes.cli import app
from avar_eval.recipes.data import load
from avar_eval.recipes.synthesis.engine import Cluster
from avar_eval.recipes.synthesis.estimate import estimate
from avar_eval.recipes.synthesis.page import write_page
from avar_eval.recipes.synthesis.pipeline import NothingFinishedError, synthesize
from avar_eval.recipes.synthesis.recipe import Recipe, parse_recipe
from avar_eval.recipes.synthesis.selection import questions
from avar_eval.tasks.shapes.dataset import rows as shapes_rows

COUNT = 20


def made(url: str, count: int = COUNT, **changes: Any) -> Recipe:
    return parse_recipe(recipe(url, count, **changes), "the recipe")


def run(actors: Actors, folder: Path, count: int = COUNT, **options: Any) -> dict[str, Any]:
    changes = options.pop("changes", {})
    return synthesize(made(actors.url, count, **changes), folder, shown=False, **options)


def lines(folder: Path, name: str = "rows.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Actors]:
    folder = tmp_path_factory.mktemp("synthesis")
    with playing(Actors(count=COUNT)) as actors:
        report = run(actors, folder)
    return folder, report, actors


Finished = tuple[Path, dict[str, Any], Actors]


def test_every_row_of_honest_models_is_finished_and_counted(finished: Finished) -> None:
    folder, report, actors = finished
    assert actors.stages == {"describer": COUNT, "reasoner": 4 * COUNT, "rewriter": COUNT}
    assert report["sources"] == {"shapes": {"wanted": COUNT, "kept": COUNT}}
    for stage in ("select", "describe", "reason", "anchor", "finish"):
        assert {name: report["stages"][stage][name] for name in ("asked", "finished", "rejected")} == {
            "asked": COUNT,
            "finished": COUNT,
            "rejected": {},
        }
    paid = sum(report["stages"][stage]["dollars"] for stage in ("describe", "reason", "anchor"))
    assert paid == pytest.approx(sum(row["dollars"] for row in lines(folder)), rel=1e-4)
    assert json.loads((folder / "report.json").read_text()) == report


def test_rows_say_where_they_are_from_and_what_made_them(finished: Finished) -> None:
    folder = finished[0]
    answers = {f"shapes/{number}": row["answer"] for number, row in enumerate(shapes_rows("train", COUNT, seed=0))}
    assert {row["id"]: row["answer"] for row in lines(folder)} == answers
    for row in lines(folder):
        thought, answer = re.fullmatch(
            r"<think>(.*)</think><answer>(.*)</answer>", row["messages"][1]["content"][0]["text"], re.DOTALL
        ).groups()  # type: ignore[union-attr]
        assert answer == row["answer"]
        assert "look back at the" in thought
        assert "descri" not in thought
        assert "LOOK:" not in thought
        assert (row["source"], row["domain"], row["difficulty"]) == ("shapes", "math", 1.0)
        assert row["models"] == {"describe": "describer", "reason": "reasoner", "anchor": "rewriter"}
        assert set(row["prompts"]) == {"describe", "reason", "anchor"}
        assert (folder / row["images"][0]).is_file()


def test_the_describer_sees_the_picture_but_not_the_answer_and_the_others_see_text_alone(finished: Finished) -> None:
    folder = finished[0]
    replies = {stage: lines(folder, f"{stage}.jsonl") for stage in ("describe", "reason", "anchor")}
    assert len({reply["key"] for stage in replies.values() for reply in stage}) == 6 * COUNT
    assert all(
        reply["attempts"] == 1 and reply["reasoning_content"].startswith("reply ") for reply in replies["reason"]
    )
    assert {reply["sample"] for reply in replies["reason"]} == {0, 1, 2, 3}


def test_rows_are_read_by_fine_tuning_and_reinforcement_learning_as_they_are(finished: Finished) -> None:
    folder = finished[0]
    tuned = load(str(folder), "sft", system_prompt=None)
    assert len(tuned) == COUNT
    assert tuned[0]["prompt"][0]["content"][0]["type"] == "image"
    assert tuned[0]["completion"][0]["content"][0]["text"].startswith("<think>")
    assert tuned[0]["images"][0].size == (112, 112)
    drawn = load(str(folder), "grpo", system_prompt=None)
    assert [row["answer"] for row in drawn] == [row["answer"] for row in lines(folder)]
    gpt = load(str(folder / "sharegpt.jsonl"), "sft", system_prompt=None)
    assert [row["completion"] for row in gpt] == [row["completion"] for row in tuned]


def test_asked_again_nothing_is_sent_and_the_files_are_the_same(finished: Finished, tmp_path: Path) -> None:
    folder = finished[0]
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with playing(Actors(count=COUNT)) as actors:
        run(actors, folder)
        assert not actors.stages
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_another_prompt_of_stage_3_keeps_stages_1_and_2(tmp_path: Path) -> None:
    own = tmp_path / "mine.md"
    shipped = Path("recipes/synthesis/prompts/anchor_math.j2").read_text()
    own.write_text(shipped.replace("Change only this", "Change this alone"))
    with playing(Actors(count=4)) as actors:
        run(actors, tmp_path / "out", 4)
        first = dict(actors.stages)
        run(actors, tmp_path / "out", 4, changes={"stages": {"anchor": {"prompt": str(own)}}})
        assert actors.stages == first | {"rewriter": 8}
        run(actors, tmp_path / "out", 4)  # the shipped one's replies are there still
        assert actors.stages == first | {"rewriter": 8}


def test_the_yield_falls_as_the_describer_errs_and_no_wrong_answer_survives(tmp_path: Path) -> None:
    answers = {f"shapes/{number}": row["answer"] for number, row in enumerate(shapes_rows("train", 24, seed=0))}
    kept = []
    for wrong in (0.0, 0.5, 1.0):
        with playing(Actors(count=24, wrong=wrong)) as actors:
            report = run(actors, tmp_path / str(wrong), 24)
        rows = lines(tmp_path / str(wrong))
        assert all(row["answer"] == answers[row["id"]] for row in rows)
        assert all(
            row["messages"][1]["content"][0]["text"].endswith(f"<answer>{row['answer']}</answer>") for row in rows
        )
        assert report["stages"]["reason"]["rejected"].get("wrong", 0) == 24 - len(rows)
        kept.append(len(rows))
    assert kept[0] == 24
    assert kept[0] > kept[1] > kept[2] > 0


def _only(spoilt: str, how: Callable[[str], str]) -> Callable[[str, str], str]:
    return lambda model, text: how(text) if model == spoilt else text


SPOILT = {
    "a describer that solves": (
        _only("describer", lambda text: f"{text} The answer is 4, the answer is circle, the answer is C."),
        "describe",
    ),
    "a describer that refuses": (_only("describer", lambda text: "I'm sorry, I cannot view images."), "describe"),
    "a reasoner without tags": (_only("reasoner", lambda text: text.replace("<answer>", "")), "reason"),
    "a rewriter that changes steps": (
        _only("rewriter", lambda text: text.replace("one part of", "a part of")),
        "anchor",
    ),
    "a rewriter that leaves marks": (_only("rewriter", lambda text: text.replace("Let", "[LOOK: dial] Let")), "anchor"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_models_that_do_not_do_as_they_are_told_lose_their_rows_to_a_named_reason(name: str, tmp_path: Path) -> None:
    spoil, stage = SPOILT[name]
    with playing(Actors(count=4, spoil=spoil)) as actors:
        try:
            run(actors, tmp_path, 4)
        except NothingFinishedError as error:
            assert "report.md" in str(error)  # noqa: PT017
    report = json.loads((tmp_path / "report.json").read_text())
    assert sum(report["stages"][stage]["rejected"].values()) >= 1
    assert len(lines(tmp_path)) == report["sources"]["shapes"]["kept"]
    (reason, *_) = report["stages"][stage]["rejected"]
    assert f"### {stage}: {reason}" in (tmp_path / "report.md").read_text()


def test_stages_and_limits_can_be_taken_one_at_a_time(tmp_path: Path) -> None:
    with playing(Actors(count=8)) as actors:
        report = run(actors, tmp_path, 8, stage="describe", limit=3)
        assert dict(actors.stages) == {"describer": 3}
        assert report["stages"]["reason"]["waiting"] == 3
        assert not (tmp_path / "rows.jsonl").exists()
        run(actors, tmp_path, 8, stage="reason")
        assert dict(actors.stages) == {"describer": 8, "reasoner": 32}
        run(actors, tmp_path, 8, limit=2)
        assert dict(actors.stages) == {"describer": 8, "reasoner": 32, "rewriter": 2}
    assert [row["id"] for row in lines(tmp_path)] == [question.id for question in questions(tmp_path, 2)]


def test_a_dry_run_asks_nothing_knows_the_requests_and_after_a_few_replies_the_tokens(tmp_path: Path) -> None:
    with playing(Actors(count=30)) as actors:
        count, before = estimate(made(actors.url, 30), tmp_path)
        assert not actors.stages
        assert (count, {name: stage.requests for name, stage in before.items()}) == (
            30,
            {"describe": 30, "reason": 120, "anchor": 30},
        )
        run(actors, tmp_path, 30, limit=5)
        sent = dict(actors.stages)
        _, after = estimate(made(actors.url, 30), tmp_path)
        spent = {stage: lines(tmp_path, f"{stage}.jsonl") for stage in after}
        run(actors, tmp_path, 30)
    names = {"describe": "describer", "reason": "reasoner", "anchor": "rewriter"}
    for name, stage in after.items():
        assert stage.requests == actors.stages[names[name]] - sent[names[name]]
        new = lines(tmp_path, f"{name}.jsonl")[len(spent[name]) :]
        assert stage.prompt_tokens == pytest.approx(sum(reply["prompt_tokens"] for reply in new), rel=0.2)
        assert stage.completion_tokens == pytest.approx(sum(reply["completion_tokens"] for reply in new), rel=0.2)
        assert stage.dollars == pytest.approx(sum(reply["dollars"] for reply in new), rel=0.2)


def test_the_cost_limit_holds_over_all_stages_and_what_was_paid_before(tmp_path: Path) -> None:
    with playing(Actors(count=6)) as actors:
        paid = sum(stage["dollars"] for stage in run(actors, tmp_path / "whole", 6)["stages"].values())
        half = {"cost_limit": paid / 2}
        with pytest.raises(CostLimitError, match="cost_limit"):
            run(actors, tmp_path / "half", 6, changes=half)
        spent = [
            reply["dollars"]
            for stage in ("describe", "reason", "anchor")
            for reply in lines(tmp_path / "half", f"{stage}.jsonl")
        ]
        assert 0 < sum(spent) <= paid / 2
        run(actors, tmp_path / "half", 6, changes={"cost_limit": 10 * paid})
    assert lines(tmp_path / "half") == lines(tmp_path / "whole")


def test_rows_too_long_for_the_target_are_left_out_image_tokens_included(tmp_path: Path) -> None:
    with playing(Actors(count=4)) as actors:
        with pytest.raises(NothingFinishedError):
            run(
                actors,
                tmp_path,
                4,
                changes={"target": "avar-tiny", "filters": {"tokens": 60, "anchors_per_100_words": [0, 20]}},
            )
        assert json.loads((tmp_path / "report.json").read_text())["stages"]["finish"]["rejected"] == {
            "too_many_tokens": 4
        }
        report = run(actors, tmp_path, 4, changes={"target": "avar-tiny"})
    assert report["sources"]["shapes"]["kept"] == 4


def test_finished_rows_are_shown_on_a_page_that_fetches_nothing(finished: Finished) -> None:
    folder, _, actors = finished
    page = write_page(made(actors.url), folder, 3).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert "3 of 20 finished rows" in page
    assert "<mark>look back at the" in page or "<mark>Wait" in page or "<mark>let me check" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert "<script" not in page


def test_the_command_line_does_all_of_it(tmp_path: Path) -> None:
    with playing(Actors(count=4)) as actors:
        file = tmp_path / "recipe.yaml"
        file.write_text(json.dumps(recipe(actors.url, 4)))
        out = ["synthesize", str(file), "--output", str(tmp_path / "out")]
        told = CliRunner().invoke(app, [*out, "--dry-run"], catch_exceptions=False).stdout
        assert re.search(r"reason +16 ", told)
        assert "4 questions" in told
        assert CliRunner().invoke(app, [*out, "--inspect", "2"]).exit_code == 1
        done = CliRunner().invoke(app, out, catch_exceptions=False)
        assert done.stdout == f"4 rows finished in {tmp_path / 'out'}\n"
        assert (
            CliRunner().invoke(app, [*out, "--inspect", "2"], catch_exceptions=False).stdout.endswith("inspect.html\n")
        )
        with pytest.raises(UsageError, match="--stage takes"):
            CliRunner().invoke(app, [*out, "--stage", "all"], catch_exceptions=False)
        with pytest.raises(UsageError, match="--cluster slurm: give ray"):
            CliRunner().invoke(app, [*out, "--cluster", "slurm"], catch_exceptions=False)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is there, and would be started")
def test_a_stage_may_run_in_this_process_if_vllm_is_there(tmp_path: Path) -> None:
    with playing(Actors(count=2)) as actors:
        content = recipe(actors.url, 2)
        content["stages"]["describe"] = {"model": "avar-tiny", "backend": "vllm"}
        with pytest.raises(BackendError, match=r"the stage describe stops: --backend vllm needs vLLM"):
            synthesize(parse_recipe(content, "x"), tmp_path, shown=False)
        content["stages"]["describe"] |= {"url": actors.url}
        with pytest.raises(UsageError, match="it takes neither url nor price"):
            parse_recipe(content, "x")


class Engine:
    """A worker that answers with the text of its prompt's key, and cannot read one of them."""

    slots, where = 2, "here"

    def __init__(self, report: Callable[[Event], None], refused: int) -> None:
        self.report, self.refused, self.asked = report, refused, 0

    def submit(self, jobs: Sequence[tuple[int, Job]]) -> None:
        for number, job in jobs:
            assert isinstance(job, Ask)
            self.asked += 1
            answer = (
                Refusal("too long") if self.asked == self.refused else Generation([1, 2], [3], job.prompt.key, "stop")
            )
            self.report(Done(self, [(number, answer)]))

    def dismiss(self) -> None:
        """It holds nothing."""


class Engines:
    """In the place of a Ray cluster and its workplace."""

    def __init__(self, refused: int = 0) -> None:
        self.refused, self.workers, self.closed = refused, list[Engine](), False

    def dtype(self, device: str | None) -> str:
        return "float32"

    def workplace(self, opening: Any, number: int | None) -> "Engines":
        assert (opening.options.in_flight, number) == (8, 2)
        return self

    def room(self) -> int:
        return 2

    def hire(self, report: Callable[[Event], None]) -> Engine:
        self.workers.append(Engine(report, self.refused))
        report(Ready(self.workers[-1]))
        return self.workers[-1]

    def lacking(self) -> str:
        return "nothing"

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("refused", [0, 1])
def test_a_stage_without_an_endpoint_runs_on_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    """Its replies are kept as they come; what was answered is not asked again, what was refused is."""
    engines = Engines(refused)
    monkeypatch.setattr("avar_eval.cluster.ray_workplace.join_cluster", lambda *_: engines)
    with playing(Actors(count=8)) as actors:
        content = recipe(actors.url, 8)
        content["stages"]["describe"] = {"model": "avar-tiny", "backend": "vllm", "concurrency": 8}
        read = parse_recipe(content, "x")
        synthesize(read, tmp_path, stage="describe", shown=False, cluster=Cluster("ray", 2))
        replies = [json.loads(line) for line in (tmp_path / "describe.jsonl").read_text().splitlines()]
        refusals = sum(worker.asked >= refused > 0 for worker in engines.workers)
        assert len(replies) == 8 - refusals
        assert all(reply["response"] == reply["key"] for reply in replies)
        assert len(engines.workers) == 2, "both were used"
        assert engines.closed
        engines.refused = 0
        again = len(engines.workers)
        synthesize(read, tmp_path, stage="describe", shown=False, cluster=Cluster("ray", 2))
        assert sum(worker.asked for worker in engines.workers[again:]) == refusals


def test_a_cluster_that_no_stage_would_use_is_refused(tmp_path: Path) -> None:
    with playing(Actors(count=2)) as actors, pytest.raises(UsageError, match="every stage has an endpoint"):
        synthesize(parse_recipe(recipe(actors.url, 2), "x"), tmp_path, shown=False, cluster=Cluster("ray"))


def test_a_shipped_recipe_is_trained_on_synthesised_rows(finished: Finished, tmp_path: Path) -> None:
    from avar_eval.recipes.recipe import read_recipe
    from avar_eval.recipes.run import run as train

    options = (
        "--train_data",
        str(finished[0]),
        "--output_dir",
        str(tmp_path),
        "--max_steps",
        "2",
        "--logging_steps",
        "1",
    )
    trained = train(
        read_recipe("tiny_vard_sft", (*options, "--per_device_train_batch_size", "2", "--global_batch_size", "2"))
    )
    before = resolve_checkpoint("avar-tiny").path / "model.safetensors"
    assert (trained / "model.safetensors").read_bytes() != before.read_bytes()
