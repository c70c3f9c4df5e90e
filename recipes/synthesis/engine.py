"""Requests in, replies out and kept: one journal a stage, so that nothing that has been answered is asked again."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast

from PIL.Image import Image

from avar_eval.folder_lock import FolderLock
from avar_eval.models.api_backend import ApiBackend, ServedModel
from avar_eval.models.backend import BackendError, Generation, Prompt, Refusal, StreamingBackend
from avar_eval.models.backend_options import ApiOptions, VllmOptions
from avar_eval.models.checkpoint import Checkpoint, find_source, weights_sha256
from avar_eval.models.decoding import Decoding
from avar_eval.models.spending import CostLimitError
from avar_eval.pictures import read_rgb
from avar_eval.recipes.synthesis.recipe import StageModel, StageName
from avar_eval.records.journal import Journal, JournalError, typed_lines
from avar_eval.records.record import Usage

_MAY_FAIL: Final = 10
_MAY_FAIL_SHARE: Final = 0.05
"""Of a stage's requests, so many may get no reply before the fault is taken to be the endpoint's."""


@dataclass(frozen=True)
class Reply:
    """One line of a stage's journal.

    response: without what the model thought, which is reasoning_content where the server or the model set it apart.
    prompt_tokens, completion_tokens: as the server counts them (None: it does not), estimated from above where
    `estimated`. dollars: at the price of the recipe. attempts: requests until this reply came. seconds: from the first
    of them on.
    """

    key: str
    row: str
    sample: int
    model: str
    prompt: str
    response: str
    reasoning_content: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int | None
    completion_tokens: int | None
    estimated: bool
    dollars: float
    attempts: int
    seconds: float


class RepliesError(JournalError):
    """A stage's journal cannot be read or written.

    What to do: Mend or delete the line that the message names: deleted replies are asked for again.
    """


_FORM: Final = typed_lines(
    Reply,
    lambda reply: reply.key,
    "a reply",
    "replies",
    "mend or delete that line: its request is then asked again",
    RepliesError,
)


def open_journal(folder: Path, stage: StageName, lock: FolderLock) -> Journal[Reply]:
    """The replies of one stage. A reply outlives a kill as soon as it is appended."""
    return Journal(folder / f"{stage}.jsonl", _FORM, lock=lock, fsync=False)


@dataclass(frozen=True)
class Request:
    """One request to be sent: pictures (files), then a text. digest: of the text's prompt file."""

    key: str
    row: str
    sample: int
    text: str
    digest: str
    pictures: tuple[Path, ...]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """One turn of the user."""
        return [
            {
                "role": "user",
                "content": [*([{"type": "image"}] * len(self.pictures)), {"type": "text", "text": self.text}],
            }
        ]

    def images(self) -> list[Image]:
        """The pictures as every model is given them, read when the request is sent."""
        return [read_rgb(path) for path in self.pictures]


_Answered = tuple[Request, Generation | Refusal, float]
"""A request, what came of it, and after how many seconds."""


class Cluster(NamedTuple):
    """A Ray cluster: `ray`, `auto` or ray://HOST:PORT, and how many copies of a model (None: as many as have room)."""

    address: str
    workers: int | None = None


