"""MMMU: college questions of 30 subjects, some with several images (Yue et al., CVPR 2024, arXiv:2311.16502).

Dataset: MMMU/MMMU, split validation, one configuration a subject, 900 rows: 847 multiple choice with 2 to 9 options
(17 rows have images as options), 53 open. A row (values invented):

    {
        "id": "validation_Botany_7",
        "question": "Which leaf belongs to the tree in <image 1>?",   # <image n> is the column image_n
        "options": "['<image 2>', '<image 3>', 'neither']",           # the repr of a list; "[]" of an open question
        "answer": "B",                     # a letter; of an open question its answer, or the repr of a list of them
        "question_type": "multiple-choice",                           # or "open"
        "subfield": "Trees",
        "image_1": <PIL image>, …, "image_7": None,                   # in a data folder: path or null
        "explanation": "", "img_type": "['Photographs']", "topic_difficulty": "Easy",
    }

A picture stands in the prompt where its token stands, as often as it stands there (one row names two pictures five
times), whatever the order of the numbers.

Metric: accuracy over all rows; its interval is stratified by subject. Official script: eval/eval_utils.py (since then
mmmu/utils/eval_utils.py) of MMMU-Benchmark/MMMU; see official.py. Where it draws a letter at random the official
verdict is None.

Ours (strict): options by letter or text, open answers as numbers equal after rounding to two decimals (as published),
as a letter, or as the whole text: "Step B" is not the published gold "B", nor is a sentence that holds the gold word.

Verified against the official script's verdicts on 500 outputs of LLaVA-1.5-13B (36.7 on all 900): the same on all 499
rows on which that script did not guess, and no verdict on the one on which it did. `strict` agrees on 499: the other
is validation_Pharmacy_19, "Step b".
"""
