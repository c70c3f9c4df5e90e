"""HallusionBench: yes/no questions on figures and on edited ones (Guan et al., CVPR 2024, arXiv:2310.14566).

Dataset: lmms-lab/HallusionBench, split image (951 rows) and non_image (178 rows of category VS asked without a
picture), at revision cd417161 (as two public repositories pin it). A row (values invented):

    {
        "category": "VS",                 # "visual supplement"; VD: "visual dependent", the answer is in the figure
        "subcategory": "chart",
        "visual_input": "1",              # 0: no picture, 1: the original, 2: an edited one
        "set_id": "3", "figure_id": "1",  # VS figure 0: no picture
        "question_id": "0",
        "question": "Is the oak the tallest of the four trees?",
        "gt_answer": "1",                 # yes; "0": no
        "gt_answer_details": "The oak is the tallest of the four trees.",
        "sample_note": "trees",
        "filename": "./VS/chart/3_1.png",
        "image": <PIL image>,             # None without one; in a data folder: path or null
    }

Tasks: `hallusion` (all 1,129 rows, the benchmark's own form) and `hallusion_image` (the 951 that published tables
report, made by VLMEvalKit). The benchmark has no instruction of its own but "Please answer yes or no", which some of
its questions end with; the others get it too.

Metrics: aAcc (rows), fAcc (figures with all questions right), qAcc (questions right on all figures of their set), and
their mean, the score; intervals go by set. Official scripts: utils.py of tianyi-lab/HallusionBench for the three, where
GPT-4 says whether an answer is right; yorn.py of open-compass/VLMEvalKit for answers by rule: see official.py.
Uncertain answers to rows without a picture are right by the official rule.

Verified against the published answers (VLMEvalKit) of VILA-8B on 500 of the 951 rows: the verdicts are the same on all
500, and so are the scores of those rows. Its published scores are shares of the 951 rows, 346 figures and 455 questions
that the keys here count: aAcc 52.26 (497), fAcc 22.25 (77), qAcc 20.66 (94). `strict` agrees on 499: VD_video_1_0_2
begins with "Yes" and holds a "no longer", which is no verdict for the script.
"""
