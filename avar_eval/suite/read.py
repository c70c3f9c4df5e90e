"""SUITE.yaml: models × tasks (× steerings, × seeds), read into one planned run for each folder of results.

    tasks: [mathvista, mmmu]
    limit: 200                       # options of `avar-eval run`, for every model
    models:
      - avar-thinker
      - model: Qwen/Qwen2.5-VL-7B-Instruct
        backend: vllm                # for this one
        steerings: [none, avar]

Options of a backend that stand at the top are those of the models that run on it: a suite may have several backends.
Everything that can be known to be wrong is said at once, with its line, before anything is asked.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from avar_eval.command_line import command_text
from avar_eval.errors import AvarError, UsageError, unknown_name
from avar_eval.judge.model import JudgeModel
from avar_eval.models.checkpoint import find_source
from avar_eval.models.registry import choose_backend
from avar_eval.names import listed_names
from avar_eval.results.unfinished import RESUME_NAME
from avar_eval.run.asking import Asking
from avar_eval.run.folder import run_folder
from avar_eval.run.model import ResolvedModel, resolve
from avar_eval.suite.keys import OF_MODEL, OF_RUN, OF_SUITE, Options, asking_keys, option_key, option_value
from avar_eval.suite.located import Faults, LocatedYaml, Place
from avar_eval.suite.timings import TIMINGS_NAME
from avar_eval.tasks.catalog import TaskEntry, find_tasks
from avar_eval.tasks.folders import include_folders

SUITE_NAME: Final = "suite.json"
SLURM_NAME: Final = "suite.sbatch"
LOGS_NAME: Final = "logs"
"""Folder for the messages of runs that go side by side."""
_FOLDER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FLAG: Final = re.compile(r"--([a-z][a-z-]*[a-z])")
_LONGEST_NAME: Final = 255 - len(".log")
"""What file systems take."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a suite: what `avar-eval run` would do by `command`, in the folder `name` below the suite's.

    asked: for `Asking.of`. model: what it comes to.
    """

    name: str
    asked: Mapping[str, Any]
    model: ResolvedModel
    tasks: Sequence[TaskEntry]
    judge: JudgeModel | None
    command: str

    def log(self, output: Path) -> Path:
        """Where its messages are, in the suite's folder, while others go beside it."""
        return output / LOGS_NAME / f"{self.name}.log"


@dataclass(frozen=True)
class Suite:
    """runs: in the order of the file. slurm: what its jobs ask of Slurm."""

    path: Path
    runs: Sequence[PlannedRun]
    slurm: Mapping[str, Any]


def read_suite(path: Path, output: Path, given: Mapping[str, Any]) -> Suite:
    """Read a suite whose results go to `output`. given: options of the command line, which go before the file's.

    Raises UsageError for what cannot be read, and, all of it in one message, for unknown keys, models and tasks, for
    values out of range, and for runs that would write into one folder.
    """
    file = LocatedYaml.read(path, "the suite")
    if not isinstance(file.content, dict):
        raise file.error((), "a suite has `models`, a list, and `tasks`; avar-eval suite --help names its guide")
    faults = Faults()
    over = Options({key: given[name] for key, name in asking_keys().items() if given.get(name) is not None})
    common = _options(file, (), OF_SUITE, over, faults)
    models = file.content.get("models")
    if not isinstance(models, list) or not models:
        raise file.error(("models",), "`models` is a list of names, or of mappings with `model` and what is its own")
    runs: list[tuple[Place, PlannedRun]] = []
    for number in range(len(models)):
        place: Place = ("models", number)
        with faults.noted():
            runs += [(place, run) for run in _runs_of(file, place, common, over, output, faults)]
    slurm: Mapping[str, Any] = {}
    with faults.noted():
        slurm = _mapping(file, ("slurm",))
    faults.raise_any()
    _check_names(file, runs, faults)
    faults.raise_any()
    return Suite(path, [run for _, run in runs], slurm)


