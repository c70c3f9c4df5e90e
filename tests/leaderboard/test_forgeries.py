"""What somebody has changed in a run, or in what it says of itself, is refused or marked, never shown as verified."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invented_results import with_run_id
from runs import Finished, records_of

from avar_eval.errors import AvarError
from avar_eval.leaderboard.store import Store
from avar_eval.records.record import protocol_id, record_key
from avar_eval.results.schema import Results, prompt_sha256, read_results, run_id
from avar_eval.results.summary import group_results
from avar_eval.tasks.catalog import TaskEntry
from avar_eval.tasks.files import rows_by_id

Run = dict[str, Any]
LIMIT = 12
_rows: dict[str, Any] = {}


def kept_rows(entry: TaskEntry, data_dir: Path | None) -> Any:
    """The rows of a task, kept."""
    return _rows[entry.name] if entry.name in _rows else _rows.setdefault(entry.name, rows_by_id(entry, data_dir))


@pytest.fixture(scope="session")
def genuine(avar_eval: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of avar-tiny on the first rows of shapes and of shapes_prior."""
    folder = tmp_path_factory.mktemp("genuine") / "run"
    settings = ("--limit", str(LIMIT), "--attention-samples", "4", "--causal", "full", "--knockout-windows", "2")
    done = avar_eval("--model", "avar-tiny", "--tasks", "shapes,shapes_prior", *settings, "--output", str(folder))
    assert done.code == 0, done.stderr
    return folder


