"""DynaMath: are answers robust when a question's numbers, colors or shapes change? (Zou et al., ICLR 2025,
arXiv:2411.00836).

Dataset: DynaMath/DynaMath_Sample, ten splits sample_variant1 … sample_variant10 of 501 questions each, 5,010 rows:
2,960 floats, 1,740 multiple choice, 310 texts. No public source names a revision of it, so none is pinned: the manifest
of a fetched folder records the commit that was downloaded and the SHA-256 of rows and pictures, and `avar-eval data
verify` wants 5,010 rows. A row (values invented):

    {
        "id": "901",                            # the question, the same in all splits
        "variant": 3,                           # not on the hub: which of the ten splits
        "question": "How does the curve run? choice: (A) rising (B) falling (C) both",
        "image": "901_v3.png",                  # hub form: a name, and the picture in `decoded_image`
        "ground_truth": "B",                    # "2.571", "(1.000, -2.000)", "Sep", "[0, 3, 5]"
        "answer_type": "multiple choice",       # "float", "text"
        "subject": "analytic geometry",         # one of nine
        "knowledge_level": "high school",       # or "elementary school", "undergraduate"
    }

Metrics: accuracy, the average case, is the mean over all rows; `worst`, the worst case, is the share of questions of
which all ten variants are right, a missing one being not right. The AVAR paper's DynaMath-WORSE is `worst`. Rows are
clustered by question.

Official script: vlmeval/dataset/dynamath.py of open-compass/VLMEvalKit, to which the authors' repository points; see
official.py for its rule and for what stands in for its language model. `strict` allows floats the same absolute 0.001;
options count by letter or text, lists and coordinates item by item, and a month by its name or abbreviation. The
"short answer" of a JSON object, which the direct prompt asks for, is a final answer.

Verified against the published verdicts of Qwen2-7B (no responses are published): average case 42.1, worst case 13.8,
both as published. Every gold answer is right by both rules when it is the short answer of a JSON object, and by the
strict one in `<answer>` tags; the official rule does not know these, and credits no text in them.
"""
