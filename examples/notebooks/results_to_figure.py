# %% [markdown]
# # From results to a figure of a paper
# Two runs, their paired difference by kind of question, and a figure at a column's width. Percent format: open it in VS
# Code, PyCharm or Spyder, or `jupytext --to ipynb` it.

# %%
from matplotlib import pyplot as plt

import avar_eval
from avar_eval.figures.style import COLUMN, drawing

plain = avar_eval.evaluate("avar-tiny", "shapes", limit=40)  # or load_results("avar-runs/…")
steered = avar_eval.evaluate("avar-tiny", "shapes", limit=40, steering="image=0.15,system=0.4")

# %% [markdown]
# A row for each response. The same questions stand in both, so they are joined by `row_id`.

# %%
columns = ["row_id", "strict", "vas"]
rows = plain.to_dataframe("rows")[columns].merge(
    steered.to_dataframe("rows")[columns], on="row_id", suffixes=("_plain", "_steered")
)
print(rows[rows.strict_plain != rows.strict_steered])

# %% [markdown]
# Accuracy with its interval comes from results.json, which knows the benchmark's unit: do not compute it from the rows.

# %%
bars = []
for name, results in (("plain", plain), ("steered", steered)):
    found = results.tasks["shapes"].metrics["accuracy"]
    low, high = found.ci95
    bars.append((name, 100 * found.value, 100 * (found.value - low), 100 * (high - found.value)))
    print(f"{name}: {100 * found.value:.1f} % ({100 * low:.1f} to {100 * high:.1f}), n {found.n}")

# %%
with drawing():
    figure, (left, right) = plt.subplots(1, 2, figsize=(COLUMN, 1.8), layout="constrained")
    names, values, below, above = zip(*bars, strict=True)
    left.bar(names, values, yerr=[below, above], color="#88ccee", capsize=2)
    left.set(ylabel="accuracy, %", ylim=(0, 100))
    right.scatter(rows.vas_plain, rows.vas_steered, s=6, color="#332288")
    right.set(xlabel="VAS, plain", ylabel="VAS, steered", yscale="log")
    figure.savefig("steering.pdf")
