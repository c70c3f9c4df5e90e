"""One response and what is known of it, as a line of `records.jsonl` holds it; `book` keeps the file."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from avar_eval.answers import Reason, State
from avar_eval.attention.summary import AttentionSummary
from avar_eval.outcomes import JudgeOutcome, Outcome
from avar_eval.records.causal import CausalRecord


class JudgementRecord(BaseModel):
    """`avar_eval.answers.judgement.Judgement` as it is stored."""

    model_config = ConfigDict(extra="forbid")

    state: State
    extracted: str | None
    correct: bool
    grader: str
    official: bool | None = None
    reason: Reason | None = None


class Usage(BaseModel):
    """Tokens that an API counted for one response, those of its prompt with images included.

    estimated: it did not count, and these are more than there were.
    """

    model_config = ConfigDict(extra="forbid")

    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False


class JudgeRecord(BaseModel):
    """What the judge model `model` found; see `avar_eval.outcomes.JudgeOutcome`."""

    model_config = ConfigDict(extra="forbid")

    model: str
    state: State
    extracted: str | None
    correct: bool | None


class Record(BaseModel):
    """One response and all that is known of it. usage: where an API answered, which tells no token ids.

    changed: what became of parameters of the decoding that the API does not take (name -> how). protocol_id: of the
    `ProtocolLine` by which it was first asked for. reference: the gold answer as the benchmark has it. image_sha256: of
    each picture's mode, size and pixels. causal: what the response owes to its images, where that was measured. These
    four are None in records of before they were written, reference also where a task tells none.
    """

    model_config = ConfigDict(extra="forbid")

    key: str
    task: str
    row_id: str
    sample: int
    prompt: str
    prompt_token_ids: list[int]
    response_token_ids: list[int]
    response: str
    finish_reason: Literal["stop", "length"]
    judgement: JudgementRecord | None = None
    attention: AttentionSummary | None = None
    usage: Usage | None = None
    changed: dict[str, str] | None = None
    judge: JudgeRecord | None = None
    protocol_id: str | None = None
    reference: str | None = None
    image_sha256: list[str] | None = None
    causal: CausalRecord | None = None

    def outcome(self, judge: JudgeOutcome | None = None) -> Outcome:
        """The judgements alone, with those of the run's judge model. Raises ValueError for a record without any."""
        if self.judgement is None:
            raise ValueError(f"record {self.key} is not judged")
        return Outcome.of(self.row_id, self.sample, self.judgement, self.finish_reason, judge)


def record_key(**parts: Any) -> str:
    """SHA-256 (hex) of everything that decides a response: prompt, images, model, decoding, row and sample."""
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class ProtocolLine(BaseModel):
    """How a folder's model was asked, as far as it is known before it is; `protocol_id` names it in records."""

    model_config = ConfigDict(extra="forbid")

    protocol_id: str
    protocol: dict[str, Any]


class NoteLine(BaseModel):
    """What happened while a folder's model was asked that a reader of the results has to know, such as a restart."""

    model_config = ConfigDict(extra="forbid")

    protocol_id: str
    note: str


def protocol_id(protocol: Mapping[str, Any]) -> str:
    """A protocol's name, 16 hex digits: equal protocols have equal names, in every folder."""
    return record_key(**protocol)[:16]


class Response(str):
    """A response's text that carries its record, so that plain lmms-eval tasks can report more than the text.

    lmms-eval strips responses before it judges them, and `str.strip` would drop the record.
    """

    record: Record

    def __new__(cls, record: Record, text: str | None = None) -> "Response":
        response = super().__new__(cls, record.response if text is None else text)
        response.record = record
        return response

    def strip(self, chars: str | None = None, /) -> "Response":
        """The stripped text, with the same record."""
        return Response(self.record, super().strip(chars))
