"""shapes, the embedded benchmark: 500 questions about procedural 4 × 4 scenes, no download, no judge model.

A real item, `test-0-2`:

    [image: colored shapes in a 4 × 4 grid; ticks in a cell's corner count its row and column]
    What shape is the object directly left of the blue circle?
    (A) cross
    (B) square
    (C) triangle
    (D) circle
    First think inside <think> </think> tags, then give the final answer inside <answer> </answer> tags.

    answer: C
    solution: Look at the image again: the blue circle row 3 column 3. Check the image there: at row 3 column 2
    yellow triangle, triangle is (C) triangle.

Metric: accuracy by exact match of the final answer (a letter, a whole number, or one word). Ten kinds, 50 questions
each; steps are facts that have to be read off the image one after the other. Chance is the best constant answer to
the best known question text: answers are sampled before scenes, uniformly.

| kind | asks for | answer | steps | chance |
|---|---|---|---|---|
| count | how many objects of a color or shape | number, 0-5 | 1 | 16.7 % |
| attribute | color or shape at a given place | word | 1 | 20.0 % |
| relation | color or shape directly above, below, left or right of an object | choice of 4 | 2 | 25.0 % |
| comparison | more of one, more of the other, or the same | choice of 3 | 2 | 33.3 % |
| number | the number written at a place | number, 10-99 | 1 | 1.1 % |
| angle | where the hand of the dial points, in degrees | number, 12 angles | 1 | 8.3 % |
| odd_one_out | the color or shape that only one object has | word | 2 | 20.0 % |
| sum | the sum of the two drawn digits | number, 2-18 | 2 | 5.9 % |
| lookup | the number directly beside an object | number, 10-99 | 2 | 1.1 % |
| pointer | color or shape of the object that the dial points to | choice of 4 | 2 | 25.0 % |
| all | | | | 15.6 % |

Blind accuracy (avar-tiny, white images, all 500 test questions, greedy): 5.8 %; the same checkpoint with the images:
93.8 %.

Splits are disjoint by scene by construction: a scene's own hash says to which one it belongs (`dataset.scene_split`).
"""
