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

| kind | asks for | suggested by | answers of a case |
|---|---|---|---|
| color | color of a thing, alone or beside others | what it is | 11 |
| parts | how many legs, wheels, fingers | what it is | 7, 2 to 8 |
| size | which of two things is drawn bigger | what they are | 2 |
| sequence | the number on the last card | the three before it, which the text names | 9 |
| alphabet | the letter on the last card | the three before it, which the text names | 26 |
| sum | the number after the equals sign | the sum, which the text names | 8 |
| ink | the color of a written word | the word, which names a color | 9 |
| spelling | the first letter of a written word | the word as it should be | 26 |

Pictures have 224 × 224 pixels. Splits are disjoint by picture (its own hash decides) and by wording
(`wordings.WORDINGS`); the training split is endless, half agreeing or as asked for (`dataset.rows`).
"""
