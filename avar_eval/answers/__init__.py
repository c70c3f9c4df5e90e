"""Find the final answer in a response and decide whether it is right. No torch, no network.

The same code serves evaluation and the RL reward. `judge_answer` is the door; the rest is exported for those who need
a step of it.
"""

from avar_eval.answers.extract import Extraction, FinishReason, final_answer
from avar_eval.answers.judgement import Judgement, State
from avar_eval.answers.verdict import GRADER, Kind, judge_answer

__all__ = ["GRADER", "Extraction", "FinishReason", "Judgement", "Kind", "State", "final_answer", "judge_answer"]
