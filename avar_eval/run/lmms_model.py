"""`lmms-eval --model avar`: lmms-eval's requests go to a session as questions, and its records come back as texts."""

from pathlib import Path
from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms

from avar_eval.attention.steering import parse_steering
from avar_eval.models.backend_options import BackendName
from avar_eval.models.decoding import decoding_for
from avar_eval.models.registry import find_model
from avar_eval.names import run_name
from avar_eval.records.record import Response
from avar_eval.run.measuring import AttentionSampling
from avar_eval.run.requests import questions_of
from avar_eval.run.session import Session


class Avar(lmms):  # type: ignore[misc]
    """A session as lmms-eval's chat model, such as `--model_args pretrained=avar-tiny,temperature=0.6,steering=avar`.

    pretrained: registered name, local folder or hub repository, or the name that an endpoint knows. output: folder of
    the record book. attention_samples: rows a task whose attention is measured, 0 for none. steering: a preset's name
    or strengths, as `--steer` takes them. The other arguments are those of `decoding_for` and `Session`, and
    backend_options the fields of `ApiOptions` or `VllmOptions`.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str = "avar-tiny",
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | str | None = None,
        system_prompt: str | None = None,
        output: str | None = None,
        attention_samples: int | None = 200,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        repetition_penalty: float | None = None,
        max_new_tokens: int | None = None,
        seed: int = 0,
        samples: int = 1,
        max_batch_size: int | None = None,
        steering: str | None = None,
        backend: BackendName | None = None,
        **backend_options: Any,
    ) -> None:
        super().__init__()
        entry = find_model(pretrained)
        size = int(batch_size or (entry.batch_size if entry else 16))
        self.session = Session(
            pretrained,
            Path(output or f"avar-runs/{run_name(pretrained)}"),
            decoding=decoding_for(
                entry,
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                repetition_penalty=repetition_penalty,
                max_new_tokens=max_new_tokens,
                seed=seed,
                samples=samples,
            ),
            system_prompt=system_prompt,
            steering=None if steering is None else parse_steering(steering),
            batch_size=size if max_batch_size is None else min(size, int(max_batch_size)),
            backend=backend,
            backend_options=backend_options,
            device=device,
            dtype=dtype,
        )
        self.sampling = AttentionSampling(attention_samples, seed)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The responses to all requests, in their order, each with its record; an empty text where one is refused."""
        responses = self.session.ask(questions_of(requests, self.task_dict, self.sampling))
        return ["" if record is None else Response(record) for record in responses.by_question]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError("avar answers with generated text: choose a task of output_type generate_until")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError("avar answers in one turn: choose a task of output_type generate_until")
