"""MathVerse: does a model see the diagram? (Zhang et al., ECCV 2024, arXiv:2403.14624).

Dataset: AI4Math/MathVerse at revision 3bc86196678bad115a923d2851c6821dbe235939: configuration testmini, 3,940 rows, 788
problems in five versions, and configuration testmini_text_only, the same problems without their diagram. Six tasks:

| task | version | in words | in the picture |
|---|---|---|---|
| mathverse_td | Text Dominant | everything | the diagram |
| mathverse_tl | Text Lite | without what the diagram describes anyway | the diagram |
| mathverse_to | Text Only | everything | no picture |
| mathverse_vi | Vision Intensive | also without what it implies | the diagram |
| mathverse_vd | Vision Dominant | also without the essential conditions | the diagram with them |
| mathverse_vo | Vision Only | nothing | diagram, conditions and question |

A row (values invented):

    {
        "sample_index": "9003",
        "problem_index": "1801",              # the six versions of a problem share it
        "problem_version": "Vision Intensive",
        "question": "How wide is the angle at K?\\nChoices:\\nA:35°\\nB:55°",  # "" for Vision Only
        "image": <PIL image>,                 # path in a data folder; "" or null for Text Only
        "answer": "B",                        # "(B)", "12.5", "9 \\\\pi cm", "C\\nE" (both of them), …
        "question_type": "multi-choice",      # or "free-form"
        "metadata": {"split": "testmini", "source": "…", "subject": "Plane Geometry", "subfield": "Angle"},
        "query_wo": "Please directly answer the question and provide …",    # the direct style's prompt
        "query_cot": "Please first conduct reasoning, and then …",
        "question_for_eval": "…",             # the question in words, also where `question` is empty; not in every copy
    }

Metric: accuracy over the rows of a version, by subject and subfield beside it. Official scripts:
evaluation/extract_answer_s1.py and score_answer_s2.py of ZrrSkywalker/MathVerse: a language model extracts the answer
and another call judges it. Without a language model only `--quick_match` is left, equal strings: that is `official`
here, on the answer that our extraction found. It is not what published scores were computed with.

`strict` compares options by letter or text (the letter alone where the options stand in the picture), several letters
in any order, and everything else as expressions.

Verified against nothing: no outputs with verdicts are published. Every gold answer, given in `<answer>` tags, is right
by both rules on all rows at hand (1,514, among them 121 of Vision Only), but for one gold that is the same number on
two lines, which is right when given once.
"""
