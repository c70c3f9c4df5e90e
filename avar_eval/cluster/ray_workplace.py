"""Workers as Ray's actors, each with one copy of the model: on this machine's GPUs, or on the nodes of a cluster.

Nothing but the cluster is contacted: Ray's usage statistics are off. Its dashboard and its logs stay where Ray has
them, and a note names them. Actors end with the process that started them, however it ends.
"""

import math
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from avar_eval.attention.steering import Steering
from avar_eval.cluster.address import ray_address
from avar_eval.cluster.driver import ClusterError, Done, Event, Lost, Ready
from avar_eval.cluster.jobs import Job
from avar_eval.cluster.ray_worker import Broken, RayWorker
from avar_eval.errors import AvarError, UsageError
from avar_eval.extras import check_import
from avar_eval.models.backend_options import BackendName, BackendOptions, VllmOptions
from avar_eval.models.checkpoint import ModelSource
from avar_eval.models.image_limits import ImageLimits
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.ranks import Ranks
from avar_eval.terminal import note

_CPUS_OF_A_WORKER: Final = 4
"""Where no number of workers is given, and no GPU: one for so many cores of a node, at least one."""
_SECONDS_TO_CONNECT: Final = 10.0
_SENT_TOGETHER: Final = 16
"""Questions of a call: with their pictures they are many megabytes."""


@dataclass(frozen=True)
class Opening:
    """What a worker opens its model by: arguments of `open_backend`, and what the driver found.

    weights: their SHA-256, which a worker's must have. threads: of a worker on CPUs, as the driver's process has them:
    sums in another order round otherwise.
    """

    source: ModelSource
    options: BackendOptions
    device: str | None
    dtype: str
    steering: Steering | None
    image_limits: ImageLimits | None
    weights: str
    threads: int

    @classmethod
    def of(
        cls,
        source: ModelSource,
        options: BackendOptions,
        device: str | None,
        observer: TransformersBackend,
        weights: str,
    ) -> "Opening":
        """As the driver's own observer, which renders prompts and is never loaded. device: of the workers."""
        threads = torch.get_num_threads()
        return cls(source, options, device, observer.dtype, observer.steering, observer.image_limits, weights, threads)


def _gpus_of(options: BackendOptions) -> int:
    if not isinstance(options, VllmOptions):
        return 1
    stages = int(options.engine_args.get("pipeline_parallel_size", 1))
    return options.tensor_parallel * options.data_parallel * stages


