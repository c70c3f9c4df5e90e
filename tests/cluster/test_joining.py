"""Which cluster is meant, and what is said where there is none, or nothing that it could do."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runs import MODEL, Finished

from avar_eval.cluster.address import check_cluster, ray_address
from avar_eval.cluster.driver import ClusterError
from avar_eval.command_line import command_text
from avar_eval.errors import UsageError
from avar_eval.run.asking import Asking


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose name leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


RUN = ("--model", MODEL, "--tasks", "shapes", "--limit", "2")


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("ray", None),
        ("auto", "auto"),
        ("ray://auto", "auto"),
        ("ray://10.0.0.1:6379", "10.0.0.1:6379"),
        ("ray://head:6379", "head:6379"),
    ],
)
def test_an_address_is_read(given: str, address: str | None) -> None:
    cluster = Asking.of(model=MODEL, cluster=given).cluster
    assert cluster is not None
    assert ray_address(cluster) == address
    assert check_cluster(cluster) == cluster, "it is read once more where an asking is changed"


@pytest.mark.parametrize(
    "given", ["slurm", "ray://", "ray://head", "10.0.0.1:6379", "ray://head:port", "http://head:1"]
)
def test_another_text_is_refused_with_what_to_give(given: str) -> None:
    with pytest.raises(UsageError, match=r"ray://HOST:PORT"):
        Asking.of(model=MODEL, cluster=given)


def test_where_results_are_computed_is_not_in_the_protocol() -> None:
    alone = ["--model", "m", "--tasks", "t", "--limit", "2"]
    on_ray = [*alone[:2], "--cluster", "ray://h:1", *alone[2:], "--cluster-workers=4", "--output", "x"]
    assert command_text(on_ray) == command_text(alone)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--cluster", "ray://127.0.0.1:1"), "nothing answers there"),
        (
            ("--cluster", "ray", "--backend", "api", "--api-url", "http://127.0.0.1:1/v1"),
            "an endpoint spreads its work",
        ),
        (("--cluster", "ray", "--device", "cuda:1"), "Ray says which GPU"),
    ],
)
def test_what_cannot_be_is_one_message(avar_eval: Callable[..., Finished], options: tuple[str, ...], said: str) -> None:
    done = avar_eval(*RUN, *options)
    assert done.code in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("cluster", "environment", "raised", "said"),
    [
        (
            "ray://auto",
            {},
            ConnectionError("Could not find any running Ray instance. Please set the `--address` flag."),
            "--cluster ray://auto: no Ray cluster is running on this machine: start one with `ray start --head`, or "
            "give ray://HOST:PORT, the address that it says",
        ),
        (
            "ray://auto",
            {"RAY_ADDRESS": "head:6379"},
            ConnectionError("Ray is not there."),
            "--cluster ray://auto: no Ray cluster answers at head:6379, which RAY_ADDRESS names: start one with "
            "`ray start --head`, or give ray://HOST:PORT, the address that it says",
        ),
        (
            "ray",
            {},
            RuntimeError("Version mismatch:\n  2.1 is not 2.2."),
            "--cluster ray: Ray does not start on this machine: Version mismatch: 2.1 is not 2.2",
        ),
    ],
)
def test_without_a_cluster_the_message_says_how_to_have_one(
    monkeypatch: pytest.MonkeyPatch, cluster: str, environment: dict[str, str], raised: Exception, said: str
) -> None:
    """In the place of Ray's own words, of flags that are not ours."""
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    from avar_eval.cluster import ray_workplace

    def init(**_: object) -> None:
        raise raised

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_workplace, "_has_token", lambda: False)
    with pytest.raises(ClusterError, match=f"^{re.escape(said)}$"):
        ray_workplace.RayCluster(cluster)


@pytest.mark.parametrize("command", ["ablate avar-runs/x", "look x", "score x"])
def test_commands_that_take_no_cluster_say_so(avar_eval: Callable[..., Finished], command: str) -> None:
    done = avar_eval(*command.split(), "--cluster", "ray")
    assert done.code == 2
    assert "--cluster" in done.stderr


def test_without_the_extra_the_message_says_what_to_install() -> None:
    hidden = "import sys; sys.modules['ray'] = None; from avar_eval.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", hidden, *RUN, "--cluster", "ray"], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr  # the command is right, the machine lacks a package
    assert "pip install 'avar-eval[ray]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cluster_that_asks_for_a_token_is_joined_with_it(tmp_path: Path, short_folder: Path) -> None:
    """Once a user has a token, which Ray's own local clusters write, `ray start` asks for it; the message says so."""
    pytest.importorskip("ray", reason="needs the extra ray")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0123456789abcdef" * 2)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment |= {"HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
    environment["RAY_TMPDIR"] = str(short_folder)  # where other tests' `ray://auto` does not look
    options = ("--port=0", "--num-cpus=1", "--include-dashboard=false", "--object-store-memory=80000000")
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *options]
    head = subprocess.Popen(start, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert head.stdout is not None
        # the last that it says: its own address, at a port that it has chosen
        address = next(found[1] for line in head.stdout if (found := re.search(r"--address='([^']+)'", line)))
        join = f"from avar_eval.cluster.ray_workplace import RayCluster as C; C('ray://{address}')"
        command = [sys.executable, "-c", f"{join}; import ray; print(len(ray.nodes()))"]
        told = environment | {"RAY_AUTH_MODE": "token"}
        done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=600)
        assert done.stdout.split() == ["1"], done.stderr[-2000:]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert "set RAY_AUTH_MODE=token" in done.stderr
    finally:
        os.killpg(head.pid, signal.SIGKILL)  # asked to end, it would wait half a minute for work to leave it
        head.wait()