class Asker:
    """One stage's model, with its journal.

    Its backend is opened when there is something to ask.
    """

    def __init__(self, stage: StageName, model: StageModel, seed: int, journal: Journal[Reply]) -> None:
        self.stage, self.model, self.journal = stage, model, journal
        self.decoding = Decoding(
            temperature=model.temperature, top_p=model.top_p, max_new_tokens=model.max_tokens, seed=seed
        )
        self.failed: dict[str, str] = {}
        """Keys of requests of this run that got no reply, and why."""
        self._identity = json.dumps([stage, model.model, self.decoding.identity()], sort_keys=True)

    def key(self, prompt_digest: str, text: str, pictures: Sequence[str], sample: int) -> str:
        """SHA-256 of all that decides a reply, but for where the model is served. pictures: hashes of their bytes."""
        parts = [self._identity, prompt_digest, text, *pictures, str(sample)]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    def ask(
        self,
        requests: Iterable[Request],
        most: int,
        limit: float | None,
        said: Callable[[], None],
        cluster: Cluster | None = None,
    ) -> None:
        """Ask all requests (`most` of them, at most), `concurrency` at a time, and keep each reply as it arrives.

        limit: dollars that this stage may have cost in all. said: called after each reply. cluster: where a stage runs
        that has no endpoint (None: here). Raises BackendError where the endpoint cannot be used, or more than a few
        requests get no reply, CostLimitError, and what a cluster raises.
        """
        requests = iter(requests)
        first = next(requests, None)
        if first is None:
            return
        may_fail = _MAY_FAIL + int(_MAY_FAIL_SHARE * most)
        everything = chain([first], requests)
        if cluster is not None and self.model.backend == "vllm":
            answers = self._on_cluster(everything, may_fail, cluster)
        else:
            answers = self._here(everything, may_fail, limit)
        try:
            for request, answer, seconds in answers:
                if isinstance(answer, Refusal):
                    self.failed[request.key] = answer.reason
                else:
                    self.journal.append([self._reply(request, answer, seconds)])
                said()
        except CostLimitError as error:
            raise CostLimitError(
                f"the stage {self.stage} stops: {error}".replace("--api-cost-limit", "the recipe's cost_limit")
            ) from error
        except BackendError as error:
            raise BackendError(f"the stage {self.stage} stops: {error}") from error

    def _here(self, requests: Iterable[Request], may_fail: int, limit: float | None) -> Iterator[_Answered]:
        """By an endpoint, or by an engine in this process."""
        backend = self._backend(limit)
        if isinstance(backend, ApiBackend):
            backend.recall(usage for reply in self.journal if (usage := _usage(reply)) is not None)
        under_way: dict[int, tuple[Request, float]] = {}

        def begun() -> Iterator[Prompt]:
            for number, request in enumerate(requests):
                under_way[number] = request, time.monotonic()
                yield _Rendered(request.key, backend.render(request.messages), request.images)

        try:
            backend.load()
            for number, answer in backend.answer(begun(), self.decoding, may_fail):
                request, start = under_way.pop(number)
                yield request, answer, time.monotonic() - start
        finally:
            backend.release()

    def _on_cluster(self, requests: Iterable[Request], may_fail: int, cluster: Cluster) -> Iterator[_Answered]:
        """By engines on a Ray cluster, each request by whichever is free."""
        from avar_eval.cluster.driver import Driver
        from avar_eval.cluster.jobs import Ask, JobLostError, Plan, Steps
        from avar_eval.cluster.ray_workplace import Opening, join_cluster
        from avar_eval.models.open_backend import open_backend

        source, options = find_source(self.model.model), VllmOptions(in_flight=self.model.concurrency)
        joined = join_cluster(cluster.address, "vllm", None, None)
        checkpoint, _, observer = open_backend(source, options, device="cpu", dtype=joined.dtype(None))
        assert isinstance(checkpoint, Checkpoint)
        assert observer is not None
        opening = Opening.of(source, options, None, observer, weights_sha256(checkpoint))

        def asked(request: Request) -> Steps[_Answered]:
            start = time.monotonic()
            prompt = _Rendered(request.key, observer.render(request.messages), request.images)
            try:
                answer: Generation | Refusal = yield Ask(prompt, self.decoding)
            except JobLostError as error:
                answer = Refusal(str(error))
            return request, answer, time.monotonic() - start

        driver = Driver[_Answered](joined.workplace(opening, cluster.workers))
        failed = 0
        try:
            for ended in driver.run([Plan(partial(asked, request), (self.stage,)) for request in requests]):
                for answered in ended:
                    yield answered
                    failed += isinstance(answered[1], Refusal)
                    if failed > may_fail:
                        raise BackendError(f"{failed} requests got no reply; the last one: {answered[1]}")
        finally:
            driver.close()

    def spent(self) -> float:
        """Dollars that all of this stage's replies have cost."""
        return sum(reply.dollars for reply in self.journal)

    def _backend(self, limit: float | None) -> StreamingBackend:
        model = self.model
        if model.backend == "vllm":
            from avar_eval.models.open_backend import open_backend  # torch, which endpoints do not need

            _, backend, _ = open_backend(find_source(model.model), VllmOptions(in_flight=model.concurrency))
            return cast("StreamingBackend", backend)
        assert model.url is not None
        options = ApiOptions(
            url=model.url,
            key_env=model.key_env,
            concurrency=model.concurrency,
            price=model.price,
            cost_limit=limit,
            retries=model.retries,
            timeout=model.timeout,
        )
        return ApiBackend(ServedModel(model.model, model.model, None), options)

    def _reply(self, request: Request, answer: Generation, seconds: float) -> Reply:
        thoughts, response = _thoughts(answer.text)
        usage = answer.usage
        price = self.model.price or (0.0, 0.0)
        dollars = (usage.prompt_tokens * price[0] + usage.completion_tokens * price[1]) / 1e6 if usage else 0.0
        if usage is None and answer.token_ids:
            usage = Usage(prompt_tokens=len(answer.prompt_token_ids), completion_tokens=len(answer.token_ids))
        return Reply(
            key=request.key,
            row=request.row,
            sample=request.sample,
            model=self.model.model,
            prompt=request.digest,
            response=response,
            reasoning_content=thoughts,
            finish_reason=answer.finish_reason,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            estimated=usage.estimated if usage else False,
            dollars=dollars,
            attempts=answer.attempts,
            seconds=round(seconds, 3),
        )


@dataclass(frozen=True)
class _Rendered:
    key: str
    prompt: str
    images: Callable[[], list[Image]]


def _usage(reply: Reply) -> Usage | None:
    if reply.prompt_tokens is None or reply.completion_tokens is None:
        return None
    return Usage(
        prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens, estimated=reply.estimated
    )


def _thoughts(text: str) -> tuple[str, str]:
    """What a model thought before its reply, and the reply; a thought that does not end has none."""
    if not text.lstrip().startswith("<think>"):
        return "", text
    thoughts, _, response = text.lstrip().removeprefix("<think>").rpartition("</think>")
    return (thoughts, response) if thoughts or response else (text.lstrip().removeprefix("<think>"), "")
