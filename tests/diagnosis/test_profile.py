"""`avar-eval profile`: its numbers are the records', its picture has every model, wrong input gets one message."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from invented_runs import attention, write_run
from matplotlib.figure import Figure
from readable_figures import check_readable
from typer.testing import CliRunner

from avar_eval.cli import app
from avar_eval.diagnosis.profile import PARTS, MeasuredRun, ProfileError, in_parts, profile, response_scores
from avar_eval.diagnosis.profile_figure import draw_profile
from avar_eval.errors import AvarError
from avar_eval.figures.style import drawing
from avar_eval.records.attention import ATTENTION_LINES
from avar_eval.records.book import RecordBookError, read_records
from avar_eval.records.journal import read_lines
from avar_eval.results.schema import read_results


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished runs, one of a deeper model; never to be changed."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "narrow", "narrow-7b", 7.5)
    write_run(folder / "panoramic", "panoramic-7b", 18.9, rows=9)
    write_run(folder / "deep", "deep-7b", 12.0, layers=40)
    return folder


def test_numbers_are_those_of_the_run(runs: Path) -> None:
    found = profile([MeasuredRun(runs / "narrow")]).models[0]
    metrics = read_results(runs / "narrow").tasks["shapes"].metrics
    assert found.vas["user"].value == pytest.approx(metrics["vas"].value)
    assert found.vas["response"].value == pytest.approx(metrics["vas_response"].value)
    first = attention(7.5 * 0.7, 28, 40, 0).scores("user")
    assert first is not None
    records = read_records(runs / "narrow" / "records.jsonl")
    of_first = next(record.attention for record in records.values() if record.row_id == "0")
    assert of_first is not None
    assert of_first.user is not None
    assert of_first.user.vas_by_layer == pytest.approx(first.mean((1, 2)).tolist(), rel=1e-5)
    by_layer = [of.value for of in found.vas_by_layer["user"]]
    assert np.mean(by_layer) == pytest.approx(found.vas["user"].value, rel=1e-5)
    for shares in found.share.values():
        assert sum(share for role, share in shares.items() if role != "sink") == pytest.approx(1, abs=1e-4)


def test_the_score_along_the_answer_is_the_mean_of_its_tokens(runs: Path) -> None:
    line = next(iter(read_lines(runs / "narrow" / "attention.jsonl", ATTENTION_LINES).values()))
    scores = attention(7.5 * 0.7, 28, 40, 0).scores("response")
    assert scores is not None
    expected = scores.mean((0, 1)).numpy()
    assert response_scores(line) == pytest.approx(expected, rel=2e-3)
    assert in_parts(expected).reshape(PARTS) == pytest.approx(expected.reshape(PARTS, 2).mean(1))
    assert in_parts(np.array([1.0, 3.0])).tolist() == [1.0] * 10 + [3.0] * 10
    along = profile([MeasuredRun(runs / "narrow")]).models[0].vas_along
    assert along[0] is not None
    assert along[-1] is not None
    assert along[0] > 1.5 * along[-1]


def test_models_are_compared_on_the_questions_that_all_measured(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = profile([MeasuredRun(runs / name) for name in ("narrow", "panoramic", "deep")])
    assert [(model.label, model.n, model.layers) for model in found.models] == [
        ("narrow-7b", 9, 28),
        ("panoramic-7b", 9, 28),
        ("deep-7b", 9, 40),
    ]
    assert draw_profile(found, tmp_path / "profile.png").stat().st_size > 50_000
    drawn: list[Figure] = []
    monkeypatch.setattr("avar_eval.diagnosis.profile_figure.save_figure", lambda figure, _: drawn.append(figure))
    for title in (True, False):
        draw_profile(found, tmp_path / "profile.png", title)
        with drawing():
            check_readable(drawn[-1], title)


def test_two_runs_of_one_model_are_told_apart(runs: Path, tmp_path: Path) -> None:
    steered = write_run(
        tmp_path / "steered", "narrow-7b", 9.0, steering={"image": 0.15, "system": 0.4, "mode": "logit"}
    )
    again = write_run(tmp_path / "again", "narrow-7b", 8.0)
    labels = [model.label for model in profile([MeasuredRun(of) for of in (runs / "narrow", steered, again)]).models]
    assert labels == [f"narrow-7b ({runs / 'narrow'})", "narrow-7b, steered: image=0.15,system=0.4",
                      f"narrow-7b ({again})"]  # fmt: skip


def test_the_command_writes_numbers_and_picture(runs: Path, tmp_path: Path) -> None:
    arguments = ["profile", str(runs / "narrow"), str(runs / "panoramic"), "--output", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "panoramic-7b" in done.output
    assert [model["n"] for model in json.loads((tmp_path / "profile.json").read_text())["models"]] == [9, 9]
    assert (tmp_path / "profile.png").stat().st_size > 50_000


def corrupt(path: Path, text: str) -> Path:
    path.write_text(text)
    return path.parent


def test_damaged_runs_get_one_message(tmp_path: Path) -> None:
    for name in "abc":
        write_run(tmp_path / name, f"model-{name}", 7.5, rows=2)
    with pytest.raises(RecordBookError, match=r"line 1 is not a record"):
        MeasuredRun(corrupt(tmp_path / "a" / "records.jsonl", "{}\n"))
    with pytest.raises(ProfileError, match="is damaged"):
        profile([MeasuredRun(corrupt(tmp_path / "b" / "attention.jsonl", "{}\n"))])
    (tmp_path / "c" / "attention.jsonl").unlink()
    with pytest.raises(ProfileError, match="cannot be read"):
        profile([MeasuredRun(tmp_path / "c")])
    unmeasured = write_run(tmp_path / "d", "served", 7.5, rows=2, measured=False)
    with pytest.raises(ProfileError, match="no measured attention"):
        MeasuredRun(unmeasured)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["avar-tiny"], "is no folder of a finished run; to ask it as a model, give --tasks"),
        (["avar-tny", "--tasks", "shapes"], "unknown model 'avar-tny': did you mean avar-tiny"),
        (["gpt-4o", "--tasks", "shapes"], "shows no attention"),
        (["EMPTY"], "holds no finished run"),
        (["NARROW", "NARROW"], "the same MODEL twice"),
        (["NARROW", "--tasks", "mathvista"], "has no mathvista: it asked shapes"),
        (["NARROW", "--tasks", "shaps"], "unknown task 'shaps'"),
        (["CORRUPT"], "is not a results.json of this version"),
        ([str(number) for number in range(7)], "a picture shows at most 6"),
    ],
)
def test_wrong_input_gets_one_message(runs: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "corrupt").mkdir()
    (tmp_path / "corrupt" / "results.json").write_text("{")
    places = {"EMPTY": tmp_path / "empty", "NARROW": runs / "narrow", "CORRUPT": tmp_path / "corrupt"}
    done = CliRunner().invoke(app, ["profile", *(str(places.get(word, word)) for word in arguments)])
    assert isinstance(done.exception, AvarError)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)


def test_help_is_light() -> None:
    """`avar-eval --help` imports nothing heavy, whatever commands there are."""
    program = "import sys, avar_eval.cli; print(sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not [name for name in ("torch", "numpy", "matplotlib", "scipy", "pydantic") if f"'{name}'" in loaded]


def test_a_profile_says_when_models_were_not_asked_alike(runs: Path, tmp_path: Path) -> None:
    alike = profile([MeasuredRun(runs / name) for name in ("narrow", "panoramic")])
    assert alike.note is None
    write_run(tmp_path / "other", "other-7b", 11.0, system_prompt="Think first.")
    folders = [str(runs / "narrow"), str(tmp_path / "other")]
    done = CliRunner().invoke(app, ["profile", *folders, "--output", str(tmp_path / "profile")])
    assert done.exit_code == 0, done.output
    assert "note: the models were not asked alike: system prompt, style or instruction differ" in done.output
