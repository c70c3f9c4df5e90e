"""Find the final answer in a response and decide whether it is right. No torch, no network.

The same code serves evaluation and the RL reward. `judge_answer` is the door; the rest is exported for those who need
a step of it.

Verified against the published verdicts on two runs of R1-style models (`tests/benchmarks/r1_agreement.py` lists every
row that differs): the same on 200 of 200 SuperCLEVR counts and on 480 of 500 GeoQA responses. The 20 others are the
published parser's. It credits the beginning of a gold answer (2 for 2√2, 10 for 10√3, 60 for 60√3+1: six rows), the
last number of a thought that never ends (three) and a part of another answer or of the thought (5 of "5√2", 4.0 of
"4.0 + PE + PF", 27.0 beside the answer 27.1: four). It does not credit "√5", "3\\sqrt{3}", 0.6 for 3/5, 2:3 for 2/3,
1:4 for 1/4, nor 1.2 and 100.0 in `<answer>` after other numbers in the thought (seven).
"""

from avar_eval.answers.extract import Extraction, FinishReason, final_answer
from avar_eval.answers.judgement import Judgement, Reason, State
from avar_eval.answers.verdict import GRADER, Kind, judge_answer

__all__ = [
    "GRADER",
    "Extraction",
    "FinishReason",
    "Judgement",
    "Kind",
    "Reason",
    "State",
    "final_answer",
    "judge_answer",
]
