"""Which cluster is meant, and what is said where there is none, or nothing that it could do."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from runs import MODEL, Finished

from avar_eval.cluster.address import check_cluster, ray_address
from avar_eval.command_line import command_text
from avar_eval.errors import UsageError
from avar_eval.run.asking import Asking

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


@pytest.mark.parametrize("command", ["ablate avar-runs/x", "look x", "score x"])
def test_commands_that_take_no_cluster_say_so(avar_eval: Callable[..., Finished], command: str) -> None:
    done = avar_eval(*command.split(), "--cluster", "ray")
    assert done.code == 2
    assert "--cluster" in done.stderr


def test_without_the_extra_the_message_says_what_to_install() -> None:
    hidden = "import sys; sys.modules['ray'] = None; from avar_eval.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", hidden, *RUN, "--cluster", "ray"], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "pip install 'avar-eval[ray]'" in done.stderr
    assert "Traceback" not in done.stderr
