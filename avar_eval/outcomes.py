"""What is known of one judged response. Plain data, made from records and from responses of elsewhere alike."""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

from avar_eval.answers import FinishReason, State

Verdict = Literal["strict", "official", "judge"]
"""strict: our rule. official: the benchmark's published one. judge: a judge model's."""

MISSING: Final = "missing"


class Judged(Protocol):
    """The fields of a `Judgement` that an outcome keeps."""

    @property
    def state(self) -> State: ...
    @property
    def extracted(self) -> str | None: ...
    @property
    def correct(self) -> bool: ...
    @property
    def official(self) -> bool | None: ...


@dataclass(frozen=True, slots=True)
class JudgeOutcome:
    """What a judge model found: correct is None unless it could tell (`judge_error`)."""

    state: State
    extracted: str | None = None
    correct: bool | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One response's judgements. cut: ended by the token limit. state `missing`: a row without any response.

    official is None where the published rule has no verdict, judge is None without a judge model.
    """

    row_id: str
    sample: int
    state: State | Literal["missing"]
    extracted: str | None
    correct: bool
    official: bool | None = None
    cut: bool = False
    judge: JudgeOutcome | None = None

    @classmethod
    def of(
        cls,
        row_id: str,
        sample: int,
        judgement: "Judged",
        finish_reason: FinishReason | None,
        judge: JudgeOutcome | None = None,
    ) -> "Outcome":
        """From a judgement, as it was made or as a record holds it."""
        return cls(
            row_id=row_id,
            sample=sample,
            state=judgement.state,
            extracted=judgement.extracted,
            correct=judgement.correct,
            official=judgement.official,
            cut=finish_reason == "length",
            judge=judge,
        )

    def verdict(self, name: Verdict) -> bool | None:
        """Whether the response is right by that verdict; None if that is unknown."""
        if name == "strict":
            return self.correct
        if name == "official":
            return self.official
        return None if self.judge is None else self.judge.correct
