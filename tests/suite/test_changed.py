"""A finished run whose rows, code or settings have changed is done again, and ends as `avar-eval run` there would."""

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from runs import Server
from suites import Suites, state

from avar_eval.models.checkpoint import resolve_checkpoint

YAML = """\
task: tints
dataset_path: owner/tints
dataset_kwargs: {revision: 0123456789012345678901234567890123456789}
test_split: test
doc_to_visual: !function task.doc_to_visual
doc_to_text: !function task.doc_to_text
doc_to_target: answer
metadata: {version: 1.0, description: which colour a square has, id: number, images: [picture]}
"""
CODE = """
from avar_eval.answers import judge_answer


def doc_to_visual(row):
    return [row["picture"].convert("RGB")]


def doc_to_text(row, settings=None):
    return row["question"] + " Answer in one word."


def judge(row, response, finish_reason=None):
    return judge_answer(response, answer=row["answer"], kind="text", finish_reason=finish_reason)
"""
COLOURS = ("red", "green", "blue")
MODEL = "mine: {{folder: {path}, architecture: qwen2_5_vl, description: a model of my own, max_new_tokens: {tokens}}}\n"


@dataclass(frozen=True)
class Tints:
    """A finished suite of one run on a benchmark of its own, whose rows lie in a folder, by a model of its own."""

    suites: Suites
    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "runs"

    @property
    def rows(self) -> Path:
        return self.folder / "data" / "tints" / "rows.jsonl"

    def run(self, output: Path, *options: str) -> tuple[str, int]:
        """Run the suite; returns its messages, and how many questions it asked."""
        before = len(self._asked())
        running = self.suites.server.start(
            *("suite", str(self.suites.file), "--output", str(output), *options),
            **self._environment(),
        )
        done = running.wait()
        assert done.code == 0, done.stderr
        return done.stderr, len(self._asked()) - before

    def alone(self, folder: Path) -> None:
        """What `avar-eval run` makes of a run's folder."""
        _, *words = shlex.split(json.loads((folder / "results.json").read_text())["protocol"]["command"])
        done = self.suites.server.start(*words, "--output", str(folder), **self._environment()).wait()
        assert done.code == 0, done.stderr

    def _asked(self) -> list[str]:
        return self.suites.asked.read_text().split() if self.suites.asked.exists() else []

    def _environment(self) -> dict[str, str]:
        return {
            "ASKED": str(self.suites.asked),
            "AVAR_DATA_DIR": str(self.folder / "data"),
            "AVAR_MODELS": str(self.folder / "models.yaml"),
            "OMP_NUM_THREADS": "1",
        }


@pytest.fixture(scope="module")
def finished(forking_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Tints:
    folder = tmp_path_factory.mktemp("tints")
    code, data = folder / "benchmarks" / "tints", folder / "data" / "tints"
    code.mkdir(parents=True)
    data.mkdir(parents=True)
    (code / "tints.yaml").write_text(YAML, encoding="utf-8")
    (code / "task.py").write_text(CODE, encoding="utf-8")
    for colour in COLOURS:
        Image.new("RGB", (56, 56), colour).save(data / f"{colour}.png")
    rows = [
        {"number": str(number), "question": "Which colour?", "answer": colour, "picture": f"{colour}.png"}
        for number, colour in enumerate(COLOURS)
    ]
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = resolve_checkpoint("avar-tiny").path
    (folder / "models.yaml").write_text(MODEL.format(path=model, tokens=8), encoding="utf-8")
    (folder / "suite.yaml").write_text(
        f"tasks: [tints]\nmodels: [mine]\nbatch-size: 1\ninclude-path: {code.parent}\ncausal: off\nattention: off\n",
        encoding="utf-8",
    )
    tints = Tints(Suites(forking_server, folder / "suite.yaml", folder / "asked"), folder)
    assert tints.run(tints.output)[1] == len(COLOURS)
    return tints


def _question(folder: Path) -> None:
    rows = folder / "data" / "tints" / "rows.jsonl"
    rows.write_text(rows.read_text().replace("Which colour?", "What colour?", 1))


def _answer(folder: Path) -> None:
    rows = folder / "data" / "tints" / "rows.jsonl"
    rows.write_text(rows.read_text().replace('"answer": "red"', '"answer": "pink"'))


def _picture(folder: Path) -> None:
    Image.new("RGB", (56, 56), "yellow").save(folder / "data" / "tints" / "red.png")


def _row(folder: Path) -> None:
    with (folder / "data" / "tints" / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"number": "9", "question": "And?", "answer": "red", "picture": "red.png"}) + "\n")


