"""Ask a model through vLLM: all questions go to one engine, which batches them continuously.

Token ids of prompt and response are kept, so that a teacher-forced pass in transformers can measure where the model
looked (see `avar_eval.attention.measure`), after the engine has given back its memory. The engine runs in processes of
its own: they, and what they hold, are gone after `release()`.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from transformers import AutoConfig

from avar_eval.attention.roles import ChatTemplateError
from avar_eval.attention.steer import check_steering
from avar_eval.attention.steering import Steering
from avar_eval.models.backend import BackendError, Generation, Prompt, Refusal
from avar_eval.models.backend_options import VllmOptions
from avar_eval.models.concurrency import answer_as_they_finish
from avar_eval.models.decoding import Decoding
from avar_eval.models.engine_args import decisive, parsed
from avar_eval.models.transformers_backend import TransformersBackend, end_tokens, published_defaults
from avar_eval.models.vllm_plugin import CONFIG_KEY, STEERED, VllmSteering
from avar_eval.pictures import UNREADABLE, picture_fault
from avar_eval.terminal import note

_NEVER = -100.0
"""The lowest logit bias that vLLM takes: a token with it is drawn with a probability below 1e-40."""
_SECONDS_TO_END = 60.0
"""vLLM kills an engine that takes longer, and does not wait until it is gone."""


class _EngineDiedError(BackendError):
    """The engine's processes have ended while it answered."""