@pytest.fixture(autouse=True)
def _rows_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of shapes are drawn anew by each command; these tests need them 70 times."""
    monkeypatch.setattr("avar_eval.leaderboard.verify.rows_by_id", kept_rows)


@pytest.fixture
def folder(genuine: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(genuine, tmp_path / "run"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "board")


def results_of(folder: Path) -> Run:
    loaded: Run = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return loaded


def write_results(folder: Path, results: Run) -> None:
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")


def write_records(folder: Path, records: list[Run]) -> None:
    (folder / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")


def wrong_record(folder: Path) -> Run:
    """One that is not right: the genuine run has some on shapes_prior, whose pictures tell little."""
    return next(one for one in records_of(folder) if not one["judgement"]["correct"])


def test_a_genuine_run_is_verified_and_its_bare_file_is_as_reported(folder: Path, store: Store) -> None:
    done = store.add(folder)
    assert (done.event, done.verified) == ("added", {"shapes", "shapes_prior"})
    assert {row.mark for row in store.rows()} == {"verified"}
    assert store.add(folder).event is None
    bare = Store(store.path.with_name("bare"))
    assert bare.add(folder / "results.json").verified == frozenset()
    assert {row.mark for row in bare.rows()} == {"as reported"}
    assert bare.add(folder).event == "verified"
    assert {row.mark for row in bare.rows()} == {"verified"}
    assert bare.add(folder / "results.json").event is None, "what was verified stays so"
    assert (bare.runs / f"{done.run.run_id}.json").read_bytes() == (folder / "results.json").read_bytes()


@pytest.mark.parametrize("more", [(), ("--causal", "full", "--causal-samples", "2")], ids=["fewer tasks", "causal"])
def test_a_run_that_takes_up_another_ones_records_is_verified(
    more: tuple[str, ...], folder: Path, store: Store, avar_eval: Callable[..., Finished]
) -> None:
    settings = ("--limit", str(LIMIT), "--attention-samples", "4", "--device", "cpu", "--output", str(folder), *more)
    done = avar_eval("--model", "avar-tiny", "--tasks", "shapes", *settings)
    assert done.code == 0, done.stderr
    assert store.add(folder).verified == {"shapes"}


def accuracy(results: Run, task: str = "shapes") -> Run:
    """The metric, which the score repeats."""
    metric: Run = results["tasks"][task]["metrics"]["accuracy"]
    results["tasks"][task]["headline"]["values"]["strict"] = metric
    return metric


def of_the_issue(results: Run) -> None:
    results["tasks"]["shapes"]["metrics"]["accuracy"]["value"] = 0.999
    results["protocol"]["model"] = "best-of-all"


def better_value(results: Run) -> None:
    accuracy(results)["value"] = 0.999


def other_score_than_accuracy(results: Run) -> None:
    results["tasks"]["shapes"]["headline"]["values"]["strict"]["value"] = 0.99


def other_interval(results: Run) -> None:
    metric = accuracy(results)
    metric["ci95"] = [metric["value"] - 0.001, metric["value"]]


def interval_beyond_a_share(results: Run) -> None:
    accuracy(results)["ci95"] = [0.0, 1.2]


def larger_n(results: Run) -> None:
    accuracy(results)["n"] = 1200


def larger_n_everywhere(results: Run) -> None:
    for metric in results["tasks"]["shapes"]["metrics"].values():
        metric["n"] *= 100
    accuracy(results)


def other_model(results: Run) -> None:
    results["protocol"]["model"] = "best-of-all"


def other_limit(results: Run) -> None:
    results["protocol"]["limit"] = None


def negative(results: Run) -> None:
    accuracy(results)["value"] = -0.2


def not_a_number(results: Run) -> None:
    accuracy(results)["value"] = float("nan")


def infinite(results: Run) -> None:
    results["tasks"]["shapes"]["metrics"]["vas"]["value"] = float("inf")


def huge_vas(results: Run) -> None:
    results["tasks"]["shapes"]["metrics"]["vas"]["value"] = 1e300


def another_band(results: Run) -> None:
    results["tasks"]["shapes"]["vas_band"] = "panoramic"


def more_measured_than_asked(results: Run) -> None:
    results["tasks"]["shapes"]["metrics"]["vas"]["n"] = LIMIT


def a_task_more(results: Run) -> None:
    results["tasks"]["mathvista"] = results["tasks"]["shapes"]


def a_group_mean(results: Run) -> None:
    results["groups"]["avar7"] = {"columns": {}, "mean": {"strict": {"value": 0.9, "ci95": [0.8, 0.95], "n": 9}}}


def fewer_left_out(results: Run) -> None:
    results["tasks"]["shapes"]["left_out"]["n"] = 3


def reused_run_id(results: Run) -> None:
    results["protocol"]["decoding"]["max_new_tokens"] = 64


def escapes_in_the_name(results: Run) -> None:
    results["protocol"]["model"] = "\x1b[2Jbest"
    results.update(with_run_id(results))


def backwards_name(results: Run) -> None:
    results["protocol"]["model"] = "\u202etseb"
    results.update(with_run_id(results))


def a_number_as_text(results: Run) -> None:
    accuracy(results)["n"] = "12"


def other_seed(results: Run) -> None:
    results["protocol"]["seed"] = 7
    results["run_id"] = run_id(results["protocol"])


FORGED_FILES: list[tuple[Callable[[Run], None], str]] = [
    (of_the_issue, "its run_id is"),
    (better_value, "outside of its own interval|no whole number"),
    (other_score_than_accuracy, "outside of its own interval|its score"),
    (other_interval, "narrower than 12 responses"),
    (interval_beyond_a_share, "is a share, and its interval"),
    (larger_n, "accuracy is of 1200 responses, and there are 12"),
    (larger_n_everywhere, "1200 responses, and the protocol asks for the first 12 rows"),
    (other_model, "its run_id is"),
    (other_limit, "its run_id is"),
    (negative, "accuracy.value"),
    (not_a_number, "accuracy.value"),
    (infinite, "vas.value"),
    (huge_vas, "vas is 1e[+]300, outside of its own interval"),
    (another_band, "is not panoramic"),
    (more_measured_than_asked, "and the protocol measures 4"),
    (a_task_more, "protocol.tasks names shapes, shapes_prior"),
    (a_group_mean, "it has a mean of avar7"),
    (fewer_left_out, "it left out 3 rows, and names 0"),
    (reused_run_id, "its run_id is"),
    (escapes_in_the_name, "protocol.model"),
    (backwards_name, "protocol.model"),
    (a_number_as_text, "accuracy.n"),
    (other_seed, "its protocol has the seed 7, and its decoding 0"),
]


@pytest.mark.parametrize(("forge", "message"), FORGED_FILES, ids=[forge.__name__ for forge, _ in FORGED_FILES])
@pytest.mark.parametrize("bare", [True, False], ids=["file", "folder"])
def test_a_file_that_contradicts_itself_is_refused(
    forge: Callable[[Run], None], message: str, bare: bool, folder: Path, store: Store
) -> None:
    store.add(folder)
    before = store.rows()
    results = results_of(folder)
    forge(results)
    write_results(folder, results)
    with pytest.raises(AvarError, match=message) as raised:
        store.add(folder / "results.json" if bare else folder, replace=True)
    assert "\n" not in str(raised.value)
    assert store.rows() == before


def right_by_the_file(folder: Path) -> None:
    """One response more is right: the file agrees with itself, and not with the records."""
    results = read_results(folder)
    right = [one["judgement"]["correct"] for one in records_of(folder) if one["task"] == "shapes_prior"]
    from avar_eval.results.schema import Metric
    from avar_eval.statistics import clustered_proportion

    better = Metric.of(clustered_proportion([True] * (sum(right) + 1) + [False] * (LIMIT - sum(right) - 1), range(12)))
    task = results.tasks["shapes_prior"]
    task.metrics["accuracy"] = better
    assert task.headline is not None
    task.headline.values["strict"] = better
    results.write(folder)


def response_edited(folder: Path) -> None:
    """The response of a record becomes right; its key stays."""
    wrong, records = wrong_record(folder), records_of(folder)
    for one in records:
        if one["key"] == wrong["key"]:
            one["response"] = f"<think>So.</think><answer>{one['reference']}</answer>"
    write_records(folder, records)


def judgement_edited(folder: Path) -> None:
    wrong, records = wrong_record(folder), records_of(folder)
    for one in records:
        if one["key"] == wrong["key"]:
            one["judgement"]["correct"] = True
    write_records(folder, records)


def reference_edited(folder: Path) -> None:
    wrong, records = wrong_record(folder), records_of(folder)
    for one in records:
        if one["key"] == wrong["key"]:
            one["reference"] = "C" if one["reference"] != "C" else "D"
    write_records(folder, records)


def wrong_ones_left_out(folder: Path) -> None:
    """asked.json no longer names a wrong response, and all numbers are those of the others."""
    wrong = wrong_record(folder)
    path = folder / "asked.json"
    asked = json.loads(path.read_text())
    place = asked[wrong["task"]]["keys"].index(wrong["key"])
    for column in asked[wrong["task"]].values():
        if isinstance(column, list):
            del column[place]
    path.write_text(json.dumps(asked))


def prompt_edited(folder: Path) -> None:
    records = records_of(folder)
    records[0]["prompt"] = records[0]["prompt"].replace("?", "? (The answer is A.)")
    write_records(folder, records)


def easier_row(folder: Path) -> None:
    """A record takes the place of another row's."""
    records = records_of(folder)
    first, second = [one for one in records if one["task"] == "shapes"][:2]
    second["row_id"] = first["row_id"]
    write_records(folder, records)


