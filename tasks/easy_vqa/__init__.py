"""easy_vqa: easy-VQA (Victor Zhou, 2019), 9,673 test questions on 1,000 pictures of one coloured shape each.

Source: the PyPI package `easy-vqa` 1.0 (MIT), https://github.com/vzhou842/easy-VQA, which holds 5,000 pictures of
64 × 64 pixels and 48,248 questions in two splits, train (38,575) and test (9,673): rows and pictures come out of it, so
that no hub is asked. `pip install "avar-eval[easy-vqa]"` installs it.

A real item, `0-0`:

    [image: a red triangle on a pale ground]
    what is the red shape? (circle, rectangle or triangle)
    First think inside <think> </think> tags, then give the final answer inside <answer> </answer> tags.

    answer: triangle

Metric: accuracy over the 13 answers that there are, by exact match; easy-VQA publishes no other (its models are
classifiers over these 13). So that models which write can be asked at all, a question names the answers of its kind.
Rows about one picture are one unit of the intervals: 2 to 20 questions, which a model that misreads the picture gets
wrong together. In results.json, `benchmark` splits accuracy into four kinds of question:

| kind | example | rows | answers | best answer to the wording |
|---|---|---|---|---|
| color | what color is the triangle? | 1,280 | 8 colors | 12.0 % |
| shape | what shape is present? | 1,257 | circle, rectangle, triangle | 34.8 % |
| presence | is there a blue shape? | 3,531 | yes, no | 82.3 % |
| absence | is there not a blue shape? | 3,605 | yes, no | 82.8 % |
| all | | 9,673 | | 67.0 % |

The last column is what a reader of the train split gets who never sees a picture: it gives the most frequent answer to
each wording there (`prior_accuracy`). Three of four questions are yes or no, most about a color that is not there, so
accuracy alone says little here: `visual_gain` beside it, or color and shape, do. `avar-tiny` was never taught these
questions, and answers 0.6 % [0.2 to 1.7] of the first 500 (`avar-eval run --model avar-tiny --tasks easy_vqa --limit
500 --prompt-style direct`).
"""
