"""What tests share: runs of the command line, an invented data folder, and a leaderboard that is not the user's."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from PIL import Image
from runs import Finished, Server, mathvista_row

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Forks runs of `avar-eval`."""
    server = Server(tmp_path_factory.mktemp("runs"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def avar_eval(server: Server) -> Callable[..., Finished]:
    """Runs `avar-eval` with the given arguments to its end."""
    return lambda *arguments, **settings: server.start(*arguments, **settings).wait()


@pytest.fixture(autouse=True)
def _own_leaderboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test adds to the user's leaderboard."""
    monkeypatch.setenv("AVAR_LEADERBOARD", str(tmp_path / "leaderboard"))


@pytest.fixture
def mathvista(tmp_path: Path) -> Path:
    """A data folder with four invented MathVista rows, the second one without its picture."""
    folder = tmp_path / "data" / "mathvista"
    (folder / "images").mkdir(parents=True)
    rows = [mathvista_row(str(pid)) for pid in range(1, 5)]
    for row in rows:
        if row["pid"] != "2":
            Image.new("RGB", (56, 56), "white").save(folder / row["image"])
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder.parent
