"""`lmms-eval --model avar`: lmms-eval's requests go to a session as questions, and its records come back as texts."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms

from avar_eval.attention.sampling import AttentionSampling
from avar_eval.records.record import Response
from avar_eval.run.asking import Asking, asking_fields
from avar_eval.run.folder import run_folder
from avar_eval.run.model import resolve
from avar_eval.run.protocol import protocol_before
from avar_eval.run.requests import build_questions
from avar_eval.run.session import Session
from avar_eval.tasks.catalog import catalog

_TASK_OPTIONS: Final = (
    *("limit", "data_dir", "allow_outside", "prompt_style", "protocol", "uniform_prompts"),
    *("causal", "causal_samples", "knockout_windows"),
)
"""Fields of `Asking` that lmms-eval's own options decide, or that its results have no place for.

Here they are refused like any unknown option.
"""


class Avar(lmms):  # type: ignore[misc]
    """A session as lmms-eval's chat model, such as `--model_args pretrained=avar-tiny,temperature=0.6,steering=avar`.

    pretrained: registered name, local folder or hub repository, or the name that an endpoint knows. output: folder of
    the record book. asking: how the model is asked, as `Asking.of` takes it, and options of its backend.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str = "avar-tiny",
        output: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | str | None = None,
        **asking: Any,
    ) -> None:
        super().__init__()
        options = {
            name: asking.pop(name) for name in list(asking) if name not in asking_fields() or name in _TASK_OPTIONS
        }
        size = None if batch_size is None else int(batch_size)
        model = resolve(Asking.of(model=pretrained, batch_size=size, backend_options=options, **asking))
        if max_batch_size is not None:
            model = replace(model, batch_size=min(model.batch_size, int(max_batch_size)))
        self.session = Session(model, Path(output) if output else run_folder(model))
        samples = model.asking.attention_samples if self.session.observer else 0
        self.sampling = AttentionSampling(samples, model.decoding.seed)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The responses to all requests, in their order, each with its record; an empty text where one is refused."""
        names = dict.fromkeys(request.args[4] for request in requests)
        asked_by = protocol_before(self.session, [catalog()[name] for name in names if name in catalog()])
        questions = build_questions(requests, self.task_dict, self.sampling)
        responses = self.session.ask(questions, protocol=asked_by)
        return ["" if record is None else Response(record) for record in responses.by_question]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError("avar answers with generated text: choose a task of output_type generate_until")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError("avar answers in one turn: choose a task of output_type generate_until")