def _prompt(folder: Path) -> None:
    code = folder / "benchmarks" / "tints" / "task.py"
    code.write_text(code.read_text().replace("one word", "a word"))


def _version(folder: Path) -> None:
    task = folder / "benchmarks" / "tints" / "tints.yaml"
    task.write_text(task.read_text().replace("version: 1.0", "version: 2.0"))


def _settings(folder: Path) -> None:
    models = folder / "models.yaml"
    models.write_text(models.read_text().replace("max_new_tokens: 8", "max_new_tokens: 9"))


@pytest.mark.parametrize(
    ("change", "asked", "said"),
    [
        (_question, 1, "rows or code of these tasks have changed: tints"),
        (_answer, 0, "rows or code of these tasks have changed: tints"),
        (_picture, 1, "rows or code of these tasks have changed: tints"),
        (_row, 1, "rows or code of these tasks have changed: tints"),
        (_prompt, 3, "rows or code of these tasks have changed: tints"),
        (_version, 0, "its settings have changed: tasks"),
        (_settings, 3, "its settings have changed: decoding"),
    ],
)
def test_what_has_changed_since_is_done_again(
    finished: Tints, tmp_path: Path, change: Callable[[Path], None], asked: int, said: str
) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "tints"))
    # The command, which is compared, too, is to stay as it is: what is changed lies where it was.
    backup = {name: finished.folder / name for name in ("data", "benchmarks", "models.yaml")}
    output = folder / "runs"
    (run,) = state(output)
    try:
        change(finished.folder)
        finished.alone(Path(shutil.copytree(output / run["name"], folder / "alone")))
        messages, questions = finished.run(output)
        assert f"again: {run['name']}: {said}\n" in messages
        assert questions == asked
        assert (output / run["results"]).read_bytes() == (folder / "alone" / "results.json").read_bytes()
        messages, questions = finished.run(output)
        assert ("again" in messages, questions) == (False, 0)
    finally:
        for name, path in backup.items():
            restored = folder / name
            if restored.is_dir():
                shutil.rmtree(path)
                shutil.copytree(restored, path)
            else:
                shutil.copy(restored, path)


def test_what_has_not_changed_is_left(finished: Tints, tmp_path: Path) -> None:
    output = Path(shutil.copytree(finished.output, tmp_path / "runs"))
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    for path in finished.folder.rglob("*.png"):
        path.touch()
    messages, questions = finished.run(output)
    assert ("[1 of 1]" in messages, questions) == (False, 0)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and path in before} == before


def test_a_run_of_before_rows_were_recorded_is_done_again_once_and_asks_nothing(
    finished: Tints, tmp_path: Path
) -> None:
    output = Path(shutil.copytree(finished.output, tmp_path / "runs"))
    (run,) = state(output)
    path = output / run["name"] / "asked.json"
    asked = json.loads(path.read_text())
    del asked["tints"]["task_sha256"]
    path.write_text(json.dumps(asked))
    messages, questions = finished.run(output)
    assert "an earlier version finished it" in messages
    assert questions == 0
    assert "again" not in finished.run(output)[0]


def test_rows_that_cannot_be_had_leave_a_finished_run_and_are_named(finished: Tints, tmp_path: Path) -> None:
    output = Path(shutil.copytree(finished.output, tmp_path / "runs"))
    hidden = finished.rows.rename(finished.rows.with_suffix(".hidden"))
    try:
        messages, questions = finished.run(output)
    finally:
        hidden.rename(finished.rows)
    assert "whether the rows of tints have changed is unknown: there is no " in messages
    assert (state(output)[0]["status"], questions) == ("finished", 0)