def other_picture(folder: Path) -> None:
    records = records_of(folder)
    records[0]["image_sha256"] = ["00" * 32]
    write_records(folder, records)


def records_gone(folder: Path) -> None:
    write_records(folder, records_of(folder)[1:])


def model_renamed_throughout(folder: Path) -> None:
    """Another name in results.json, with the run_id that belongs to it."""
    results = results_of(folder)
    results["protocol"]["model"] = "best-of-all"
    write_results(folder, with_run_id(results))


def weights_renamed_throughout(folder: Path) -> None:
    """Other weights, in the protocols of the folder as well: the records' keys hold them."""
    results = results_of(folder)
    line = json.loads((folder / "protocols.jsonl").read_text())
    for card in (results["protocol"], line["protocol"]):
        card["weights_sha256"] = "ab" * 32
    results["protocol_id"] = line["protocol_id"] = protocol_id(line["protocol"])
    (folder / "protocols.jsonl").write_text(json.dumps(line) + "\n")
    write_results(folder, with_run_id(results))
    write_records(folder, [one | {"protocol_id": line["protocol_id"]} for one in records_of(folder)])


def vas_and_its_interval(folder: Path) -> None:
    results = results_of(folder)
    results["tasks"]["shapes"]["metrics"]["vas"] |= {"value": 18.9, "ci95": [18.0, 20.0]}
    results["tasks"]["shapes"]["vas_band"] = "panoramic"
    write_results(folder, results)


