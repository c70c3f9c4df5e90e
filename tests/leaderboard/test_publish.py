"""`avar-leaderboard publish`: what it writes the hub's own library reads back, and nothing leaves without --push."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from huggingface_hub import ModelCard, RepoCard, parse_eval_result_entries
from huggingface_hub.errors import LocalTokenNotFoundError
from typer.testing import CliRunner

from avar_eval.errors import AvarError, UsageError
from avar_eval.leaderboard.cli import app
from avar_eval.leaderboard.store import Store
from avar_eval.score.rescore import score_run

EARLIER = Path(__file__).parent.parent / "results" / "run_of_an_earlier_version"
SENDING = ("create_repo", "upload_folder")


class Hub:
    """A hub that lists one benchmark and keeps what it is sent. existing: repositories that are there."""

    def __init__(self, folder: Path, user: str | None = "me", existing: tuple[str, ...] = ()) -> None:
        self.folder, self.user, self.existing, self.calls = folder, user, existing, []  # type: ignore[var-annotated]
        self.broken: str | None = None
        self.tags = {"AI4Math/MathVista": ["benchmark:official"]}
        (folder / "eval.yaml").write_text(
            "name: MathVista\ntasks:\n- {id: mathvista_mini, config: default, split: testmini}\n"
            "- {id: mathvista, config: default, split: test}\n"
        )

    def __call__(self) -> "Hub":
        return self

    def dataset_info(self, name: str) -> Any:
        self.calls.append(("dataset_info", name))
        if self.broken == "unreachable":
            raise httpx.ConnectError("no network")
        return SimpleNamespace(tags=self.tags.get(name, []))

    def hf_hub_download(self, name: str, file: str, repo_type: str) -> str:
        return str(self.folder / file)

    def whoami(self) -> dict[str, str]:
        if self.user is None:
            raise LocalTokenNotFoundError("no token")
        return {"name": self.user}

    def repo_exists(self, name: str, repo_type: str) -> bool:
        return name in self.existing

    def create_repo(self, name: str, **settings: Any) -> None:
        self.calls.append(("create_repo", name, settings["repo_type"], settings["space_sdk"]))

    def upload_folder(self, *, repo_id: str, repo_type: str, folder_path: Path, create_pr: bool, **_: Any) -> Any:
        if self.broken == repo_type:
            raise httpx.ReadTimeout("too slow")
        self.calls.append(("upload_folder", repo_id, repo_type, create_pr))
        shutil.copytree(folder_path, self.folder / "received" / repo_type / repo_id)
        return SimpleNamespace(pr_url=f"https://hub/{repo_id}/discussions/1" if create_pr else None, __str__=str)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two questions each of two tasks, its numbers made by this version."""
    folder = Path(shutil.copytree(EARLIER, tmp_path_factory.mktemp("published") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVAR_LEADERBOARD", str(folder.parent / "board"))
        score_run(folder, None)
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    (tmp_path / "hub").mkdir()
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    return hub


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_run: Callable[..., Path]) -> Store:
    monkeypatch.setenv("AVAR_LEADERBOARD", str(tmp_path / "board"))
    store = Store(tmp_path / "board")
    tasks = {"mathvista": {"version": 1.0, "revision": "ab" * 20, "split": "testmini"}, "shapes": {"split": "test"}}
    store.add(write_run(model="org/avar <b>thinker</b>", tasks=tasks))
    return store


def publish(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["publish", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def failure(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["publish", *arguments])
    assert isinstance(done.exception, AvarError), done.output
    return str(done.exception)


MODEL = "org/avar <b>thinker</b>"


def model_folder(output: Path) -> Path:
    (folder,) = (output / "models").iterdir()
    return folder


def test_without_push_nothing_is_sent_and_all_is_written(
    hub: Hub, board: Store, run_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    said = publish(str(run_folder), "--output", str(output))
    assert [call for call in hub.calls if call[0] in SENDING] == []
    assert "would go to the model OWNER/avar-tiny" in said
    assert "would go to the space OWNER/avar-tiny-leaderboard" in said
    assert "everybody there can read" in said
    assert "nothing was sent" in said
    assert "8 responses, 4 pictures" in said
    for name in ("models/avar-tiny/README.md", "dataset/README.md", "space/README.md", "space/index.html",
                 "space/viewer/index.html", "publish.json"):  # fmt: skip
        assert (output / name).is_file(), name
    (run,) = (output / "dataset" / "runs").iterdir()
    assert (run / "results.json").read_bytes() == (run_folder / "results.json").read_bytes()
    own = {key for of in json.loads((run_folder / "asked.json").read_text()).values() for key in of["keys"]}
    for name in ("records.jsonl", "attention.jsonl"):
        lines = (run_folder / name).read_text(encoding="utf-8").splitlines(keepends=True)
        assert (run / name).read_text(encoding="utf-8") == "".join(of for of in lines if json.loads(of)["key"] in own)
    assert not (output / "store").exists()
    assert not (output / "models" / "avar-tiny" / ".eval_results").exists(), "embedded benchmarks are not on the hub"


def test_the_runs_that_were_published_can_be_judged_again(
    hub: Hub, board: Store, run_folder: Path, tmp_path: Path
) -> None:
    publish(str(run_folder), "--output", str(tmp_path / "out"))
    (run,) = (tmp_path / "out" / "dataset" / "runs").iterdir()
    assert Store(tmp_path / "other").add(run).verified == {"shapes", "shapes_prior"}


def test_cards_are_read_back_by_the_hubs_library(hub: Hub, board: Store, run_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    publish(str(run_folder), "--output", str(output), "--to", "me")
    card = ModelCard.load(output / "models" / "avar-tiny" / "README.md")
    assert card.data.model_name == "avar-tiny"
    assert card.data.pipeline_tag == "image-text-to-text"
    results = {(of.dataset_name, of.metric_type): of for of in card.data.eval_results}
    stored = json.loads((run_folder / "results.json").read_text())
    for task, numbers in stored["tasks"].items():
        score = results[f"{task}, first 2 questions", "accuracy"]
        assert score.metric_value == pytest.approx(100 * numbers["metrics"]["accuracy"]["value"], abs=1e-3)
        assert score.metric_args["n"] == numbers["metrics"]["accuracy"]["n"]
        assert score.metric_args["run_id"] == stored["run_id"]
        vas = results[f"{task}, first 2 questions", "vas"]
        assert vas.metric_value == pytest.approx(numbers["metrics"]["vas"]["value"], abs=1e-3)
    assert "https://huggingface.co/datasets/me/avar-tiny-runs" in card.text
    space = RepoCard.load(output / "space" / "README.md", repo_type="space")
    assert (space.data.sdk, space.data.app_file) == ("static", "index.html")
    RepoCard.load(output / "dataset" / "README.md", repo_type="dataset")


def test_a_trainings_own_card_is_kept(hub: Hub, board: Store, tmp_path: Path, write_run: Callable[..., Path]) -> None:
    training = tmp_path / "mine"
    (training / "checkpoint-2").mkdir(parents=True)
    head = "base_model: Qwen/Qwen2.5-VL-7B-Instruct\ndatasets:\n- me/data\nlibrary_name: transformers\n"
    (training / "README.md").write_text(f"---\n{head}---\n\n# mine\n\nBy the recipe `agto`.\n")
    board.add(write_run(model=str(training / "checkpoint-2")))
    for _ in range(2):  # written again, it holds its results once
        publish(str(training / "checkpoint-2"), "--output", str(tmp_path / "out"))
        card = ModelCard.load(model_folder(tmp_path / "out") / "README.md")
        assert card.data.base_model == "Qwen/Qwen2.5-VL-7B-Instruct"
        assert card.data.datasets == ["me/data"]
        assert "By the recipe `agto`." in card.text
        assert card.text.count("Evaluation by avar-eval") == 1


def test_benchmarks_that_the_hub_lists_get_an_entry_and_others_none(
    hub: Hub, board: Store, run_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    publish(MODEL, "--output", str(output), "--to", "me")
    (path,) = (model_folder(output) / ".eval_results").iterdir()
    (entry,) = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    assert path.name == "mathvista.yaml"
    assert (entry.dataset_id, entry.task_id, entry.value) == ("AI4Math/MathVista", "mathvista_mini", 33.33)
    assert entry.dataset_revision == "ab" * 20
    assert entry.date is not None
    assert entry.source_url is not None
    assert entry.source_url.startswith("https://huggingface.co/datasets/me/")
    (row,) = board.rows("mathvista")
    assert entry.notes is not None
    for part in ("95 % interval 6.", "n = 3, 2 left out", f"avar-eval protocol {row.run_id}", "as reported"):
        assert part in entry.notes


@pytest.mark.parametrize(
    "changes",
    [{"limit": 3}, {"steering": {"image": 0.2}}, {"trained_on": ["mathvista"]}],
    ids=["first questions", "steered", "trained on it"],
)
def test_what_is_no_score_of_the_model_on_the_benchmark_gets_no_entry(
    hub: Hub, board: Store, tmp_path: Path, write_run: Callable[..., Path], changes: dict[str, Any], run: dict[str, Any]
) -> None:
    for part in ("metrics", "headline"):
        del run["tasks"]["shapes"][part]  # of it the limit would be too small
    run["tasks"] = {"mathvista": run["tasks"]["mathvista"]}
    from invented_results import with_run_id

    run["protocol"] |= {"model": "other", "grader": {"mathvista": "1"}, **changes}
    (tmp_path / "results.json").write_text(json.dumps(with_run_id(run)))
    board.add(tmp_path / "results.json")
    publish("other", "--output", str(tmp_path / "out"))
    assert not (model_folder(tmp_path / "out") / ".eval_results").exists()


def test_a_benchmark_without_the_tag_gets_no_entry(hub: Hub, board: Store, run_folder: Path, tmp_path: Path) -> None:
    hub.tags = {}
    publish(MODEL, "--output", str(tmp_path / "out"))
    assert not (model_folder(tmp_path / "out") / ".eval_results").exists()


def test_a_hub_that_cannot_be_asked_is_named(hub: Hub, board: Store, run_folder: Path, tmp_path: Path) -> None:
    hub.broken = "unreachable"
    said = publish(MODEL, "--output", str(tmp_path / "out"))
    assert "no .eval_results: the hub cannot be asked which benchmarks it lists (ConnectError: no network)" in said


def test_push_sends_each_part_once(hub: Hub, board: Store, run_folder: Path, tmp_path: Path) -> None:
    said = publish(str(run_folder), "--output", str(tmp_path / "out"), "--push")
    assert [call for call in hub.calls if call[0] in SENDING] == [
        ("create_repo", "me/avar-tiny", "model", None),
        ("upload_folder", "me/avar-tiny", "model", False),
        ("create_repo", "me/avar-tiny-runs", "dataset", None),
        ("upload_folder", "me/avar-tiny-runs", "dataset", False),
        ("create_repo", "me/avar-tiny-leaderboard", "space", "static"),
        ("upload_folder", "me/avar-tiny-leaderboard", "space", False),
    ]
    assert said.count("sent: ") == 3
    received = tmp_path / "hub" / "received"
    assert (received / "space" / "me" / "avar-tiny-leaderboard" / "viewer" / "index.html").is_file()
    assert not any(path.name == "publish.json" for path in received.rglob("*"))


def test_a_models_repository_that_is_there_gets_a_pull_request(
    hub: Hub, board: Store, run_folder: Path, tmp_path: Path
) -> None:
    hub.existing = ("me/avar-tiny",)
    said = publish(str(run_folder), "--output", str(tmp_path / "out"), "--push", "--to", "me")
    assert ("upload_folder", "me/avar-tiny", "model", True) in hub.calls
    assert ("create_repo", "me/avar-tiny", "model", None) not in hub.calls
    assert "sent: https://hub/me/avar-tiny/discussions/1" in said


def test_push_without_a_login_is_one_message_and_writes_nothing(
    hub: Hub, board: Store, run_folder: Path, tmp_path: Path
) -> None:
    hub.user = None
    for more in ([], ["--to", "me"]):
        message = failure(str(run_folder), "--output", str(tmp_path / "out"), "--push", *more)
        assert message == "--push needs a login: `hf auth login`, or a token in HF_TOKEN"
    assert not (tmp_path / "out").exists()


def test_a_push_that_breaks_off_says_what_was_sent(hub: Hub, board: Store, run_folder: Path, tmp_path: Path) -> None:
    hub.broken = "dataset"
    message = failure(str(run_folder), "--output", str(tmp_path / "out"), "--push")
    assert "the hub did not take dataset as me/avar-tiny-runs: ReadTimeout: too slow; sent before it: " in message


def test_a_forged_run_is_not_published(hub: Hub, board: Store, run_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    results = json.loads((folder / "results.json").read_text())
    results["protocol"]["model"] = "best"
    (folder / "results.json").write_text(json.dumps(results))
    assert "its run_id is" in failure(str(folder), "--output", str(tmp_path / "out"))


def test_unknown_names_and_other_folders_are_refused(hub: Hub, board: Store, run_folder: Path, tmp_path: Path) -> None:
    assert "unknown model or run folder 'nobody'" in failure("nobody", "--output", str(tmp_path / "out"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    done = CliRunner().invoke(app, ["publish", str(run_folder), "--output", str(tmp_path / "full")])
    assert isinstance(done.exception, UsageError)
    assert (tmp_path / "full" / "thesis.tex").read_text() == "mine"


def test_names_are_inert_in_the_card(hub: Hub, board: Store, run_folder: Path, tmp_path: Path) -> None:
    publish(MODEL, "--output", str(tmp_path / "out"))
    folder = model_folder(tmp_path / "out")
    assert not set(folder.name) & set("<>/ ")
    text = ModelCard.load(folder / "README.md").text
    assert "<b>" not in text
    assert "<b>" not in (tmp_path / "out" / "dataset" / "README.md").read_text().partition("# Runs")[2]


def test_two_models_of_one_name_have_a_card_each(
    hub: Hub, board: Store, tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    for owner in ("a", "b"):
        board.add(write_run(model=f"{owner}/model"))
    publish("a/model", "b/model", "--output", str(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out" / "models").iterdir()) == ["model", "model-2"]
    assert json.loads((tmp_path / "out" / "publish.json").read_text())["repositories"]["space"] == [
        "space", "OWNER/avar-leaderboard"
    ]  # fmt: skip
