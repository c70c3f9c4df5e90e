"""language_priors, the embedded benchmark of what a real language model believes: 480 questions on drawn pictures.

The text of a question alone suggests an answer to who knows English: a banana is yellow, a dog has four legs, 7 comes
after 4, 5, 6. In half of the pictures that is so, in the other half it is not. A model that answers from its language
is right where picture and prior agree and wrong where they disagree; one that looks is right in both.

A real item, `test-0-0`, whose text suggests "green":

    [image: a white pine tree]
    What color is the pine tree in the picture?
    First think inside <think> </think> tags, then give the final answer inside <answer> </answer> tags.

    answer: white
    solution: A pine tree is usually green. Let me look at the picture again: the pine tree is at the lower left of the
    picture. Checking the image there: it is white.

Metric: accuracy by exact match. In results.json, `benchmark` splits it: `agree` over the rows whose picture shows what
the text suggests, `disagree` over the others, and both of each kind (`color_agree`, `color_disagree`, …).

| kind | asks for | suggested by | chance | text alone | calibrated |
|---|---|---|---|---|---|
| color | color of a thing, alone or beside others | what it is | 9 % | 58 [36–77] % | 50 [32–68] % |
| parts | how many legs, wheels, fingers | what it is | 14 % | 78 [38–95] % | 61 [27–87] % |
| size | which of two things is drawn bigger | what they are | 50 % | 100 [86–100] % | 29 [14–51] % |
| sequence | the number on the last card | the three before it | 11 % | 73 [47–89] % | 77 [49–92] % |
| alphabet | the letter on the last card | the three before it | 4 % | 30 [18–46] % | 48 [31–65] % |
| sum | the number after the equals sign | the sum | 12 % | 94 [84–98] % | 94 [84–98] % |
| ink | the color of a written word | the word, a color | 11 % | 28 [8–64] % | 89 [48–99] % |
| spelling | the first letter of a written word | the word as it should be | 4 % | 100 [89–100] % | 100 [89–100] % |

The last two columns are what SmolLM2-135M-Instruct makes of the text without a picture: how often the answer that is
suggested is its first choice among those that the case may have, and the same where what it says to anything is taken
off (`python tests/benchmarks/text_priors.py`; 95 % intervals over cases). Kinds and cases that it has no belief about
were left out: legs of cows, colors of frogs, later letters of words, what is above what, yes-or-no questions.

Pictures have 224 × 224 pixels. Splits are disjoint by picture (its own hash decides) and by wording
(`wordings.WORDINGS`); the training split is endless, half agreeing or as asked for (`dataset.rows`).
"""
