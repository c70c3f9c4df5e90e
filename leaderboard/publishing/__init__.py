"""`avar-leaderboard publish`: what the hub is given of models and their runs, written into a folder first.

`bundle` writes it, `card` the model cards, `benchmarks` the hub's own evaluation results, `push` sends it.
"""
