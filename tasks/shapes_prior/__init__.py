"""shapes_prior, the embedded benchmark of language priors: 400 questions on the scenes of `shapes`.

In the train split the wording of a question suggests its answer and is right in 85 % of the rows: circles are red, and
"isn't there …?" means yes. In the test split wording and answer are independent, so a model that answers from the
wording stays at chance and only one that looks gets further. That is the design of VQA-CP (Agrawal et al., CVPR 2018),
and the failure that HallusionBench calls language hallusion.

A real item, `test-0-4`, whose wording suggests "green":

    [image: colored shapes in a 4 × 4 grid; ticks in a cell's corner count its row and column]
    What color is the triangle?
    First think inside <think> </think> tags, then give the final answer inside <answer> </answer> tags.

    answer: yellow
    solution: So green? Look at the image again: the triangle: row 1 column 1 -, row 1 column 2 -, row 1 column 3 -,
    row 1 column 4 -, row 2 column 1 -, row 2 column 2 -, row 2 column 3 -, row 2 column 4 triangle. Check the image
    there: at row 2 column 4 yellow triangle.

Metric: accuracy by exact match. In results.json, `benchmark` splits it: `wording_right` over the rows whose wording
suggests the right answer, `wording_wrong` over the others; the gap between the two is what the prior does to a model.

| kind | the wording | suggests | answer | prior and chance, test |
|---|---|---|---|---|
| color | which shape is asked about | its usual color | word of 5 | 20 % |
| shape | which color is asked about | its usual shape | word of 5 | 20 % |
| presence | "Isn't there a …?", "Is there really a …?" | yes, no | yes or no | 50 % |
| relation | "Isn't the … directly above the …?", "Is the … really …?" | yes, no | yes or no | 50 % |
| all | | | | 35 % |

`avar-tiny` does not know these questions (2.2 % of 400; 4.0 % with white images). After `tiny_base_sft`, which trains
on answers alone, it follows the wording; README.md has the numbers of `avar-train ladder`.

Each pair of wording and answer is asked equally often in the test split. Splits are disjoint by scene, also from those
of `shapes`: the same hash decides. The validation split is like the train split.
"""
