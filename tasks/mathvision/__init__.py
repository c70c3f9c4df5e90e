"""MathVision (MATH-V): mathematics competitions with pictures (Wang et al., NeurIPS 2024, arXiv:2402.14804).

Dataset: MathLLMs/MathVision, split test, 3,040 rows (`mathvision`): 1,532 with five options and 1,508 free-form; split
testmini, 304 of them (`mathvision_testmini`; in a data folder `mathvision/testmini/rows.jsonl`), at revision 2837ddb3
(as four public repositories pin it). A row (values invented):

    {
        "id": "9001",
        "question": "How many of the jars are taller than 5 cm?\\n<image1>",
        "image": "images/9001.jpg",      # path; the picture itself is in `decoded_image`
        "decoded_image": <PIL image>,    # hub form only; in a data folder `image` is the picture
        "options": [],                   # or five; ["A", …, "E"] where they stand in the picture
        "answer": "7",                   # a letter where there are options; else also "2\\\\sqrt{3}", "1:2", "(3,-4)"
        "solution": None,
        "level": 3,                      # 1 to 5
        "subject": "counting",           # one of 16
    }

A row's images are merged into one picture; `<image1>` … name its parts. 384 rows have options A to E only in it.

Metric: accuracy over all rows, by level and by subject. Official script: evaluation/evaluate.py and utils.py of
mathllm/MATH-V (commit 1d361180). It reads the raw response, knows no `<answer>`, compares values after rounding to two
decimals, and runs `eval` on what the model wrote. `official` follows it row by row without that (official.py); `strict`
takes the answer from its tag, box or phrase and compares with the same rounding, but by algebra and without prefixes
(the published parser stops at what it does not understand: "2 triangles" has the value 2).

Verified against the published verdicts on 1,000 responses (Gemini-Pro-CoT and LLaVA-v1.5-13B, 500 rows of test each):
`official` reads the published answer off every response and gives the published verdict on 1,000 of 1,000, so that the
accuracies are equal (16.80 and 9.80 on these rows). Of 3,178 options and answers 3,175 have the value that latex2sympy2
1.9.1 gives, from which the published verdicts come; the others are two equations (`y = 12`), whose value there depends
on the texts before, and a sentence after a number and an apostrophe.
`strict` gives the published verdict on 999: the other response is "(A) triangle", a right letter followed by a word,
which the published rule reads as "atriangle".
"""
