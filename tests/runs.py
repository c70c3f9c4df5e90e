"""Runs of `avar-eval` and `avar-train` as processes of their own, without paying for its imports each time.

A server imports everything once and forks a child for each run, which then calls the command line's own entry point.
Runs can so be started, watched, killed and waited for like any process.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from local_server import held_port

MODEL = "avar-tiny"

_SERVER = """
import gc, importlib, json, os, resource, signal, sys, time
import avar_eval.recipes.cli
import avar_eval.cli, avar_eval.leaderboard.cli, avar_eval.leaderboard.store
import avar_eval.run.lmms_model, avar_eval.run.evaluate
import avar_eval.results.run_table, avar_eval.results.verdict_tables
import lmms_eval.tasks, avar_eval.run.loaded_task, avar_eval.run.protocol, avar_eval.tasks.rows
import transformers.models.qwen2_5_vl.modeling_qwen2_5_vl, transformers.models.qwen2_5_vl.processing_qwen2_5_vl

for name in sys.argv[1:]:
    importlib.import_module(name)
programs = {"avar-eval": avar_eval.cli.main, "avar-train": avar_eval.recipes.cli.main}
programs["avar-leaderboard"] = avar_eval.leaderboard.cli.main
gc.collect()
gc.freeze()  # collections in the children pass over what is imported

def stand_still(stands_at, go_on):
    from avar_eval.records.journal import Journal

    append = Journal.append

    def append_and_stand(journal, new):
        append(journal, new)
        for name, lines in stands_at.items():
            if str(journal.path).endswith("/" + name) and journal.path.read_bytes().count(b"\\n") >= lines:
                while not os.path.exists(go_on):
                    time.sleep(0.01)

    Journal.append = append_and_stand

def become(run, begun):
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    os.chdir(run["folder"])
    for number, name in ((0, os.devnull), (1, run["stdout"]), (2, run["stderr"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.close(begun)
    os.environ.update(run["environment"])
    if run["largest_file"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (run["largest_file"],) * 2)
    if run["stands_at"]:
        stand_still(run["stands_at"], run["go_on"])
    sys.argv = [run["program"], *run["arguments"]]
    try:
        programs[run["program"]]()
    except SystemExit as end:
        return end.code or 0
    return 0

for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
        continue
    told, begun = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = become(request, begun)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
            finally:
                os._exit(code)
    os.close(begun)
    os.read(told, 1)  # to its end: the child has a process group to be killed, and its files
    os.close(told)
    print(child, flush=True)
"""


@dataclass
class Finished:
    """A run that has ended. code: exit code, or minus the signal that ended it."""

    code: int
    stdout: str
    stderr: str


@dataclass
class Running:
    """A run on its way, in a process group of its own."""

    pid: int
    folder: Path
    _server: "Server"
    _code: int | None = None

    def wait(self) -> Finished:
        """Wait for the end of it."""
        if self._code is None:
            self._code = int(self._server.ask({"wait": self.pid}))
        return Finished(self._code, *((self.folder / name).read_text() for name in ("stdout", "stderr")))

    def kill(self, how: signal.Signals = signal.SIGKILL) -> Finished:
        """Send it a signal and wait for the end of it."""
        os.killpg(self.pid, how)
        return self.wait()

    def go_on(self) -> None:
        """Let it go on from where it stands still."""
        (self.folder / "go_on").touch()

    def wait_for_message(self, text: str) -> None:
        """Wait until it has said so on standard error."""
        wait_until(lambda: text in (self.folder / "stderr").read_text(), text)


@dataclass
class Server:
    """Forks runs. folder: where their outputs and leaderboards lie. modules: more to import, such as for training.

    ports: of this machine that its runs were given.
    """

    folder: Path
    modules: tuple[str, ...] = ()
    _process: "subprocess.Popen[str]" = field(init=False)
    ports: list[socket.socket] = field(default_factory=list)
    _runs: int = 0

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, *self.modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # The tiny model is fastest on one thread, by far where other processes want the cores as well.
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def ask(self, request: dict[str, Any]) -> str:
        """One request, one line of answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def start(
        self,
        *arguments: str,
        program: str = "avar-eval",
        largest_file: int | None = None,
        within: Path | None = None,
        terminal: Path | None = None,
        stands_at: Mapping[str, int] = MappingProxyType({}),
        **environment: str,
    ) -> Running:
        """Start `PROGRAM ARGUMENTS`. largest_file: bytes after which its writes fail, as on a full disk.

        within: its working folder, else one of its own. terminal: gets its standard output instead of a file.
        stands_at: by the end of a journal's path, so many lines after which a process of the run stands still until
        `go_on`. A test that kills a run in its midst needs it: on a fast machine, or where the test itself is kept
        waiting for a core, the run would have ended before.
        """
        self._runs += 1
        folder = self.folder / f"run-{self._runs}"
        folder.mkdir()
        (folder / "stdout").touch()
        request = {
            "program": program,
            "arguments": arguments,
            "folder": str(within or folder),
            "stdout": str(terminal or folder / "stdout"),
            "stderr": str(folder / "stderr"),
            "environment": {"AVAR_LEADERBOARD": str(folder / "leaderboard")} | environment,
            "largest_file": largest_file,
            "stands_at": dict(stands_at),
            "go_on": str(folder / "go_on"),
        }
        return Running(int(self.ask(request)), folder, self)

    def stop(self) -> None:
        """No more runs."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        for port in self.ports:
            port.close()


def start_two(
    server: Server, *arguments: str, stands_at: Mapping[str, int] = MappingProxyType({}), **environment: str
) -> list[Running]:
    """Start the same run as two processes, as a launcher starts them."""
    server.ports.append(held_port())
    port = str(server.ports[-1].getsockname()[1])
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} | environment
    return [server.start(*arguments, stands_at=stands_at, RANK=rank, LOCAL_RANK=rank, **variables) for rank in "01"]


def records_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's record book."""
    return [json.loads(line) for line in (folder / "records.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]


def wait_until(there: Callable[[], bool], what: str, seconds: float = 600) -> None:
    """Wait until something is so. what: said where it is not, after longer than any busy machine takes."""
    end = time.monotonic() + seconds
    while not there():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.005)


def wait_for_records(folder: Path, n: int) -> None:
    """Wait until a run's record book holds n whole lines."""
    wait_for_lines(folder / "records.jsonl", n)


def wait_for_lines(path: Path, n: int) -> None:
    """Wait until a journal holds n whole lines."""
    wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") >= n, f"{n} lines of {path}")


def mathvista_row(pid: str) -> dict[str, Any]:
    """An invented row of the published schema."""
    hint = "Hint: Please answer with an integer, e.g., 1, 2, 3, at the end."
    question = f"How many jars stand on shelf {pid}?"
    return {
        "pid": pid,
        "question": question,
        "image": f"images/{pid}.png",
        "choices": None,
        "unit": None,
        "precision": None,
        "answer": "7",
        "question_type": "free_form",
        "answer_type": "integer",
        "metadata": {"split": "testmini", "task": "visual question answering", "skills": ["arithmetic reasoning"]},
        "query": f"{hint}\nQuestion: {question}",
    }
