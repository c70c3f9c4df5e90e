"""What would keep runs of a suite from their first answer: looked for before any of them begins, and said at once.

Looked at are the runs that are left. What needs torch, vLLM or Ray is looked at in a process of its own, as runs are.
What only a run itself can find stays that run's failure: torn weights, no room on a GPU, rows and weights of the hub.
"""

import os
import socket
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from avar_eval.cluster.address import ray_address
from avar_eval.endpoint.url import key_for
from avar_eval.errors import AvarError
from avar_eval.extras import check_extras, check_import
from avar_eval.models.backend_options import ApiOptions, TransformersOptions, VllmOptions
from avar_eval.models.checkpoint import ModelSource, locate
from avar_eval.run.asking import Asking, asking_fields
from avar_eval.run.evaluate import check_tasks
from avar_eval.run.model import ResolvedModel, resolve
from avar_eval.suite.process import Failed, run_apart
from avar_eval.suite.read import PlannedRun
from avar_eval.suite.timings import TIMINGS_NAME
from avar_eval.tasks.catalog import find_tasks
from avar_eval.tasks.files import read_rows

_SECONDS_TO_CONNECT: Final = 10.0


class SuiteError(AvarError):
    """Runs of a suite cannot work as they are planned; each fault is a line that begins with the runs that have it.

    What to do: Mend what is listed, and give the same command again; nothing was asked yet.
    """


class _Faults:
    """runs: by what is wrong, those that have it."""

    def __init__(self) -> None:
        self.runs: dict[str, list[str]] = {}
        self._reasons: dict[tuple[Hashable, ...], str | None] = {}

    def look(self, run: str, check: Callable[..., object], *arguments: Hashable) -> bool:
        """Note what a check of a run raises; returns whether it raises nothing.

        With the same arguments a check is made once for all runs.
        """
        key = (check, *arguments)
        if key not in self._reasons:
            try:
                check(*arguments)
            except AvarError as error:
                self._reasons[key] = str(error)
            else:
                self._reasons[key] = None
        if (reason := self._reasons[key]) is not None:
            self.add(reason, [run])
        return reason is None

    def add(self, reason: str, runs: Sequence[str]) -> None:
        """Note that this is wrong with these runs."""
        known = self.runs.setdefault(reason, [])
        known += [run for run in runs if run not in known]


def check_runs(runs: Sequence[PlannedRun], output: Path, parallel: int = 1) -> None:
    """Raise SuiteError, which lists all that is wrong with these runs of a suite in `output`, `parallel` at a time."""
    faults = _Faults()
    for run in runs:
        faults.look(run.name, _check_folder, output / run.name, "move it away, or give the model another `name`")
        faults.look(run.name, _check_file, output / TIMINGS_NAME)
        if parallel > 1 and faults.look(run.name, _check_folder, run.log(output).parent, "move it away"):
            faults.look(run.name, _check_file, run.log(output))
        faults.look(run.name, partial(check_tasks, run.model, run.tasks, run.judge))
        for task in run.tasks:
            faults.look(run.name, _check_rows, task.name, run.model.asking.data_dir)
            if task.extra is not None:
                faults.look(run.name, partial(check_extras, {task.extra: task.name}))
        if (source := run.model.weights) is not None and _is_in_folder(source):
            faults.look(run.name, partial(locate, source))
        for url, flag in _endpoints(run):
            faults.look(run.name, _check_endpoint, url, flag)
        if isinstance(options := run.model.options, ApiOptions):
            faults.look(run.name, key_for, options.url, options.key_env, "--api-key-env")
    if of_machine := [(run.name, run.asked) for run in runs if _has_needs(run.model)]:
        found = run_apart(partial(_machine_faults, of_machine))
        if isinstance(found, Failed):
            faults.add(found.reason, [name for name, _ in of_machine])
        else:
            for reason, names in found.items():
                faults.add(reason, names)
    if faults.runs:
        lines = [f"{', '.join(names)}: {reason}" for reason, names in faults.runs.items()]
        raise SuiteError("\n".join(["no run has begun, as these cannot work:", *lines]))


def _check_folder(folder: Path, remedy: str) -> None:
    """Raise SuiteError for a folder that a run could not write."""
    if os.path.lexists(folder) and not folder.is_dir():
        what = "is a file" if folder.exists() else "is a link to nothing"
        raise SuiteError(f"{folder} {what}, no folder: {remedy}")
    if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
        raise SuiteError(f"cannot write to the output folder {folder}")


