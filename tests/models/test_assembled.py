"""Models that are put together on this disk: where they lie, and what of avar-smol is shipped."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError, safe_open

from avar_eval.models import assembled
from avar_eval.models.registry import find_by_weights, get_model


class Saved:
    """Stands for a model and a processor: writes one file."""

    def __init__(self, name: str) -> None:
        self._name = name

    def to(self, dtype: Any) -> "Saved":
        return self

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self._name).write_text("{}")


@pytest.mark.parametrize("part", ["SIGHT", "_RECIPE"])
def test_another_part_is_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    folders = set()
    for number, content in enumerate((b"one", b"two")):
        file = tmp_path / str(number)
        file.write_bytes(content)
        monkeypatch.setattr(assembled, part, file)
        folders.add(assembled.assembled_folder("avar-smol"))
    assert len(folders) == 2


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "avar-smol-0"
    assembled.save_assembled(Saved("config.json"), Saved("processor_config.json"), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "processor_config.json"]
    assembled.save_assembled(Saved("other.json"), Saved("another.json"), folder)  # made by another process before
    assert [path.name for path in folder.parent.iterdir()] == ["avar-smol-0"]
    assert not (folder / "other.json").exists()


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(assembled.NotAssembledError, match="cannot be written"):
        assembled.save_assembled(Saved("a"), Saved("b"), tmp_path / "file" / "avar-smol-0")


def test_a_disk_without_room_is_said(tmp_path: Path) -> None:
    class Full(Saved):
        def save_pretrained(self, folder: Path) -> None:
            super().save_pretrained(folder)
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    folder = tmp_path / "cache" / "avar-smol-0"
    with pytest.raises(assembled.NotAssembledError, match=r"cannot be written \(No space left on device\): make room"):
        assembled.save_assembled(Full("a"), Saved("b"), folder)
    assert not list(folder.parent.iterdir())


def test_the_folder_is_known_for_the_registered_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = get_model("avar-smol").path
    assert folder is not None
    folder.mkdir(parents=True)
    assert find_by_weights(str(folder)) is get_model("avar-smol")
    assert f"delete {folder}" in assembled.how_to_mend(folder)
    assert assembled.how_to_mend(tmp_path / "checkpoint") == ""


@pytest.mark.skipif(not assembled.SIGHT.is_file(), reason="this checkout has no weights of avar-smol")
def test_what_is_shipped_is_small_and_says_how_it_was_made() -> None:
    assert assembled.SIGHT.stat().st_size <= 12_000_000
    with safe_open(assembled.SIGHT, "pt") as shipped:
        told = json.loads(shipped.metadata()["training"])
        tower = [name for name in shipped.keys() if "vision_tower" in name or "projector" in name]  # noqa: SIM118
        size = sum(shipped.get_tensor(name).numel() for name in tower)
    assert {"minutes", "seed", "device"} <= told["settings"].keys()
    assert {"steps", "training_seconds"} <= told["end"].keys()
    assert 3e6 <= size <= 8e6
