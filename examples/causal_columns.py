"""Did looking matter? The causal columns of a checkpoint, with and without its images.

python examples/causal_columns.py CHECKPOINT [QUESTIONS]
"""

import sys

import avar_eval

SAYS = {
    "accuracy": "right answers",
    "blind": "right with every image grey",
    "visual_gain": "right because of the image",
    "stubborn": "answers that another row's image leaves as they are",
    "visual_dependence": "how far a grey image changes the words, nats a token",
    "information": "what the image adds to log p(reference), nats",
    "knockout_response": "log p(response) lost where text cannot attend to the image, nats",
}


def main(checkpoint: str, questions: int) -> None:
    results = avar_eval.evaluate(checkpoint, "shapes", limit=questions, causal="full")
    metrics = results.tasks["shapes"].metrics
    for name, says in SAYS.items():
        metric = metrics[name]
        low, high = metric.ci95
        print(f"{name:18} {metric.value:8.3f}  ({low:7.3f} to {high:7.3f}, n {metric.n:3})  {says}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "avar-tiny", int(sys.argv[2]) if len(sys.argv) > 2 else 24)
