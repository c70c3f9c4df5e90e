"""`avar-eval suite --slurm`: a file for sbatch that runs a suite on Ray over a job's nodes, and goes on if requeued.

What a job asks of Slurm stands under `slurm` of the suite's file, by the names of sbatch's options; `setup` are lines
of shell that come before all else, such as `module load cuda`.
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from avar_eval.atomic import write_atomically
from avar_eval.errors import UsageError
from avar_eval.suite.keys import asking_keys, words
from avar_eval.suite.read import SLURM_NAME, Suite
from avar_eval.suite.run import check_parallel

_TEMPLATE: Final = Path(__file__).with_name("suite.sbatch.j2")
_DEFAULT: Final[Mapping[str, Any]] = {"nodes": 1, "gpus-per-node": 8, "cpus-per-task": 64, "time": "24:00:00"}
_OURS: Final[Mapping[str, Any]] = {
    "ntasks-per-node": 1,
    "requeue": None,
    "open-mode": "append",
    "signal": "B:USR1@300",  # to this script, five minutes before its time is over
}
_NAME: Final = re.compile(r"[a-z][a-z-]*")
_VALUE: Final = re.compile(r"[\w./:=,@%+\[\]*-]+", re.ASCII)
"""What sbatch reads as one word, whatever shell it is."""


def write_slurm(suite: Suite, output: Path, given: Mapping[str, Any], parallel: int = 1) -> Path:
    """Write the file into the suite's folder. given: options of the command line. parallel: runs at a time.

    Raises UsageError, WriteError.
    """
    check_parallel(suite, parallel, cluster=True)
    text = sbatch_text(suite, output.absolute(), given, Path.cwd(), Path(sys.executable).parent, parallel)
    output.mkdir(parents=True, exist_ok=True)
    path = output / SLURM_NAME
    write_atomically(path, [text])
    return path


def sbatch_text(
    suite: Suite, output: Path, given: Mapping[str, Any], folder: Path, programs: Path, parallel: int = 1
) -> str:
    """The file. folder: from which paths of the suite are. programs: where its Python and Ray are."""
    asked = dict(suite.slurm)
    setup = asked.pop("setup", [])
    lines = [setup] if isinstance(setup, str) else setup
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise UsageError(f"{suite.path}: `setup` under `slurm` is a list of lines of shell")
    options = {"job-name": f"avar-{re.sub(r'[^A-Za-z0-9._-]+', '-', suite.path.stem)}", **_DEFAULT}
    for name, value in asked.items():
        key = str(name).replace("_", "-")
        if key in _OURS:
            raise UsageError(f"{suite.path}: `{key}` under `slurm` is set by the file itself")
        options[key] = _checked(suite.path, key, value)
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["quote"] = lambda text: shlex.quote(str(text))
    flags = [(key, given[name]) for key, name in asking_keys().items() if given.get(name) is not None]
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        options={**options, **_OURS},
        folder=folder,
        programs=programs,
        setup=[line for text in lines for line in text.splitlines()],
        suite=Path(os.path.abspath(suite.path)),
        output=output,
        words=[*_words(flags), *([] if parallel == 1 else ["--parallel", parallel])],
    )


def _words(flags: Sequence[tuple[str, Any]]) -> list[str]:
    return [word for key, value in flags if key != "cluster" for word in words(key, value)]


def _checked(path: Path, name: str, value: Any) -> str | None:
    """A value of an option of sbatch; None for one that takes none. Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{path}: {name!r} under `slurm` is no option of sbatch")
    if value is True:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or not _VALUE.fullmatch(str(value)):
        raise UsageError(
            f"{path}: `{name}` under `slurm` is {value!r}, which is no single word: give it to sbatch itself"
        )
    return str(value)