def _check_names(file: LocatedYaml, runs: Sequence[tuple[Place, PlannedRun]], faults: Faults) -> None:
    """Add to `faults` runs whose folder is another's, or can be none. runs: with the places of their models."""
    places: dict[str, Place] = {}
    for place, run in runs:
        if run.name in (SUITE_NAME, SLURM_NAME, LOGS_NAME, TIMINGS_NAME, RESUME_NAME):
            faults.add(file.error(place, f"{run.name} is a name of the suite's own: give the model another `name`"))
        elif len(run.name) > _LONGEST_NAME:
            faults.add(file.error(place, f"{run.name[:40]}… is too long a name of a folder: give the model a `name`"))
        elif run.name in places:
            line = file.line(places[run.name])
            problem = f"{run.name} is the folder of the model in line {line}, too, which is asked alike"
            faults.add(file.error(place, f"{problem}: give one of them a `name`, or leave it out"))
        places[run.name] = place


def _runs_of(
    file: LocatedYaml, place: Place, common: Options, over: Options, output: Path, faults: Faults
) -> Iterator[PlannedRun]:
    """A model's runs: each steering with each seed. Seeds of greedy decoding draw alike, so only the first is run.

    Raises UsageError for what leaves nothing else to look at; all else that is wrong is added to `faults`.
    """
    entry = file.at(place)
    if not isinstance(entry, str | dict):
        raise file.error(place, f"a model is a name, or a mapping with `model`, not {entry!r}")
    own = {"model": entry} if isinstance(entry, str) else entry
    if (name := own.get("name")) is not None and not (isinstance(name, str) and _FOLDER_NAME.fullmatch(name)):
        faults.add(file.error((*place, "name"), f"a name is made of letters, digits, '.', '_' and '-', not {name!r}"))
        name = None
    mine = {} if isinstance(entry, str) else _options(file, place, OF_MODEL, over, faults).values
    tasks, entries, steerings, seeds = list[str](), list[TaskEntry](), [None], [None]
    with faults.noted():
        tasks, entries = _tasks(file, place, common.over(mine), faults)
    with faults.noted():
        steerings = _axis(file, place, "steerings", "steer", common.over(mine), faults)
    with faults.noted():
        seeds = _axis(file, place, "seeds", "seed", common.over(mine), faults)
    if not isinstance(model_name := own.get("model"), str):
        raise file.error((*place, "model"), "say which model it is: `model: NAME`")
    try:
        chosen_backend = common.over(mine).values.get("backend")
        backend = choose_backend(find_source(model_name, served=chosen_backend == "api").entry, chosen_backend)
    except AvarError as error:
        raise file.error(place, error) from error
    options = common.of_backend(backend).over(mine).over(over.of_backend(backend).values)
    given = {option_key(key) for key in (*file.content, *own)} & {*asking_keys(), *OF_RUN}
    left_out = given - common.over(mine).over(over.values).values.keys()
    judge: JudgeModel | None = None
    with _said_unless_it_follows(file, (place, ()), left_out, faults):
        judge = options.judge()
    for steering in steerings:
        for count, seed in enumerate(seeds):
            chosen = {"steer": steering, "seed": seed}
            with_axes = options.over({key: value for key, value in chosen.items() if value is not None})
            asked = {"model": model_name, **with_axes.asked()}
            with _said_unless_it_follows(file, (place,), left_out, faults):
                model = resolve(Asking.of(**asked, name=name))
                if count and model.decoding.greedy:
                    break
                words = ["--model", model_name, "--tasks", ",".join(tasks), *with_axes.command_words()]
                yield PlannedRun(
                    name=run_folder(model, output, name).name,
                    asked=asked | ({} if name is None else {"name": name}),
                    model=model,
                    tasks=entries,
                    judge=judge,
                    command=command_text(words),
                )


@contextlib.contextmanager
def _said_unless_it_follows(
    file: LocatedYaml, places: Sequence[Place], left_out: Set[str], faults: Faults
) -> Iterator[None]:
    """What this context raises of several options together is noted, and ends it.

    It is said of the first option that it names and that stands at one of these places, else of the first place; and
    not at all where it names an option that was left out as faulty: it would be that fault, told again.
    """
    try:
        yield
    except AvarError as error:
        named = _FLAG.findall(str(error))
        if not left_out & set(named):
            faults.add(file.error(_standing(file, places, named), error))


