"""VARD: visual-anchored reflection data, made by three models behind OpenAI-compatible endpoints (arXiv 2603.03825).

    avar-train synthesize RECIPE.yaml --output DIR

One row goes this way:

    select    `selection`: a seeded sample of each source, without near-duplicates and without rows of benchmarks;
              questions.jsonl and images/ hold it, so that sources are read once
    describe  `describe`: a model sees the image and the question, not the answer, and writes four headed parts
    reason    `reason`: a model reads that text alone, thinks, marks where it goes back to it ([LOOK: object]), and
              answers; k samples are judged by the grader, one right one is kept, the share of right ones is the
              row's difficulty
    anchor    `anchor`: a model turns the marks into phrases that look at an object of the image, and nothing else
    finish    `finish`: what is left is judged once more, filtered as a training row, and written

`engine` asks: every reply is a line of describe.jsonl, reason.jsonl or anchor.jsonl, under a key of all that decides
it. What a row has become is never stored: `rows` reads the replies and applies the checks, which are pure functions, so
that a changed filter costs nothing and a changed prompt of one stage keeps the replies of those before it.

A kill loses the requests that were under way, at most `concurrency` of them: they are asked again, and no other ever
is. The journals are flushed to the disk when a stage ends; a power cut may take its last seconds.
"""
