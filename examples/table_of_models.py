"""Several models on one benchmark, as a table of score, interval and VAS; run again, it asks nothing twice.

python examples/table_of_models.py avar-tiny avar-tiny:steer=avar avar-tiny:steer=image=0.5
"""

import sys

import avar_eval


def main(models: list[str]) -> None:
    for name in models:
        model, _, steering = name.partition(":steer=")
        results = avar_eval.evaluate(model, "shapes", limit=40, steering=steering or None)
        metrics = results.tasks["shapes"].metrics
        accuracy, vas = metrics["accuracy"], metrics["vas"]
        low, high = accuracy.ci95
        shown = f"accuracy {100 * accuracy.value:5.1f} % ({100 * low:.1f} to {100 * high:.1f}), n {accuracy.n}"
        print(f"{name:45} {shown}, VAS {vas.value:.2f}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["avar-tiny"])
