"""What judging one response gives. Plain data, so that records, metrics and rewards share it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["scored", "truncated", "unparsed", "timeout", "judge_error"]

Reason = Literal["statement"]


@dataclass(frozen=True)
class Judgement:
    """One response judged against its row.

    state: `scored` if an answer was found; `truncated` if the response ended before one (an unclosed `<think>`, or
    cut by the token limit); `unparsed` if a finished response holds no answer; `timeout` if comparing took more time or
    memory than allowed; `judge_error` if an external judge failed. Only a `scored` response can be correct.
    extracted: the answer as found in the response, None if none was.
    correct: whether the extracted answer equals the row's.
    grader: name and version of the rule, so that a stored judgement is known to be stale when the rule changes.
    official: the verdict of the benchmark's published rule on the same response; None where it has none (it would
    guess at random, or the benchmark has no rule without a judge model).
    reason: of an unparsed response, why, if there is more to say: `statement` for a yes/no question that is answered by
    a statement. Its answer has to be inferred, which needs a judge.
    """

    state: State
    extracted: str | None
    correct: bool
    grader: str
    official: bool | None = None
    reason: Reason | None = None

    def __post_init__(self) -> None:
        if self.correct and self.state != "scored":
            raise ValueError(f"a response in state {self.state!r} cannot be correct")

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return asdict(self)
