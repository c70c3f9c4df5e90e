"""`--parallel` without a cluster: endpoints side by side, this machine's own runs one at a time; what it cannot do."""

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from local_server import serve
from runs import Server
from suites import Suites, state

from avar_eval.errors import UsageError
from avar_eval.suite.read import read_suite
from avar_eval.suite.run import check_parallel
from avar_eval.suite.slurm import sbatch_text, write_slurm

REPLY = {
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "<answer>3</answer>"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 5},
}


class Meeting(BaseHTTPRequestHandler):
    """Answers a and b when both have asked, and refuses c."""

    meeting: threading.Barrier
    met: set[str]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] == "c":
            self.send_error(400)
            return
        if asked["model"] not in self.met:
            self.met.add(asked["model"])
            self.meeting.wait(120)
        reply = json.dumps(
            {"id": "1", "object": "chat.completion", "created": 0, "model": asked["model"]} | REPLY
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *arguments: Any) -> None: ...


def test_endpoints_are_asked_side_by_side_and_a_failure_leaves_the_others(
    forking_server: Server, tmp_path: Path
) -> None:
    Meeting.meeting, Meeting.met = threading.Barrier(2), set()
    with serve(Meeting) as url:
        (tmp_path / "suite.yaml").write_text(
            f"tasks: [shapes]\nlimit: 1\ncausal: off\nbackend: api\napi-url: {url}\nmodels: [a, b, c]\n",
            encoding="utf-8",
        )
        suites = Suites(forking_server, tmp_path / "suite.yaml", tmp_path / "asked")
        done = suites.run(tmp_path / "runs", "--parallel", "2")
    assert not Meeting.meeting.broken
    assert [run["status"] for run in state(tmp_path / "runs")] == ["finished", "finished", "failed"], done.stderr
    assert done.code == 1
    assert "failed: c" in done.stderr


def planned(folder: Path, text: str, given: Mapping[str, Any]) -> Any:
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return read_suite(path, folder / "runs", given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "all runs compute on this machine itself"),
        ({"cluster": "ray", "cluster_workers": 1}, "all runs compute on this machine itself"),
        ({"cluster": "ray://127.0.0.1:1"}, "--parallel 2 needs --cluster-workers"),
    ],
)
def test_what_cannot_go_side_by_side_is_refused(tmp_path: Path, given: Mapping[str, Any], said: str) -> None:
    suite = planned(tmp_path, "tasks: [shapes]\nmodels: [avar-tiny, {model: avar-tiny, name: b}]\n", given)
    with pytest.raises(UsageError, match=said):
        check_parallel(suite, 2)
    check_parallel(suite, 1)


def test_a_job_of_slurm_goes_side_by_side(tmp_path: Path) -> None:
    text = "tasks: [shapes]\nmodels: [avar-tiny, {model: avar-tiny, name: b}]\n"
    with pytest.raises(UsageError, match="needs --cluster-workers"):
        write_slurm(planned(tmp_path, text, {}), tmp_path / "runs", {}, 3)
    given = {"cluster_workers": 4}
    suite = planned(tmp_path, text, given)
    script = sbatch_text(suite, tmp_path / "runs", given, tmp_path, tmp_path, 3)
    assert " --cluster-workers 4 --parallel 3 " in script