class VllmBackend:
    """A vLLM engine for one checkpoint, started when it is first needed.

    observer: the same checkpoint in transformers. It renders and decodes, so that both backends ask and read alike.
    steering: see `avar_eval.models.vllm_steering`. Raises BackendError where vLLM cannot steer this architecture, and
    UsageError for engine arguments that it does not take.

    Attributes: on_restart, called with what happened when the engine has died and is started again, which is done once.
    """

    name: Literal["vllm"] = "vllm"

    def __init__(
        self, observer: TransformersBackend, options: VllmOptions, steering: VllmSteering | None = None
    ) -> None:
        self.observer = observer
        self.options = options
        self.steering = steering
        self._steered: dict[str, Any] = (
            {} if steering is None else steered_arguments(observer.checkpoint.path, steering)
        )
        self.dtype: str = observer.dtype
        self.on_restart: Callable[[str], None] | None = None
        self._restarted = False
        self._engine_args: dict[str, Any] = {}
        if options.engine_args:
            _import_vllm()
            self._engine_args = parsed(options.engine_args)
        self._engine: Any = None
        self._runner: asyncio.Runner | None = None
        self._ends = end_tokens(observer.terminators(published_defaults(observer.checkpoint)))

    def identity(self) -> dict[str, str]:
        """vLLM's kernels round otherwise than those of transformers do: its responses are its own."""
        own = {"engine_args": of} if (of := decisive(self.options.engine_args)) else {}
        return {"backend": "vllm"} | own | self.observer.identity()

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        """The same prompt as for transformers."""
        return self.observer.render(messages)

    def load(self) -> None:
        """Start the engine, if it is not running. Raises BackendError if vLLM is missing or cannot run the model."""
        if self._engine is not None:
            return
        _import_vllm()
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        arguments = AsyncEngineArgs(
            model=str(self.observer.checkpoint.path),
            dtype=self.dtype,
            tensor_parallel_size=self.options.tensor_parallel,
            data_parallel_size=self.options.data_parallel,
            distributed_executor_backend=self.options.distributed,
            max_model_len=self.options.max_model_len,
            gpu_memory_utilization=self.options.gpu_memory,
            enforce_eager=self.options.eager,
            limit_mm_per_prompt={"video": 0},
            mm_processor_kwargs=self.observer.applied_limits.settings or None,
            generation_config="vllm",  # the checkpoint's own sampling defaults give way to ours
            **self._engine_args,
            **self._steered,
        )

        async def start() -> Any:
            return AsyncLLM.from_engine_args(arguments)

        runner = asyncio.Runner()
        try:
            self._engine = runner.run(start())
        except Exception as error:  # the engine's processes raise anything
            runner.close()
            raise BackendError(f"vLLM cannot run {self.observer.checkpoint.name}: {_error_message(error)}") from error
        self._runner = runner

    def release(self) -> None:
        """Stop the engine: its memory is free for the pass that measures attention."""
        if self._engine is not None and self._runner is not None:
            self._engine.shutdown(timeout=_SECONDS_TO_END)
            self._runner.close()
            self._engine = self._runner = None

    def answer(
        self, prompts: Iterable[Prompt], decoding: Decoding, may_refuse: int = 0
    ) -> Iterator[tuple[int, Generation | Refusal]]:
        """Number and response of each prompt, as they finish.

        Raises BackendError, after all that was under way, if more than `may_refuse` prompts cannot be answered, as
        those that are too long, or the engine fails again after it was started a second time.
        """
        waiting, unanswered = iter(enumerate(prompts)), dict[int, Prompt]()
        try:
            while True:
                order: list[int] = []
                self.load()
                assert self._runner is not None
                answers = answer_as_they_finish(
                    self._runner,
                    _taken(waiting, unanswered, order),
                    lambda number, prompt: self.ask(number, prompt, decoding),
                    self.options.in_flight,
                    may_refuse,
                )
                try:
                    for place, answer in answers:
                        may_refuse -= isinstance(answer, Refusal)
                        del unanswered[order[place]]
                        yield order[place], answer
                    return
                except _EngineDiedError as error:
                    self._start_again(error, len(unanswered))
        except BaseException:
            self.release()  # also when the run is interrupted: no engine must stay behind
            raise

    def _start_again(self, error: _EngineDiedError, lost: int) -> None:
        """Let go of an engine that has died, so that another one is started. Raises the error the second time."""
        if self._restarted:
            raise error
        self._restarted = True
        self.release()
        note(f"warning: {error}; a new engine is started, and asked the {lost} questions that this one had")
        if self.on_restart is not None:
            self.on_restart("vLLM's engine died while it answered, and was started again; what it had was asked again")

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where the engine's requests run; it is not running but within `answer`."""
        assert self._runner is not None
        return self._runner.get_loop()

    async def ask(self, number: int, prompt: Prompt, decoding: Decoding) -> Generation | Refusal:
        """One response, on `loop`. number: tells equal prompts apart. Raises BackendError if the engine fails."""
        tokenizer, markup = self.observer.processor.tokenizer, self.observer.markup
        # Not the text: vLLM would put a second begin-of-sequence token before the template's own.
        token_ids = tokenizer.encode(prompt.prompt, add_special_tokens=markup.needs_beginning(prompt.prompt))
        try:
            if self.steering is not None:
                markup.prompt_roles(token_ids)  # without roles, in the engine it would end all requests
            images = [self.observer.applied_limits.before.resized(image) for image in prompt.images()]
        except (ChatTemplateError, *UNREADABLE) as error:
            return Refusal(f"a question cannot be read: {picture_fault(error)}")
        request: dict[str, Any] = {"prompt_token_ids": token_ids}
        if images:
            request["multi_modal_data"] = {"image": images}
        sampling = self._sampling(prompt, decoding)
        try:
            outputs = [output async for output in self._engine.generate(request, sampling, f"{number}-{prompt.key}")]
        except _request_errors() as error:  # such as a prompt that is too long
            return Refusal(f"vLLM cannot answer a question: {_error_message(error)}")
        except Exception as error:  # of the engine's processes
            kind = _EngineDiedError if self._engine.errored else BackendError
            raise kind(f"vLLM cannot answer a question: {_error_message(error)}") from error
        (output,) = outputs
        response = list(output.outputs[0].token_ids)
        return self.observer.finished(list(output.prompt_token_ids), response, decoding, self._ends)

    def _sampling(self, prompt: Prompt, decoding: Decoding) -> Any:
        """The decoding specification in vLLM's words."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=decoding.temperature,
            **decoding.sampling(),
            max_tokens=decoding.max_new_tokens,
            seed=int(prompt.key[:15], 16),  # the question's own stream, whatever is batched with it
            stop=list(decoding.stop),
            include_stop_str_in_output=True,
            stop_token_ids=sorted(self._ends),
            # a generated placeholder would stand for an image that is not there
            logit_bias=dict.fromkeys(self.observer.markup.placeholders, _NEVER),
            skip_special_tokens=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def _taken(waiting: Iterator[tuple[int, Prompt]], lost: dict[int, Prompt], order: list[int]) -> Iterator[Prompt]:
    """What an engine before this one had and lost, then what waits; `lost` gets what is taken, `order` its numbers."""
    for number, prompt in chain(tuple(lost.items()), waiting):
        lost[number] = prompt
        order.append(number)
        yield prompt


def check_engine_args(given: Sequence[tuple[str, str]]) -> None:
    """Raise BackendError where vLLM is missing, UsageError for an engine argument that it does not take.

    given: names and values.
    """
    _import_vllm()
    parsed(dict(given))


def _import_vllm() -> None:
    """Import vLLM, as quiet as it can be. Raises BackendError where it is missing or broken."""
    # Read when vLLM is imported: its processes' messages belong to standard error, and nobody is told of this run.
    # A process forked from one that has used torch may hang in its first computation: they are started afresh.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        from vllm import AsyncEngineArgs  # noqa: F401
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: F401
    except ImportError as error:
        raise BackendError(
            f"--backend vllm needs vLLM, and it cannot be imported ({error}): pip install 'avar-eval[vllm]'"
        ) from error


def _request_errors() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request at fault itself. Its own class for that, if it has one, is no ValueError."""
    from vllm import exceptions

    return ValueError, getattr(exceptions, "VLLMClientError", ValueError)


def steered_arguments(path: Path, steering: VllmSteering) -> dict[str, Any]:
    """Engine arguments that put the steered class of the checkpoint in that folder in the place of the stock one.

    Raises BackendError for an architecture that cannot be steered, SteerError for layers that it does not have.
    """
    config = AutoConfig.from_pretrained(path)
    if config.model_type not in STEERED:
        raise BackendError(
            f"vLLM can steer {', '.join(STEERED)}, not {config.model_type}: the role of a token travels with the "
            "positions of M-RoPE, which this model lacks. Use --backend transformers"
        )
    check_steering(config.get_text_config(), Steering(layers=steering.layers))
    return {
        "hf_overrides": {"architectures": [STEERED[config.model_type]]},
        "model_impl": "vllm",  # or vLLM would run a class it does not know through transformers, unsteered
        "additional_config": {CONFIG_KEY: steering.model_dump()},
    }


def _error_message(error: BaseException) -> str:
    """The message of an error, or of what caused one without a message."""
    return " ".join(str(error).split())[:300] or (
        _error_message(error.__cause__) if error.__cause__ else type(error).__name__
    )