def _standing(file: LocatedYaml, places: Sequence[Place], keys: Sequence[str]) -> Place:
    """Where the first of these options that is at one of these places stands, else the first place."""
    mappings = [(place, of) for place in places if isinstance(of := file.at(place), dict)]
    stand = [(*place, name) for key in keys for place, of in mappings for name in of if option_key(name) == key]
    return stand[0] if stand else places[0]


def _options(file: LocatedYaml, place: Place, own: Sequence[str], over: Options, faults: Faults) -> Options:
    """The options that a mapping of the file gives, but for faulty ones and for keys that are none nor in `own`.

    Those that the command line has given (`over`) are not looked at.
    """
    found: dict[str, Any] = {}
    for name, value in file.at(place).items():
        key = option_key(name)
        if name in own or key in over.values:
            continue
        if key not in asking_keys() and key not in OF_RUN:
            known = [*own, *asking_keys(), *OF_RUN]
            elsewhere = "at the top, for all models" if name in OF_SUITE else "with a model, under `models`"
            misplaced = f"{name} stands {elsewhere}" if name in (*OF_SUITE, *OF_MODEL) else None
            faults.add(file.error((*place, name), misplaced or unknown_name("key", str(name), known)))
        elif key in found:
            faults.add(file.error((*place, name), f"{key} is given twice"))
        else:
            try:
                found[key] = option_value(key, value)
            except UsageError as error:
                faults.add(file.error((*place, name), error))
    return Options(found)


def _tasks(file: LocatedYaml, place: Place, options: Options, faults: Faults) -> tuple[list[str], list[TaskEntry]]:
    """The names of a model's tasks as they are written, its own or the suite's, and what they are.

    Those that are unknown are left out, and added to `faults`.
    """
    inner = (*place, "tasks") if file.has((*place, "tasks")) else ("tasks",)
    given = file.at(inner) if file.has(inner) else None
    names = listed_names(given) if isinstance(given, str) else given
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise file.error(inner, "`tasks` is a list of names of tasks or groups; `avar-eval tasks` lists them")
    included = options.values.get("include-path", ())
    try:
        include_folders([Path(one).expanduser() for one in ([included] if isinstance(included, str) else included)])
    except AvarError as error:
        raise file.error(_standing(file, (place, ()), ["include-path"]), error) from error
    known: list[str] = []
    for number, name in enumerate(names):
        try:
            find_tasks([name])
        except AvarError as error:
            faults.add(file.error((*inner, number), error))
        else:
            known.append(name)
    return known, find_tasks(known) if known else []


def _axis(file: LocatedYaml, place: Place, axis: str, key: str, options: Options, faults: Faults) -> list[Any]:
    """The values of `steerings` or `seeds`, the model's own or the suite's; one None where there are none.

    Those that are none of the option `key` are left out, and added to `faults`.
    """
    inner = (*place, axis) if file.has((*place, axis)) else (axis,)
    if not file.has(inner):
        return [None]
    values = file.at(inner)
    if not isinstance(values, list) or not values:
        raise file.error(inner, f"`{axis}` is a list")
    if key in options.values:
        raise file.error(inner, f"give either `{key}` or `{axis}`")
    if axis == "steerings":
        unsteered = (None, False, "none", "off")
        values = [None if value in unsteered else value for value in values]
    kind = str if axis == "steerings" else int
    for number, value in enumerate(values):
        if isinstance(value, bool) or not (isinstance(value, kind) or (value is None and axis == "steerings")):
            said = "texts of --steer, or none" if axis == "steerings" else "whole numbers"
            raise file.error((*inner, number), f"`{axis}` are {said}, not {value!r}")
    if len(set(values)) < len(values):
        raise file.error(inner, f"`{axis}` has a value twice")
    known = []
    for number, value in enumerate(values):
        try:
            known.append(None if value is None else option_value(key, value))
        except UsageError as error:
            faults.add(file.error((*inner, number), error))
    return known or [None]


def _mapping(file: LocatedYaml, place: Place) -> Mapping[str, Any]:
    """A mapping of the file, empty where it has none."""
    content = file.at(place) if file.has(place) else {}
    if not isinstance(content, dict):
        raise file.error(place, f"`{place[-1]}` is a mapping")
    return content
