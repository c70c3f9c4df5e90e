"""Which tasks there are, read from the folders' YAML files. Light: imports neither lmms-eval nor datasets.

Those of this package, those of included folders (`avar_eval.tasks.folders`), and those that lmms-eval brings.
"""

import difflib
import importlib
import string
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from avar_eval.answers import GRADER, FinishReason, Judgement
from avar_eval.errors import UsageError, unknown_name
from avar_eval.in_words import fault_in_words, in_words, shown
from avar_eval.tasks.folders import OWN_FOLDER, TaskFolderError, import_task_module, included_folders, task_files
from avar_eval.tasks.groups import groups
from avar_eval.tasks.lmms_eval_names import lmms_eval_files
from avar_eval.user_files import parse_yaml, read_text

TASKS_FOLDER = OWN_FOLDER

Judge = Callable[[Mapping[str, Any], str, FinishReason | None], Judgement]
"""(row, response, finish reason or None) -> judgement"""


class TaskEntry(BaseModel):
    """One task.

    file: its YAML file. folder: the name of the folder with the benchmark's modules. data: its folder in a data folder
    (default: `folder`). configs: the hub dataset's configurations, one after the other; [None] for one without. split:
    one split of the hub, or several ("a+b").
    process_docs: the function in `folder` that gives the hub's rows the form of a data folder. id: names a row, a
    column or a template of columns ("{id}_v{variant}"). images: columns with pictures. where: column values (one, or a
    list of them) that tell the task's rows from others of the same dataset. rows: how many the benchmark's authors
    publish. headline: the metric that is the benchmark's score. missing_is_wrong: the benchmark counts a row without a
    response as not right, where others leave it out. embedded, target: the functions (`module.name` in the folder) that
    make the rows and read a row's answer; target may be a column instead. extra: of avar-eval, whose package holds the
    rows. main: the own metrics that stand below a run's table, where results.json has all ([]: all but parts of parts).
    form: lmms-eval for a task in lmms-eval's own form, whose rows, prompts and metrics are lmms-eval's: a row's id is
    its number, and it is judged strictly only if its folder has a `task.py` with a `judge`.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    file: Path = Field(exclude=True)
    folder: str
    data: str
    dataset: str
    revision: str | None
    configs: list[str | None]
    split: str
    process_docs: str | None
    version: float
    description: str
    id: str
    images: list[str]
    where: dict[str, str | int | list[str]] = {}
    rows: int | None = None
    headline: str = "accuracy"
    missing_is_wrong: bool = False
    embedded: str | None = None
    target: str
    aliases: list[str] = []
    extra: str | None = None
    main: list[str] = []
    form: Literal["avar-eval", "lmms-eval"] = "avar-eval"

    @property
    def id_columns(self) -> list[str]:
        """The columns that make up a row's id."""
        return [name for _, name, _, _ in string.Formatter().parse(self.id) if name] or [self.id]

    def row_id(self, row: Mapping[str, Any]) -> str:
        """What names a row."""
        return self.id.format_map(row) if "{" in self.id else str(row[self.id])

    def selects(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of the dataset belongs to the task."""
        return all(
            row[column] in value if isinstance(value, list) else row[column] == value
            for column, value in self.where.items()
        )


class _TaskLoader(yaml.SafeLoader):
    """Reads a task's YAML without importing the functions that it names."""


class FunctionName(str):
    """What a YAML file has after `!function`: `module.function`."""


def _function_name(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> FunctionName:
    return FunctionName(loader.construct_scalar(node))


_TaskLoader.add_constructor("!function", _function_name)

TEMPLATE: Final = TASKS_FOLDER / "_default_template_yaml"
"""What the YAML files of tasks have in common; without the ending .yaml, by which lmms-eval takes a file for a task."""


def catalog() -> dict[str, TaskEntry]:
    """All tasks by name: this package's, then those of the included folders. Raises TaskFolderError."""
    return _catalog(included_folders())


@cache
def _catalog(included: tuple[Path, ...]) -> dict[str, TaskEntry]:
    entries = {entry.name: entry for path in sorted(TASKS_FOLDER.glob("*/*.yaml")) if (entry := _read(path))}
    for folder in included:
        for path in task_files(folder):
            if found := _read_included(path):
                _check_names(found, entries.values())
                entries[found.name] = found
    return entries


def task_named(name: str) -> TaskEntry:
    """The task of that name, one that lmms-eval brings as well. Raises KeyError for an unknown one."""
    return catalog().get(name) or _lmms_eval_entry(name)


@cache
def _lmms_eval_entry(name: str) -> TaskEntry:
    path = lmms_eval_files()[name]
    return _read_lmms_eval(path, {"task": name} | _config(path))


def is_included(entry: TaskEntry) -> bool:
    """Whether a task comes from a folder that the user has named or installed."""
    return entry.file.parent.parent != TASKS_FOLDER


def _check_names(entry: TaskEntry, known: Iterable[TaskEntry]) -> None:
    """Raise TaskFolderError if a name of a task, or its folder of data, is another's."""
    taken = {name.lower(): other for other in known for name in (other.name, *other.aliases)}
    for name in (entry.name, *entry.aliases):
        if name.lower() in groups():
            raise TaskFolderError(f"{entry.file}: the name {name} is that of a group of avar-eval: choose another")
        if other := taken.get(name.lower()):
            raise TaskFolderError(f"{entry.file}: the name {name} is that of {other.file}: choose another")
    for other in taken.values():
        if other.data == entry.data and other.dataset != entry.dataset:
            raise TaskFolderError(
                f"{entry.file}: its rows would be those of {other.file} in a --data-dir: give `metadata` a `data` of "
                "its own, the name of its folder there"
            )


def _config(path: Path) -> dict[str, Any]:
    """A task's YAML over the one that it includes, if any. Raises TaskFolderError."""
    try:
        config: dict[str, Any] = parse_yaml(read_text(path), _TaskLoader, repeated=True)  # lmms-eval's do
    except (OSError, ValueError) as error:
        raise TaskFolderError(f"{path} cannot be read as YAML: {fault_in_words(error)}") from error
    if not isinstance(config, dict):
        raise TaskFolderError(f"{path} is no task: its YAML holds no fields")
    included = config.pop("include", None) or []
    merged: dict[str, Any] = {}
    for name in reversed(included if isinstance(included, list) else [included]):  # as lmms-eval does
        base = path.parent / str(name)
        if not base.exists() and base.name == TEMPLATE.name:  # a copy of one of our folders, elsewhere
            base = TEMPLATE
        merged |= _config(base)
    return merged | config


def _read_included(path: Path) -> TaskEntry | None:
    """The task of a file of an included folder; None for a YAML file of another kind. Raises TaskFolderError."""
    config = _config(path)
    if not config.keys() & {"task", "dataset_path", "test_split", "doc_to_text"} or isinstance(
        config.get("task"), list
    ):
        return None
    try:
        if not _has_our_form(config):
            return _read_lmms_eval(path, config)
        for name in ("dataset_kwargs", "metadata"):
            if not isinstance(config.get(name) or {}, dict):
                raise TaskFolderError(f"{path}: {name} is {shown(config[name])}, not an object")
        kwargs = config.get("dataset_kwargs") or {}
        if unknown := kwargs.keys() - {"revision", "configs", "embedded"}:
            raise TaskFolderError(f"{path}: dataset_kwargs takes revision, configs or embedded, not {min(unknown)}")
        return _read(path, {"dataset_kwargs": {}} | config)
    except KeyError as error:
        raise TaskFolderError(f"{path}: the field {error.args[0]} is missing") from error
    except ValidationError as error:
        raise TaskFolderError(f"{path}: {in_words(error)}") from error
    except (AttributeError, IndexError, TypeError) as error:
        raise TaskFolderError(
            f"{path}: dataset_kwargs and metadata hold fields by their names, each field once, and metric_list is a "
            "list of metrics"
        ) from error


def _has_our_form(config: Mapping[str, Any]) -> bool:
    """By the fields that only our tasks have."""
    kwargs, metadata = config.get("dataset_kwargs"), config.get("metadata")
    ours = isinstance(metadata, dict) and metadata.keys() & {"id", "images", "description"}
    return "class" in config or bool(ours) or (isinstance(kwargs, dict) and "embedded" in kwargs)


def _read_lmms_eval(path: Path, config: Mapping[str, Any]) -> TaskEntry:
    """A task in lmms-eval's form: lmms-eval reads its file again when it is run."""
    metadata = config.get("metadata") or {}
    version = metadata.get("version") if isinstance(metadata, dict) else metadata[0].get("version")
    metrics = config.get("metric_list") or []
    return TaskEntry(
        name=config["task"],
        file=path,
        folder=path.parent.name,
        data=config["task"],
        dataset=config["dataset_path"],
        revision=(config.get("dataset_kwargs") or {}).get("revision"),
        configs=[config.get("dataset_name")],
        split=config["test_split"] if config.get("test_split") else config["validation_split"],
        process_docs=None,
        version=float(version or 0.0),
        description="in lmms-eval's form, with its metrics",
        id="",
        images=[],
        headline=str(metrics[0]["metric"]) if metrics else "accuracy",
        target="",
        form="lmms-eval",
    )


def _read(path: Path, config: Mapping[str, Any] | None = None) -> TaskEntry:
    config = config or _config(path)
    return TaskEntry(
        name=config["task"],
        file=path,
        folder=path.parent.name,
        dataset=config["dataset_path"],
        revision=config["dataset_kwargs"].get("revision"),
        configs=config["dataset_kwargs"].get("configs", [None]),
        split=config["test_split"],
        process_docs=config.get("process_docs"),
        embedded=config["dataset_kwargs"].get("embedded"),
        target=config["doc_to_target"],
        **{"data": path.parent.name} | config["metadata"],
    )


def find_tasks(names: Iterable[str]) -> list[TaskEntry]:
    """The entries of names of tasks and groups or aliases of tasks, in the order asked for, each once.

    Raises UsageError (none, unknown), TaskFolderError for an included one that lacks a function.
    """
    known = {alias.lower(): [entry.name] for entry in catalog().values() for alias in (entry.name, *entry.aliases)}
    known |= {name: group.task_names() for name, group in groups().items()}
    found: dict[str, TaskEntry] = {}
    for name in names:
        if name.lower() in known:
            found |= {task: catalog()[task] for task in known[name.lower()]}
            continue
        others = {other.lower(): other for other in lmms_eval_files()}
        if name.lower() not in others:
            # of more than a thousand names some resemble any word
            near = difflib.get_close_matches(name, others, cutoff=0.75)
            raise unknown_name("task", name, {*known, *near}, listed_by="avar-eval tasks --all")
        found |= {task: task_named(task) for task in _lmms_eval_tasks(others[name.lower()])}
    if not found:
        raise UsageError("name at least one task; `avar-eval tasks` lists them")
    for entry in found.values():
        if is_included(entry) and entry.form == "avar-eval":
            _check_functions(entry)
    return list(found.values())


def find_avar_tasks(names: Iterable[str]) -> list[TaskEntry]:
    """The same, of tasks in avar-eval's form alone. Raises UsageError for one in lmms-eval's."""
    found = find_tasks(names)
    for entry in found:
        if entry.form == "lmms-eval":
            raise UsageError(f"{entry.name} is in lmms-eval's form: it can be evaluated, and not more than that")
    return found


def _lmms_eval_tasks(name: str) -> list[str]:
    """A task that lmms-eval brings, or the tasks of one of its groups. Raises TaskFolderError."""
    path = lmms_eval_files()[name]
    config = _config(path)
    if config.get("group") != name or not isinstance(config.get("task"), list):
        return [name]
    members = [member for member in config["task"] if isinstance(member, str) and member in lmms_eval_files()]
    if len(members) < len(config["task"]):
        raise TaskFolderError(f"{path}: the group {name} changes its tasks or includes tags: name the tasks one by one")
    return [task for member in members for task in _lmms_eval_tasks(member)]


def _check_functions(entry: TaskEntry) -> None:
    """Import what an included task needs. Raises TaskFolderError for what is not there, before a model is loaded."""
    _with_functions(_config(entry.file), entry.file.parent)
    hooks = import_task_module(entry.file.parent, "task")
    for name in ("doc_to_text", "doc_to_visual", "judge"):
        if not callable(getattr(hooks, name, None)):
            raise TaskFolderError(f"{entry.file.parent / 'task.py'} lacks the function {name}")


def task_hooks(task: str) -> Any:
    """The `task.py` of the folder of a task of the catalog, which says what is special about the benchmark.

    judge(row, response, finish_reason) -> Judgement     strict verdict, and the official rule's
    needed_pictures(row) -> columns                      optional; without: all of the entry's `images`
    cluster(row) -> str                                  optional: rows that are not independent; without: the row's id
    stratum(row) -> str                                  optional: groups of rows all of which are always asked
    question(row) -> str                                 optional: what a row has in common with rows of other tasks
    parts(rows) -> {name: Units or MeanOf}               optional: what the benchmark's own metrics are shares of
    guess_chance(row) -> share or None                   optional: where the official rule has no verdict because it
                                                         guesses, how probably the guess is right

    All but `needed_pictures` get rows without the columns of pictures.

    What is left to chance, and so the unit of all intervals and tests, is what would be drawn anew if the benchmark
    were made again by the same recipe:

    benchmark              unit         why
    MathVista, MathVision  question     written one by one, each with a picture of its own
    MathVerse              question     one version is asked of each problem; means over versions: the problem
    MMMU, MMMU-Pro         question     within its subject: all 30 subjects are always asked (strata); means over both,
                                        or over settings of MMMU-Pro, go by question, which they have in common
    MMStar                 question     the mean of six categories: within its category
    HallusionBench         set          a picture, its edits, and the questions that are asked of all of them
    DynaMath               question     its ten variants are one program with other numbers
    shapes, shapes_prior   question     each has a picture of its own; so in English, and in language_priors
    Several samples of a row go together as one.
    """
    entry = task_named(task)
    if entry.form == "lmms-eval" and (task not in catalog() or not (entry.file.parent / "task.py").is_file()):
        return ModuleType(f"{task}, which says nothing")
    return import_task_module(entry.file.parent, "task")


def is_judged(task: str) -> bool:
    """Whether responses to a task have a strict verdict: those of another project's may have none."""
    return hasattr(task_hooks(task), "judge") if task in catalog() else False


def grader_version(task: str) -> str | None:
    """The version of the rules that judge responses to a task; None for an included one, whose `judge` has none."""
    return None if is_included(task_named(task)) else GRADER


def load_function(entry: TaskEntry, name: str) -> Callable[..., Any]:
    """A function that a task's YAML names as `module.name`. Raises TaskFolderError."""
    return _function(entry.file.parent, name)


def _function(folder: Path, name: str) -> Callable[..., Any]:
    module, _, function = name.rpartition(".")
    in_folder = (folder / f"{module.replace('.', '/')}.py").is_file()
    try:
        found = import_task_module(folder, module) if in_folder else importlib.import_module(module)
    except (ImportError, ValueError) as error:
        raise TaskFolderError(f"{folder}: a task names {name!r}, and {module or 'its module'} is not there") from error
    if not callable(getattr(found, function, None)):
        raise TaskFolderError(f"{folder}: a task names {name!r}, and {found.__file__} lacks {function}")
    named: Callable[..., Any] = getattr(found, function)
    return named


def task_config(entry: TaskEntry) -> dict[str, Any]:
    """A task's YAML as lmms-eval takes it, with the functions that it names. Raises TaskFolderError."""
    config: dict[str, Any] = _with_functions(_config(TEMPLATE) | _config(entry.file), entry.file.parent)
    return config


def _with_functions(value: Any, folder: Path) -> Any:
    if isinstance(value, FunctionName):
        return _function(folder, value)
    if isinstance(value, dict):
        return {name: _with_functions(part, folder) for name, part in value.items()}
    return [_with_functions(part, folder) for part in value] if isinstance(value, list) else value


def question_and_target(task: str, row: Mapping[str, Any]) -> tuple[str, str]:
    """A row's question with its options, as the benchmark words it, and its gold answer."""
    return str(task_hooks(task).doc_to_text(row, {"prompt_style": "direct"})), gold_answer(task, row)


def gold_answer(task: str, row: Mapping[str, Any]) -> str:
    """A row's gold answer, of a task in avar-eval's form."""
    entry = task_named(task)
    return str(load_function(entry, entry.target)(row) if "." in entry.target else row[entry.target])


def get_judge(task: str) -> Judge:
    """How responses to a task of the catalog are judged."""
    judge: Judge = task_hooks(task).judge
    return judge
