"""What tests share: runs of the command line, an invented data folder, and a leaderboard that is not the user's.

Tests run on the CPU, on a machine with a GPU as well: their references are computed there, and a run that takes what is
there would be another run. Those marked `gpu` alone see a GPU; they take the fixture `gpu`, and are skipped elsewhere.
"""

import json
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from PIL import Image
from runs import Finished, Server, mathvista_row

if TYPE_CHECKING:
    import torch

HAS_NVIDIA_DRIVER = Path("/dev/nvidiactl").exists()

# The same examples in every run, however long a busy machine takes: what fails has to do with what was changed.
settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# What a user, or a service that runs tests, has set for a terminal: rich and typer would colour and fold texts by it.
for _name in ("COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(_name, None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Hide the GPU from a test, from its fixtures and from the processes that it starts, unless it is marked `gpu`."""
    if not HAS_NVIDIA_DRIVER or item.get_closest_marker("gpu"):
        return (yield)
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setattr(torch.cuda, "is_available", lambda: False)
        return (yield)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if not item.get_closest_marker("gpu"):
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture
def gpu() -> "torch.device":
    """The GPU of a test that is marked so."""
    import torch

    return torch.device("cuda")


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


@pytest.fixture(scope="session")
def forking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Forks runs of `avar-eval suite`, which fork theirs."""
    with pytest.MonkeyPatch.context() as patch:
        here = str(Path(__file__).parent)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")])))
        server = Server(tmp_path_factory.mktemp("suites"), ("fork_runs",))
    yield server
    server.stop()


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