def greater_dependence(folder: Path) -> None:
    results = results_of(folder)
    results["tasks"]["shapes"]["metrics"]["visual_dependence"] |= {"value": 9.5, "ci95": [9.0, 10.0]}
    write_results(folder, results)


def dependence_edited(folder: Path) -> None:
    """What a record says of its own dependence on the image."""
    records = records_of(folder)
    next(one for one in records if one.get("causal"))["causal"]["dependence"] = 99.0
    write_records(folder, records)


def stronger_window(folder: Path) -> None:
    results = results_of(folder)
    results["tasks"]["shapes"]["knockout_windows"][1]["answer"] |= {"value": -9.5, "ci95": [-10.0, -9.0]}
    write_results(folder, results)


def window_that_nobody_took(folder: Path) -> None:
    results = results_of(folder)
    windows = results["tasks"]["shapes"]["knockout_windows"]
    windows.append(windows[0] | {"layers": [3, 9]})
    write_results(folder, results)


def measure_that_nobody_took(folder: Path) -> None:
    results = results_of(folder)
    results["tasks"]["shapes"]["metrics"]["pass@8"] = {"value": 1.0, "ci95": [0.9, 1.0], "n": 12}
    write_results(folder, results)


def token_limit_throughout(folder: Path) -> None:
    results = results_of(folder)
    line = json.loads((folder / "protocols.jsonl").read_text())
    for card in (results["protocol"], line["protocol"]):
        card["decoding"]["max_new_tokens"] = 64
    results["protocol_id"] = line["protocol_id"] = protocol_id(line["protocol"])
    (folder / "protocols.jsonl").write_text(json.dumps(line) + "\n")
    write_results(folder, with_run_id(results))
    write_records(folder, [one | {"protocol_id": line["protocol_id"]} for one in records_of(folder)])


def altered_answers(folder: Path) -> list[Run]:
    return [json.loads(line) for line in (folder / "altered.jsonl").read_text(encoding="utf-8").splitlines()]


def altered_response_edited(folder: Path) -> None:
    """What the model answered without the image becomes right."""
    answers = altered_answers(folder)
    for one in answers:
        one["response"] = "<answer>nothing of the kind</answer>"
    (folder / "altered.jsonl").write_text("".join(json.dumps(one) + "\n" for one in answers), encoding="utf-8")


def altered_answers_gone(folder: Path) -> None:
    (folder / "altered.jsonl").unlink()


def blind_edited_in_the_records(folder: Path) -> None:
    records = records_of(folder)
    for one in records:
        if one["causal"]:
            one["causal"]["blind"]["correct"] = False
            one["causal"]["blind"]["extracted"] = "?"
    write_records(folder, records)


def counted_twice(folder: Path) -> None:
    path = folder / "asked.json"
    asked = json.loads(path.read_text())
    for column in asked["shapes"].values():
        if isinstance(column, list):
            column[0] = column[1]
    path.write_text(json.dumps(asked))


def in_task(**part: Any) -> Callable[[Path], None]:
    """Other values of parts of what results.json says of shapes."""

    def forge(folder: Path) -> None:
        results = results_of(folder)
        task = results["tasks"]["shapes"]
        for name, value in part.items():
            task[name] = {**task[name], **value} if isinstance(value, dict) else value
        write_results(folder, results)

    forge.__name__ = "_".join(["other", *part])
    return forge


def left_out_though_answered(folder: Path) -> None:
    in_task(left_out={"n": 1, "ids": [next(one["row_id"] for one in records_of(folder) if one["task"] == "shapes")]})(
        folder
    )


