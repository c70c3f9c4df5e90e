"""Files that users name: what is no file, no text, too deep or a bomb ends in a message, at once."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import Finished

from avar_eval.errors import AvarError
from avar_eval.leaderboard.store import Store
from avar_eval.look.conversation import read_picture
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.registry import registry
from avar_eval.recipes.data import load
from avar_eval.recipes.recipe import read_recipe
from avar_eval.records.book import RecordBook, read_records
from avar_eval.results.schema import read_results
from avar_eval.score.response_file import score_responses
from avar_eval.tasks.catalog import catalog
from avar_eval.tasks.files import read_rows
from avar_eval.time_limit import TimeLimitError, time_limit
from avar_eval.user_files import open_file, parse_json, parse_yaml

DEEP = "[" * 200_000
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 9))


def models_of(path: Path) -> object:
    os.environ["AVAR_MODELS"] = str(path)
    registry.cache_clear()
    try:
        return registry()
    finally:
        del os.environ["AVAR_MODELS"]
        registry.cache_clear()


def checkpoint_of(path: Path) -> object:
    return resolve_checkpoint(str(path.parent))


def rows_of(path: Path) -> object:
    return read_rows(catalog()["mathvista"], path.parent.parent)


# what reads the file, and its name in a folder
READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "recipe": (lambda path: read_recipe(str(path)), "recipe.yaml"),
    "models": (models_of, "models.yaml"),
    "checkpoint": (checkpoint_of, "config.json"),
    "results": (lambda path: read_results(path.parent), "results.json"),
    "leaderboard": (lambda path: Store(path.parent / "board").add(path), "results.json"),
    "records": (read_records, "records.jsonl"),
    "rows": (rows_of, "mathvista/rows.jsonl"),
    "training rows": (lambda path: load(str(path), "sft", system_prompt=None), "train.jsonl"),
    "responses": (lambda path: score_responses(catalog()["shapes"], path, None, None), "responses.jsonl"),
    "picture": (read_picture, "picture.png"),
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def latin_1(path: Path) -> None:
    path.write_bytes("recipe: {method: sft}\nü: é\n".encode("latin-1"))


def deep(path: Path) -> None:
    path.write_text(DEEP + "\n")


@pytest.mark.parametrize("make", [pipe, folder, latin_1, deep])
@pytest.mark.parametrize("reader", READERS)
def test_what_cannot_be_read_is_named_at_once(reader: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    read, name = READERS[reader]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    begun = time.monotonic()
    with pytest.raises(AvarError) as caught:
        read(path)
    assert str(path) in str(caught.value) or str(path.parent) in str(caught.value)
    assert time.monotonic() - begun < 20


def test_a_pipe_in_the_place_of_a_record_book_is_refused(tmp_path: Path) -> None:
    pipe(tmp_path / "records.jsonl")
    with pytest.raises(AvarError, match="pipe or a device"):
        RecordBook(tmp_path)


def test_a_pipe_beside_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    pipe(tmp_path / "chat_template.jinja")
    with pytest.raises(AvarError, match=r"chat_template\.jinja is a pipe"):
        resolve_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 100,000 values"),
        (MERGES, "more than 100,000 values"),
        ("a: &a [*a]", "holds itself"),
        ("x" * 1_000_001, "more than 1,000,000 characters"),
        (DEEP, "nested too deeply"),
        ("a: [", "breaks off"),
        ("? [1, 2]\n: x", "cannot be a key"),
        ("day: 2024-13-99", "it holds a date or a number that is none"),
        ("n: " + "9" * 5000, "it holds a date or a number that is none"),
    ],
    ids=["aliases", "merges", "itself", "long", "deep", "torn", "list as key", "no date", "no number"],
)
def test_yaml_that_would_not_end_is_refused_at_once(text: str, message: str) -> None:
    begun = time.thread_time()
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)
    assert time.thread_time() - begun < 5


def test_yaml_with_anchors_is_read() -> None:
    one = {"x": 1}
    assert parse_yaml("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n") == {"a": one, "b": one, "c": one | {"y": 2}}
    assert parse_yaml("") is None


def test_of_equal_keys_the_last_counts_only_where_that_is_asked_for() -> None:
    assert parse_yaml("a: 1\na: 2\n", repeated=True) == {"a": 2}
    assert parse_yaml("x: &x {a: 1}\ny: &y {b: 2}\nz: {<<: *x, <<: *y}\n")["z"] == {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="line 2: a is given twice"):
        parse_yaml("a: 1\na: 2\n")


def test_json_that_is_deep_is_no_value() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(DEEP)
    assert parse_json(b'{"a": [1]}') == {"a": [1]}


def test_what_is_no_file_says_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="it is a folder"):
        open_file(tmp_path)
    with pytest.raises(OSError, match="pipe or a device"):
        open_file(Path("/dev/zero"))


@pytest.mark.parametrize("key", ["1", "true", "null", "2024-01-01", "1.5"])
def test_a_recipes_keys_are_texts(key: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(f"recipe: {{method: sft, global_batch_size: 1}}\n{key}: x\n")
    with pytest.raises(AvarError, match="is no text"):
        read_recipe(str(tmp_path / "r.yaml"))
    (tmp_path / "r.yaml").write_text(f"recipe: {{method: sft, global_batch_size: 1, {key}: x}}\n")
    with pytest.raises(AvarError, match="is no text"):
        read_recipe(str(tmp_path / "r.yaml"))


def test_a_name_of_five_thousand_letters_is_no_traceback(avar_eval: Callable[..., Finished], tmp_path: Path) -> None:
    long = "n" * 5000
    for arguments in (
        ("look", "avar-tiny", "--image", long, "--prompt", "What?"),
        ("--model", f"./{long}", "--tasks", "shapes"),
        ("--model", "avar-tiny", "--tasks", "mathvista", "--data-dir", long, "--output", str(tmp_path)),
        ("--model", "avar-tiny", "--tasks", "shapes", "--output", long),
        ("score", long),
    ):
        done = avar_eval(*arguments)
        assert done.code != 0
        assert "Traceback" not in done.stderr, arguments
        assert "File name too long" in done.stderr or "there is no" in done.stderr, done.stderr


def test_a_loop_without_an_end_is_ended() -> None:
    def endless() -> None:
        with time_limit(0.2):
            while True:
                pass

    begun = time.monotonic()
    with pytest.raises(TimeLimitError):
        endless()
    assert time.monotonic() - begun < 10
    with time_limit(0.5):
        pass
    time.sleep(0.6)  # nothing comes after the end of the context


@pytest.mark.parametrize(
    "template",
    [
        "{% include 'x' %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}"
        "{% endfor %}",
        "{% import 'os' as os %}{{ os }}",
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ 1 / 0 }}",
        "{{ messages[99].role }}",
    ],
)
def test_a_chat_template_that_is_no_template_is_named(
    template: str, avar_eval: Callable[..., Finished], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from avar_eval.models import transformers_backend
    from avar_eval.models.backend import BackendError

    monkeypatch.setattr(transformers_backend, "TEMPLATE_SECONDS", 1.0)
    model = shutil.copytree(resolve_checkpoint("avar-tiny").path, tmp_path / "model")
    (model / "chat_template.jinja").write_text(template)
    begun = time.monotonic()
    with pytest.raises(BackendError, match=r"the chat template of .* cannot be used"):
        transformers_backend.TransformersBackend(resolve_checkpoint(str(model)), "cpu")
    assert time.monotonic() - begun < 30
