"""MMMU-Pro: MMMU's questions made harder to guess (Yue et al., ACL 2025, arXiv:2409.02813).

Dataset: MMMU/MMMU_Pro, split test, three configurations of the same 1,730 questions: "standard (4 options)" (2 to 9
of them), "standard (10 options)" (2 to 12) and "vision", where question and options stand in a screenshot or photo.
Pinned at revision 563f3e84, as public evaluations do. Rows (values invented):

    {                                                         # mmmu_pro_standard4, mmmu_pro_standard10
        "id": "test_Botany_7",
        "question": "Which leaf belongs to the tree in <image 1>?",
        "options": "['<image 3>', '<image 2>', 'neither']",    # numbers name columns; they come in any order
        "answer": "B",
        "subject": "Botany", "img_type": "['Photographs']", "topic_difficulty": "Easy",
        "image_1": <PIL image>, …, "image_7": None,            # in a data folder: path or null
    }
    {                                                         # mmmu_pro_vision
        "id": "test_Botany_7", "image": <PIL image>,
        "options": "['<image 3>', '<image 2>', 'neither']", "answer": "B", "subject": "Botany",
    }

Metric: accuracy over all rows; its interval is stratified by subject. The published score of a model is the mean of
standard10 and vision. Official script: mmmu-pro/evaluate.py of MMMU-Benchmark/MMMU; see official.py. Where it draws a
letter at random (unseeded) the official verdict is None.

Verified against
- the published verdicts on 500 outputs of GPT-4o with chain of thought, standard10 (952 of 1,730 right): the same on
  499. The other, validation_Accounting_29, ends in "Answer: C", its gold is C, and the script reads C; the published
  file has A and wrong there.
- the official script's verdicts on 500 outputs of InternVL2-8B, vision (337 of 1,730 right): the same on all 491 rows
  on which that script did not guess, and no verdict on the nine on which it did.

`strict` agrees on 498 and 493. Beside validation_Accounting_29: the script credits the only offered letter in "Answer:
A, E" (test_Physics_16) and in "None of the above" (test_Chemistry_287), a letter anywhere in a response whose boxed
answer is no option (test_Electronics_135) or that runs in a loop without an answer (validation_…_Engineering_13,
test_Architecture_and_Engineering_113) and, of "Answer: b", the letter "A" before (test_Chemistry_216); it guesses on
"(9)45°", which is option I's text (test_Materials_173), and on a loop (test_Finance_250).
"""