def left_out_beyond_the_limit(folder: Path) -> None:
    in_task(left_out={"n": 1, "ids": [list(_rows["shapes"])[LIMIT]]})(folder)


def other_protocol_id(folder: Path) -> None:
    """One that no record names, as of a run that found all of its records there."""
    write_results(folder, results_of(folder) | {"protocol_id": "0123456789abcdef"})


def no_protocol_id(folder: Path) -> None:
    write_results(folder, results_of(folder) | {"protocol_id": None})


def causal_card_gone(folder: Path) -> None:
    results = results_of(folder)
    del results["protocol"]["causal"]
    write_results(folder, results)


FORGED_FOLDERS: list[tuple[Callable[[Path], None], str]] = [
    (right_by_the_file, "accuracy of shapes_prior is .* in results.json, and by its records judged again"),
    (response_edited, "the record was changed"),
    (judgement_edited, "the record was changed"),
    (reference_edited, "a record says that the answer to row"),
    (wrong_ones_left_out, "have the hash"),
    (prompt_edited, "of another prompt, picture, model or decoding"),
    (easier_row, "of another prompt, picture, model or decoding"),
    (other_picture, "of another prompt, picture, model or decoding"),
    (records_gone, "lacks 1 of the run's records"),
    (model_renamed_throughout, "asked for with model 'avar-tiny', and results.json says 'best-of-all'"),
    (weights_renamed_throughout, "of another prompt, picture, model or decoding"),
    (vas_and_its_interval, "vas of shapes is 18.9 of 4 in results.json"),
    (greater_dependence, "visual_dependence of shapes is 9.5 of 4 in results.json"),
    (dependence_edited, "visual_dependence of shapes is .* of 4 in results.json, and by its records judged again"),
    (stronger_window, "knockout of layers 2 to 4, answer, of shapes is -9.5 of 4 in results.json"),
    (window_that_nobody_took, "knockout of layers 3 to 9, answer, of shapes is .*, and the records give none"),
    (measure_that_nobody_took, "pass@8 of shapes is 1.0 in results.json, and the records give none"),
    (token_limit_throughout, "of another prompt, picture, model or decoding"),
    (counted_twice, "counts a record twice"),
    (altered_response_edited, "the answer to the altered question of row"),
    (altered_answers_gone, "altered.jsonl lacks the answer"),
    (blind_edited_in_the_records, "the answer to the altered question of row"),
    (in_task(causal={"visual_gain_p": 1e-9}), "its visual_gain_p is 1e-09, and by its records judged again"),
    (in_task(causal={"rows": 12}), "its causal columns are of 12 rows, 0 without an image, and by its records of 4"),
    (in_task(causal={"without_image": 1}), "its causal columns are of 4 rows, 1 without an image"),
    (in_task(vas_band=None), "its band of VAS is None, and by its records"),
    (in_task(left_out={"n": 1, "ids": ["nobody"]}), "the row 'nobody' as left out, and was never to ask it"),
    (left_out_though_answered, "as left out, and has records of it"),
    (left_out_beyond_the_limit, "as left out, and was never to ask it"),
    (other_protocol_id, "its protocol_id is 0123456789abcdef, and that of its protocol is"),
    (no_protocol_id, "its protocol_id is None, and that of its protocol is"),
    (causal_card_gone, "its protocol does not say of how many rows"),
]


@pytest.mark.parametrize(("forge", "message"), FORGED_FOLDERS, ids=[forge.__name__ for forge, _ in FORGED_FOLDERS])
def test_a_run_whose_records_say_otherwise_is_refused(
    forge: Callable[[Path], None], message: str, folder: Path, store: Store
) -> None:
    forge(folder)
    with pytest.raises(AvarError, match=message) as raised:
        store.add(folder)
    assert "\n" not in str(raised.value)
    assert store.rows() == []