class RayCluster:
    """A connection to a Ray cluster, or a cluster of this machine's own, for as long as this process lives.

    cluster: as `check_cluster` has it. Raises MissingPackagesError without Ray, ClusterError where
    there is no such cluster.
    """

    def __init__(self, cluster: str) -> None:
        # Read when Ray is imported and by the processes that it starts.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        address = ray_address(cluster)
        check_import("ray", "--cluster")
        import ray

        _check_reached(cluster, address)
        if ray.is_initialized():
            return
        own: dict[str, Any] = {"include_dashboard": False} if address is None else {}
        try:
            context = ray.init(
                address="local" if address is None else address,
                log_to_driver=False,
                logging_level="ERROR",
                namespace="avar-eval",
                **own,
            )
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            if address == "auto" and isinstance(error, ConnectionError):
                named = os.environ.get("RAY_ADDRESS")
                where = f"answers at {named}, which RAY_ADDRESS names" if named else "is running on this machine"
                raise ClusterError(
                    f"--cluster {cluster}: no Ray cluster {where}: start one with `ray start --head`, or give "
                    "ray://HOST:PORT, the address that it says"
                ) from error
            reason = " ".join(str(error).split())[:300].rstrip(".")
            if address is None:
                raise ClusterError(f"--cluster {cluster}: Ray does not start on this machine: {reason}") from error
            # `ray start` asks for the user's token where there is one, `ray.init` gives it only if it is told to
            token = "; if it was started with a token, set RAY_AUTH_MODE=token" if _has_token() else ""
            raise ClusterError(
                f"--cluster {cluster}: {reason}. Start Ray (`ray start --head`), run this command on one of its nodes, "
                f"and give the address that it says{token}"
            ) from error
        at = context.address_info
        dashboard = f"http://{context.dashboard_url}" if context.dashboard_url else "off"
        nodes = sum(node["Alive"] for node in ray.nodes())
        logs = f"{at['session_dir']}/logs"
        note(f"note: Ray at {at['address']}, nodes: {nodes}; its dashboard: {dashboard}; its logs: {logs}")

    def nodes(self) -> list[dict[str, float]]:
        """The resources of each node, used or not. Raises ClusterError where the cluster's head is gone."""
        import ray

        try:
            return [node["Resources"] for node in ray.nodes() if node["Alive"]]
        except (ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
            raise ClusterError(f"the head of the Ray cluster does not answer: {error}") from error

    def has_gpus(self) -> bool:
        """Whether any node has a GPU."""
        return any(node.get("GPU", 0) for node in self.nodes())

    def dtype(self, device: str | None) -> str:
        """What workers compute in where nothing is said, as `Placement` chooses it on one machine."""
        return "bfloat16" if device != "cpu" and self.has_gpus() else "float32"

    def workplace(self, opening: Opening, number: int | None) -> "RayWorkplace":
        """Where workers with this model are."""
        return RayWorkplace(self, opening, number)


def check_room(cluster: RayCluster, options: BackendOptions, device: str | None) -> int:
    """The GPUs that one copy of a model takes there, 0 on CPUs. Raises UsageError where no node could ever hold one."""
    gpus = 0 if device == "cpu" or not cluster.has_gpus() else _gpus_of(options)
    if gpus and not _spans_nodes(options) and not any(node.get("GPU", 0) >= gpus for node in cluster.nodes()):
        raise UsageError(
            f"a copy of the model takes {gpus} GPUs, and no node of the cluster has so many: take fewer, or spread a "
            "copy over nodes with --distributed ray"
        )
    return gpus


def _spans_nodes(options: BackendOptions) -> bool:
    return isinstance(options, VllmOptions) and options.distributed == "ray"


def join_cluster(cluster: str, backend: BackendName, device: str | None, ranks: Ranks | None) -> RayCluster:
    """The cluster of a session. Raises UsageError for what a cluster cannot do, ClusterError where there is none."""
    if backend == "api":
        raise UsageError("--cluster: an endpoint spreads its work itself, leave it out")
    if ranks is not None and ranks.count > 1:
        raise UsageError("--cluster: Ray starts the workers, so start one process, without a launcher")
    if device not in (None, "cuda", "cpu"):
        raise UsageError(f"--device {device}: Ray says which GPU a worker has; give cuda or cpu, or leave it out")
    return RayCluster(cluster)


def _has_token() -> bool:
    """Whether this user has a token for Ray, as any cluster of one's own leaves one."""
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(named) or (Path.home() / ".ray" / "auth_token").is_file()


def _check_reached(cluster: str, address: str | None) -> None:
    """Raise ClusterError where nothing listens at that address: Ray itself would try for minutes."""
    if address in (None, "auto"):
        return
    host, _, port = str(address).rpartition(":")
    try:
        socket.create_connection((host, int(port)), _SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise ClusterError(
            f"--cluster {cluster}: nothing answers there ({error}). Start Ray (`ray start --head`), run this command "
            "on one of its nodes, and give the address that it says"
        ) from error


class RayWorkplace:
    """Actors of one model. number: how many (None: as many as there are GPUs for, or one for every 4 cores of a node).

    worker: their class. Raises UsageError where no node could ever hold one.
    """

    def __init__(
        self, cluster: RayCluster, opening: Opening, number: int | None, worker: type[RayWorker] = RayWorker
    ) -> None:
        self._cluster, self._opening, self._number, self._worker = cluster, opening, number, worker
        self._gpus = check_room(cluster, opening.options, opening.device)
        self._across = _spans_nodes(opening.options)
        self._groups: list[Any] = []

    def room(self) -> int:
        """How many actors there are to be."""
        if self._number is not None:
            return self._number
        nodes = self._cluster.nodes()
        if not self._gpus:
            return sum(max(1, int(node["CPU"]) // _CPUS_OF_A_WORKER) for node in nodes if node.get("CPU", 0) >= 1)
        if self._across:
            return int(sum(node.get("GPU", 0) for node in nodes)) // self._gpus
        return sum(int(node.get("GPU", 0)) // self._gpus for node in nodes)

    def hire(self, report: Callable[[Event], None]) -> "_Actor":
        """Start an actor; it is Ready when its model is loaded."""
        import ray

        where: dict[str, Any] = {"scheduling_strategy": "SPREAD"}
        if self._across:
            from ray.util.placement_group import placement_group
            from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

            # The engine's own workers take the GPUs: a bundle each, which Ray's executor of vLLM finds.
            group = placement_group([{"CPU": 1, "GPU": 1}] * self._gpus, strategy="PACK")
            self._groups.append(group)
            where = {
                "scheduling_strategy": PlacementGroupSchedulingStrategy(
                    placement_group=group, placement_group_capture_child_tasks=True
                )
            }
        options = {
            "num_cpus": 0 if self._across else self._cpus(),
            "num_gpus": 0 if self._across else self._gpus,
            "max_restarts": 0,
        }
        actor = ray.remote(self._worker).options(**options, **where).remote(self._opening)
        slots = self._opening.options.in_flight if isinstance(self._opening.options, VllmOptions) else 1
        return _Actor(actor, slots, report)

    def _cpus(self) -> float:
        """That each actor takes: one, or a part of one where there are fewer than actors were asked for."""
        cpus = sum(node.get("CPU", 0) for node in self._cluster.nodes())
        return 1.0 if self._number is None or self._number <= cpus else math.floor(100 * cpus / self._number) / 100

    def lacking(self) -> str:
        """What an actor needs."""
        gpus = f" and free GPUs: {self._gpus}" if self._gpus else ""
        return f"a model to be loaded, or for a node with a free CPU{gpus}"

    def close(self) -> None:
        """Give the places of engines over several nodes back."""
        from ray.util.placement_group import remove_placement_group

        for group in self._groups:
            remove_placement_group(group)
        self._groups = []


class _Actor:
    """The driver's end of one actor."""

    def __init__(self, actor: Any, slots: int, report: Callable[[Event], None]) -> None:
        self._actor, self.slots, self._report = actor, slots, report
        self.where = "a worker that was starting"
        self._dismissed = False
        actor.start.remote().future().add_done_callback(self._started)

    def submit(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """Send them, with their pictures."""
        for start in range(0, len(jobs), _SENT_TOGETHER):
            part = jobs[start : start + _SENT_TOGETHER]
            sent = self._actor.submit.remote([(number, job.shipped()) for number, job in part])
            sent.future().add_done_callback(self._result)

    def dismiss(self) -> None:
        """Kill it."""
        import ray

        self._dismissed = True
        ray.kill(self._actor)

    def _started(self, future: Any) -> None:
        found = self._result(future)
        if found is None:
            return
        self.where = found
        self._report(Ready(self))
        self._collect()

    def _collect(self) -> None:
        """Ask for all results that there are, as soon as there is one."""
        self._actor.collect.remote().future().add_done_callback(self._collected)

    def _collected(self, future: Any) -> None:
        results = self._result(future)
        if results is None:
            return
        broken = next((result for _, result in results if isinstance(result, Broken)), None)
        self._report(Done(self, [(number, result) for number, result in results if not isinstance(result, Broken)]))
        if broken is not None:
            self._report(Lost(self, broken.reason))
        elif not self._dismissed:
            self._collect()

    def _result(self, future: Any) -> Any:
        """What a call returned; None where it did not return, and the actor is reported as lost."""
        import ray

        try:
            found = future.result()
        except Exception as error:  # Ray's, of several classes, and what a constructor raises
            reason = " ".join(str(error).split())
            if isinstance(error, ray.exceptions.RayTaskError):
                reason = reason[-300:]
            self._report(Lost(self, f"{type(error).__name__}: {reason[:200]}"))
            return None
        if isinstance(found, AvarError):
            self._report(Lost(self, str(found), found))
            return None
        return found
