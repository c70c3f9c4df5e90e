"""Estimates with 95 % intervals: shares, means, ratios; paired differences and their tests; correlation.

Everything here is a pure function of its arguments; what is drawn is drawn from a fixed seed. Units are those of the
input: a proportion is a fraction 0..1, never a percentage. `tests/benchmarks/coverage.py` says how often each interval
covers and each test rejects.
"""

from avar_eval.statistics.correlation import Correlation, Pairs, disattenuated, pearson, spearman
from avar_eval.statistics.estimate import Z_95, Estimate, cluster_codes
from avar_eval.statistics.linear import Linear
from avar_eval.statistics.means import geometric_mean, is_heavy, mean, mean_of_ratios, median, ratio_of_means, top_share
from avar_eval.statistics.paired import (
    PairedTest,
    holm,
    mcnemar,
    paired_test,
    permutation_test,
    simultaneous,
    tango_interval,
)
from avar_eval.statistics.proportions import are_coins, clustered_proportion, pass_at_k, proportion

__all__ = [
    "Z_95",
    "Correlation",
    "Estimate",
    "Linear",
    "PairedTest",
    "Pairs",
    "are_coins",
    "cluster_codes",
    "clustered_proportion",
    "disattenuated",
    "geometric_mean",
    "holm",
    "is_heavy",
    "mcnemar",
    "mean",
    "mean_of_ratios",
    "median",
    "paired_test",
    "pass_at_k",
    "pearson",
    "permutation_test",
    "proportion",
    "ratio_of_means",
    "simultaneous",
    "spearman",
    "tango_interval",
    "top_share",
]