def test_wrong_rows_that_are_left_out_of_everything_are_missed(folder: Path, store: Store) -> None:
    """Keys, hash of prompts, numbers and run_id all fit; the benchmark's own rows tell of the one that is not there."""
    wrong = wrong_record(folder)
    wrong_ones_left_out(folder)
    kept = [one for one in records_of(folder) if one["key"] != wrong["key"]]
    from avar_eval.records.book import read_records

    results = read_results(folder)
    of_task = [one for one in read_records(folder / "records.jsonl").values() if one.task == wrong["task"]]
    of_task = [one for one in of_task if one.key != wrong["key"]]
    results.protocol["prompt_sha256"][wrong["task"]] = prompt_sha256(of_task)
    results.model_copy(update={"run_id": run_id(results.protocol)}).write(folder)
    write_records(folder, kept)
    with pytest.raises(AvarError, match=r"it has no record of the row|it has records of 11 rows"):
        store.add(folder)


def test_files_of_two_runs_are_told_apart(folder: Path, store: Store, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    earlier = Path(__file__).parent.parent / "results" / "run_of_an_earlier_version"
    for name in ("results.json", "asked.json", "records.jsonl"):
        mixed = Path(shutil.copytree(other, tmp_path / f"with-{name}"))
        shutil.copy(earlier / name, mixed / name)
        with pytest.raises(AvarError):
            store.add(mixed)
    assert store.rows() == []


def test_a_forged_file_that_fits_itself_is_only_as_reported(folder: Path, store: Store) -> None:
    """Nobody can tell from the bare file: it is marked, and takes no verified row's place."""
    store.add(folder)
    right_by_the_file(folder)
    with pytest.raises(AvarError, match="with other content, which stays"):
        store.add(folder / "results.json")
    assert {row.mark for row in store.rows()} == {"verified"}
    store.add(folder / "results.json", replace=True)
    assert {row.mark for row in store.rows()} == {"as reported"}
    assert [line.event for line in store.history().lines] == ["added", "replaced"]


def test_a_file_edited_in_the_store_is_no_row(folder: Path, store: Store) -> None:
    path = store.runs / f"{store.add(folder).run.run_id}.json"
    right_by_the_file(folder)
    shutil.copy(folder / "results.json", path)
    rows, skipped = store.read()
    assert rows == []
    assert "was changed after it was added" in skipped[0].reason
    store.path.joinpath("history.jsonl").unlink()  # whoever takes away both has a bare file
    assert {row.mark for row in store.rows()} == {"as reported"}


def test_group_means_follow_from_their_columns(tmp_path: Path, store: Store) -> None:
    from test_group_means import ROW, tasks

    protocol = {"model": "m", "revision": None, "system_prompt": None, "steering": None, "prompt_sha256": {}}
    protocol |= {"limit": None, "grader": dict.fromkeys(ROW, "1")}
    groups = group_results(tasks(), {})
    honest = Results(run_id=run_id(protocol), tasks=tasks(), groups=groups, protocol=protocol)
    store.add(honest.write(tmp_path))
    for spoil, message in (
        (lambda of: of["columns"]["mmmu"].update(strict=0.9), "its column mmmu .strict. is 0.9"),
        (lambda of: of["mean"]["strict"].update(value=0.565), "the mean .strict. is 0.565"),
        (lambda of: of["mean"]["strict"].update(n=90_000), "is of 90000 responses, and its columns are of"),
        (lambda of: of["columns"].pop("mmmu"), "its columns are"),
    ):
        forged = json.loads(honest.to_json())
        spoil(forged["groups"]["avar7"])
        write_results(tmp_path, forged)
        with pytest.raises(AvarError, match=message):
            store.add(tmp_path / "results.json", replace=True)


def test_keys_are_of_all_that_decides_a_response(folder: Path) -> None:
    """What the store recomputes is what a session computes."""
    protocol, record = read_results(folder).protocol, records_of(folder)[0]
    assert record["key"] == record_key(
        task=record["task"],
        row=record["row_id"],
        sample=0,
        prompt=record["prompt"],
        images=record["image_sha256"],
        weights=protocol["weights_sha256"],
        dtype="float32",
        decoding={"temperature": 0.0, "max_new_tokens": 128},
        steering=None,
    )
