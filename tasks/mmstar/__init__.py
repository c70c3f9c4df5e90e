"""MMStar: questions that cannot be answered without the image (Chen et al., NeurIPS 2024, arXiv:2403.20330).

Dataset: Lin-Chen/MMStar, split val, 1,500 rows: 250 in each of six categories, drawn from other benchmarks. A row
(values invented):

    {
        "index": 7,
        "question": "Which leaf is larger?\\nOptions: A: The left one., B: The right one., C: nan, D: nan",
        "image": <PIL image>,             # in a data folder: path or null
        "answer": "B",
        "category": "coarse perception",
        "l2_category": "image scene and topic",
        "meta_info": {"source": "MMBench", "split": "val", "image_path": "images/7.jpg"},
    }

The options stand in the question: on one line after "Options:" (1,154 rows, "nan" in the place of a missing one), or
one a line as "(A) …", after "Choices:" (339) or at once (7), there with a hint "…, at the end" before the question. A
question may hold the token "<image 1>" of the benchmark that it comes from; it is shown as published.

Metric: accuracy over all rows, by category, and the mean of the six. Official script:
eval/vlmeval/evaluate/mmstar.py of MMStar-Benchmark/MMStar: the first characters decide, so that "Answer: A" and any
thinking are wrong, and an article "A" is an answer.

Verified against the published hits of VILA-8B on 500 rows (41.67 on all 1,500; 39.80 of these by either count): the
same on 498. Those hits are VLMEvalKit's, which looks for the one letter in a response: row 1441 reasons at length and
ends in "B. …" (a hit there, the first character is T), and row 592 answers "A. D" (no hit there, two letters). No
verdicts of the benchmark's own script are published by row. `strict` agrees on 496: beside row 592, three responses
begin with the letter A and run in a loop without an answer (1008, 1416, 1459).
"""
