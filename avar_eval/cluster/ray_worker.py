"""What runs in a Ray actor: one copy of the model, which answers, measures and makes causal passes."""

import asyncio
import gc
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from avar_eval.cluster.jobs import Ask, Job, ModelJob
from avar_eval.errors import AvarError, UsageError
from avar_eval.models.backend import BackendError

if TYPE_CHECKING:
    from avar_eval.cluster.ray_workplace import Opening

T = TypeVar("T")

_TOGETHER: Final = 0.005
"""Seconds that a result waits for others, so that a call brings many where they come fast."""


@dataclass(frozen=True)
class Broken:
    """A computation ended as none should, for this reason: the process that it was in is not used any more."""

    reason: str


class RayWorker:
    """opening: what the model is opened by; nothing is, before `start`.

    A model in transformers computes one job after the other in a thread of its own; a vLLM engine has all questions at
    once. Only one of both is in memory: the engine is stopped when a pass comes, and started when a question does.
    """

    def __init__(self, opening: "Opening") -> None:
        self._opening = opening
        self._results: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, initializer=self._set_threads)
        self._tasks: set[asyncio.Task[None]] = set()
        self._backend: Any = None
        self._observer: Any = None
        self._engine: asyncio.AbstractEventLoop | None = None
        self._engine_thread = threading.Thread()
        self._passed = False
        self._changing = asyncio.Lock()

    async def start(self) -> str | AvarError:
        """Load the model; returns where it is, or why it cannot be."""
        try:
            return await self._in_thread(self._load)
        except AvarError as error:
            return _plain(error)

    async def submit(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """Begin these jobs."""
        for number, job in jobs:
            task = asyncio.get_running_loop().create_task(self._compute(number, job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def collect(self) -> list[tuple[int, Any]]:
        """The results that there are, at least one."""
        results = [await self._results.get()]
        await asyncio.sleep(_TOGETHER)
        while not self._results.empty():
            results.append(self._results.get_nowait())
        return results

    async def _compute(self, number: int, job: Job) -> None:
        try:
            result = await (self._ask(number, job) if isinstance(job, Ask) else self._pass(job))
        except AvarError as error:
            result = _plain(error)
        except BaseException as error:  # of the model's libraries and drivers: memory, CUDA, a bug
            result = Broken(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        self._results.put_nowait((number, result))

    async def _ask(self, number: int, job: Ask) -> Any:
        async with self._changing:
            if self._engine is None:
                await self._in_thread(self._start_engine)
        assert self._engine is not None
        asked = asyncio.run_coroutine_threadsafe(self._backend.ask(number, job.prompt, job.decoding), self._engine)
        try:
            return await asyncio.wrap_future(asked)
        except BackendError as error:  # refusals are results: the engine has died
            raise RuntimeError(str(error)) from error

    async def _pass(self, job: Job) -> Any:
        async with self._changing:
            if self._engine is not None:
                await self._in_thread(self._stop_engine)
        self._passed = True
        return await self._in_thread(lambda: cast(ModelJob, job).compute(self._observer))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _set_threads(self) -> None:
        import torch

        torch.set_num_threads(self._opening.threads)

    def _load(self) -> str:
        import ray

        self._open()
        if self._backend is self._observer:
            self._observer.load()
        else:
            self._start_engine()
        context = ray.get_runtime_context()
        gpus = ",".join(context.get_accelerator_ids().get("GPU", []))
        return f"the worker on node {context.get_node_id()[:8]}" + (f", GPU {gpus}" if gpus else "")

    def _open(self) -> None:
        from avar_eval.models.checkpoint import weights_sha256
        from avar_eval.models.open_backend import open_backend

        of = self._opening
        _, self._backend, self._observer = open_backend(
            of.source, of.options, device=of.device, dtype=of.dtype, steering=of.steering, image_limits=of.image_limits
        )
        found = weights_sha256(self._observer.checkpoint)
        if found != of.weights:
            raise BackendError(
                f"the weights of {of.source.name} on a node of the cluster are not those that the driver has: put the "
                "same files on all nodes, or on a file system that they share"
            )

    def _start_engine(self) -> None:
        if self._passed:
            import torch

            self._backend = self._observer = None
            gc.collect()
            torch.cuda.empty_cache()
            self._open()  # without the weights that passes were made with
            self._passed = False
        self._backend.load()
        self._engine = self._backend.loop
        self._engine_thread = threading.Thread(target=self._engine.run_forever, daemon=True)
        self._engine_thread.start()

    def _stop_engine(self) -> None:
        assert self._engine is not None
        self._engine.call_soon_threadsafe(self._engine.stop)
        self._engine_thread.join()
        self._engine = None
        self._backend.release()


def _plain(error: AvarError) -> AvarError:
    """An error that comes through to another process, whatever its class was made with."""
    return UsageError(str(error)) if isinstance(error, UsageError) else BackendError(str(error))