def _check_file(path: Path) -> None:
    """Raise SuiteError for a file to which a run could add no lines; on a pipe it would wait for a reader."""
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or a device"
        raise SuiteError(f"{path} is {what}, no file: move it away")
    if path.exists() and not os.access(path, os.W_OK):
        raise SuiteError(f"cannot write to {path}: make it writable, or move it away")


def _check_rows(task: str, data_dir: Path | None) -> None:
    """Raise DataError for rows of a data folder that are missing or damaged; their pictures are not opened."""
    (entry,) = find_tasks([task])
    folder = data_dir or os.environ.get(asking_fields()["data_dir"].option.envvar or "")
    if folder and entry.form == "avar-eval" and entry.embedded is None:
        read_rows(entry, Path(folder))


def _is_in_folder(weights: ModelSource) -> bool:
    """Whether weights lie in a folder of this disk, and are not put together first."""
    return weights.folder is not None and not (weights.entry and weights.entry.assembled)


def _endpoints(run: PlannedRun) -> Iterator[tuple[str, str]]:
    """The endpoints that a run asks, with the option that names each."""
    if isinstance(run.model.options, ApiOptions):
        yield run.model.options.url, "--api-url"
    if run.judge is not None:
        yield run.judge.url, "--judge-url"


def _check_endpoint(url: str, flag: str) -> None:
    """Raise SuiteError where nothing listens at an endpoint's address. Behind a proxy only the proxy could tell."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    if parts.scheme in getproxies() and not proxy_bypass(parts.hostname):
        return
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        socket.create_connection((parts.hostname, port), _SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise SuiteError(f"nothing answers at {url} ({error}): start what serves there, or correct {flag}") from error


def _has_needs(model: ResolvedModel) -> bool:
    """Whether a run asks something of a machine, a package or a cluster that may not be there."""
    options = model.options
    if isinstance(options, ApiOptions):
        return False
    kernel = isinstance(options, TransformersOptions) and options.attn_implementation is not None
    assembled = model.entry is not None and model.entry.assembled
    chosen = model.asking.cluster or model.asking.device
    return bool(chosen or kernel or assembled or model.source.is_adapter or isinstance(options, VllmOptions))


def _machine_faults(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Mapping[str, Sequence[str]]:
    """In a process of its own: by what is missing of this machine, its packages or the cluster, the runs that miss it.

    runs: names, and what is asked.
    """
    from avar_eval.models.open_backend import check_in_vllm
    from avar_eval.models.transformers_backend import Placement
    from avar_eval.models.vllm_backend import check_engine_args

    faults = _Faults()
    for name, asked in runs:
        model = resolve(Asking.of(**asked))
        asking, options = model.asking, model.options
        kernel = options.attn_implementation if isinstance(options, TransformersOptions) else None
        if asking.cluster is None:
            faults.look(name, Placement.of, asking.device, asking.dtype, kernel)
        elif faults.look(name, _check_cluster, asking.cluster) and ray_address(asking.cluster) is not None:
            faults.look(name, partial(_check_place, model))
        if isinstance(options, VllmOptions):
            faults.look(name, check_engine_args, tuple(options.engine_args.items()))
        if model.entry is not None and model.entry.assembled:
            faults.look(name, partial(locate, model.source))
        if model.source.is_adapter and isinstance(options, VllmOptions):
            if faults.look(name, partial(locate, model.source)):
                faults.look(name, check_in_vllm, locate(model.source))
        elif model.source.is_adapter:
            faults.look(name, partial(check_import, "peft", f"the adapter {model.source.name}"))
    return faults.runs


def _check_cluster(cluster: str) -> None:
    """Raise MissingPackagesError without Ray, ClusterError without the cluster; each run starts its own local one."""
    from avar_eval.cluster.ray_workplace import RayCluster

    check_import("ray", "--cluster")
    if ray_address(cluster) is not None:
        RayCluster(cluster)


def _check_place(model: ResolvedModel) -> None:
    """Raise UsageError for what the cluster cannot do, and for a model that has no room on any of its nodes."""
    from avar_eval.cluster.ray_workplace import check_room, join_cluster

    asking = model.asking
    assert asking.cluster is not None
    check_room(join_cluster(asking.cluster, model.backend, asking.device, None), model.options, asking.device)
