"""What starts the suites of this folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import Server


@pytest.fixture(scope="session")
def forking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        here = str(Path(__file__).parent)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")])))
        server = Server(tmp_path_factory.mktemp("suites"), ("fork_runs",))
        yield server
    server.stop()
