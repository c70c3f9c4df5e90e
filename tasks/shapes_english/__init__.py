"""shapes_english, shapes_prior_english: the questions of `shapes` and `shapes_prior`, asked in other English words.

For models that know English, as `avar-tiny` does not: the same scenes, options and answers under the same ids, so that
`avar-eval compare` pairs a row with the one that it rewords. Each of the 16 forms of question has seven or eight other
wordings; those of train, validation and test are disjoint, so the test says whether a model understands the question or
knows its form. Solutions are sentences.

A real item of shapes_english, `test-0-2`:

    [image: colored shapes in a 4 × 4 grid; ticks in a cell's corner count its row and column]
    What shape is the object immediately to the left of the blue circle?
    (A) cross
    (B) square
    (C) triangle
    (D) circle
    First think inside <think> </think> tags, then give the final answer inside <answer> </answer> tags.

    answer: C
    solution: Let me look at the picture again: the blue circle is in row 3, column 3. Checking the image there: to the
    left of it, in row 3, column 2, there is a yellow triangle. That is option C, triangle.

Metric: accuracy by exact match, as `shapes`; shapes_prior_english is split by `wording_right` and `wording_wrong`, as
`shapes_prior`, whose negated and doubting wordings stay negated and doubting.
"""
