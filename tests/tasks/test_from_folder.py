"""MMMU, MMMU-Pro, MMStar and HallusionBench from a data folder, through lmms-eval: prompts, pictures, judgements.

The prompts are kept in tests/golden, one file a task and style.
"""

from pathlib import Path
from typing import Any

import pytest
from invented_rows import ROWS, write_folder
from lmms_eval.tasks import TaskManager

from avar_eval.tasks.catalog import TASKS_FOLDER, catalog
from avar_eval.tasks.prompts import STYLES
from avar_eval.tasks.rows import DATA_DIR_VARIABLE, rows_from_folder

GOLDEN = Path(__file__).parent.parent / "golden"
GOLDS = {
    "mmmu": ["C", "B", "3/2"],
    "mmmu_pro_standard4": ["C"],
    "mmmu_pro_standard10": ["L", "A"],
    "mmmu_pro_vision": ["B", "B"],
    "mmstar": ["B", "C"],
    "hallusion": ["Yes", "No", "Yes", "No", "No"],
    "hallusion_image": ["Yes", "No", "No"],
}


@pytest.fixture(scope="module")
def manager() -> TaskManager:
    """lmms-eval's registry with our tasks alone."""
    return TaskManager(include_path=str(TASKS_FOLDER), include_defaults=False)


def load(manager: TaskManager, name: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The lmms-eval task of a data folder with the invented rows."""
    write_folder(data_dir, catalog()[name], ROWS[name])
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(data_dir))
    return manager.load_task_or_group(name)[name]


def shown(message: dict[str, Any]) -> str:
    """A chat message as text, its pictures by their size."""
    parts = (
        part["text"] if part["type"] == "text" else "[picture {}x{}]".format(*part["url"].size)
        for part in message["content"]
    )
    return "".join(parts)


@pytest.mark.parametrize("name", ROWS)
def test_prompts_are_the_kept_ones(
    manager: TaskManager, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load(manager, name, tmp_path, monkeypatch)
    for style in STYLES:
        task.lmms_eval_specific_kwargs = {"prompt_style": style}
        messages = [task.doc_to_messages(row) for row in task.test_docs()]
        assert all(len(message) == 1 and message[0]["role"] == "user" for message in messages)
        kept = (GOLDEN / f"{name}.{style}.txt").read_text(encoding="utf-8")
        assert "\n=====\n".join(shown(message[0]) for message in messages) + "\n" == kept


@pytest.mark.parametrize("name", ROWS)
def test_plain_lmms_eval_asks_and_judges(
    manager: TaskManager, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load(manager, name, tmp_path, monkeypatch)
    rows = list(task.test_docs())
    assert len(rows) == len(ROWS[name])
    task.build_all_requests(rank=0, world_size=1)
    assert [request.args[3] for request in task.instances] == list(range(len(rows)))
    kept = (GOLDEN / f"{name}.thinking.txt").read_text(encoding="utf-8")
    first = task.instances[0].args[1](rows[0])
    assert kept.startswith(shown(first[0])), "without settings it is the thinking style"
    right = [
        task.process_results(row, [f"<answer>{gold}</answer>"]) for row, gold in zip(rows, GOLDS[name], strict=True)
    ]
    assert [result["accuracy"] for result in right] == [1.0] * len(rows)
    nothing = [task.process_results(row, ["I am not able to see what this picture shows."]) for row in rows]
    assert [(result["accuracy"], result["unparsed"]) for result in nothing] == [(0.0, 1.0)] * len(rows)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_without_a_needed_picture_is_left_out(name: str, tmp_path: Path) -> None:
    entry = catalog()[name]
    rows = [dict(row) for row in ROWS[name]]
    folder = write_folder(tmp_path, entry, [*rows, rows[-1] | {"id": "lost", "index": 99, "question_id": "9"}])
    for path in folder.glob(f"images/{len(rows)}_*.png"):
        path.unlink()
    dataset, left_out = rows_from_folder(tmp_path, entry)
    assert len(dataset) == len(rows)
    assert list(left_out) == [entry.row_id(rows[-1] | {"id": "lost", "index": 99, "question_id": "9"})]
