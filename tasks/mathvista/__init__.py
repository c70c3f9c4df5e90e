"""MathVista: mathematical reasoning in visual contexts (Lu et al., ICLR 2024, arXiv:2310.02255).

Dataset: AI4Math/MathVista, split testmini, 1,000 rows: 540 multiple choice, 418 integers, 40 floats, 2 lists. A row
(values invented):

    {
        "pid": "1001",
        "question": "How many of the shelves hold more than 3 jars?",
        "image": "images/1001.jpg",         # path; the picture itself is in `decoded_image`
        "decoded_image": <PIL image>,       # hub form only; in a data folder `image` is the picture
        "choices": None,                    # or ["2", "3", "4"]: 2 to 8 options
        "unit": None,                       # "years" (49 rows), "g" (1 row)
        "precision": None,                  # decimals of a float answer: 1.0 or 2.0
        "answer": "2",                      # of a multiple choice row the option's text
        "question_type": "free_form",       # or "multi_choice"
        "answer_type": "integer",           # "float", "list"; "text" for multiple choice
        "metadata": {"split": "testmini", "task": "visual question answering", "skills": ["arithmetic reasoning"], …},
        "query": "Hint: Please answer the question requiring an integer answer and provide the final value, e.g., "
                 "1, 2, 3, at the end.\\nQuestion: How many of the shelves hold more than 3 jars?",
    }

Metric: accuracy over all rows; beside it by task and by skill, of which a row has one or more. Official script:
evaluation/extract_answer.py and calculate_score.py of lupantech/MathVista: a language model extracts the answer, which
is then normalised (official.py); an extraction that is no option becomes the option at the smallest Levenshtein
distance. `official` is that normalisation of what our extraction found (the option or number alone, where the answer
names one; of one short line in which it found nothing, the line); an empty extraction is not credited with the nearest
option. An integer is str(int(float(x))), in the script as in the published verdicts: those of LLaVAR credit "1.5" and
"1.0" for the integer 1 (rows 917 and 770), which str(int(x)) refuses. `strict` never guesses: an answer that is no
option is wrong.

Verified against the published extractions and verdicts of two models (Bard, LLaVAR; 500 rows of testmini each): the
normalisation gives the published verdict on all 1,000: no disagreement is left, whether an extraction is the whole
response or stands in `<answer>` tags. On the raw responses, without a language model, `official` agrees on 914 and
`strict` on 901: a language model finds an answer where our rules find none ("Dark Salmon is greater than Dark Orchid."
is yes), also in responses that do not answer at all.

`strict` gives the published verdict on 986 of the 1,000 extractions in `<answer>` tags. Of the 14 others the official
rule credits 11 that are no option by the nearest text (refusals 740, 653, 834, 657, 863; "N/A" 705; "None" 540; a
letter or number that was not offered 228, 244, 982, 182), one that names two options (547), and 1.5 for the integer 1
(917); and where the options are themselves "(c)", "(d)", "(a)", "(b)" (849) it reads the answer "(b)" as the second
option, ours as the option that says "(b)".
"""
