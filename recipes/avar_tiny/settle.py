"""Let `avar-tiny` keep some attention on the system turn, as large models do: the second and last part of its training.

    python -m avar_eval.recipes.avar_tiny.settle --checkpoint DIR --output OTHER_DIR

A model of this size learns to put next to nothing on the system turn in some heads, and the Visual Attention Score, a
mean of ratios to it, is then decided by a few queries (5e7 after `train`). Large models keep an attention sink there.
So a few hundred steps on questions go on with a penalty on the square of how many nats the mass lies below a floor:
without the square, the few extreme queries that decide the score are no concern.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any, Final

import torch
import typer
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from avar_eval.attention.observe import Observation, observe
from avar_eval.recipes.avar_tiny.train import (
    SYSTEM_FLOOR,
    Settings,
    balanced,
    batches,
    evaluate_checkpoint,
    learning_rate_at,
    response_losses,
    save,
    shortfalls,
    update,
)

PENALTY_WEIGHT: Final = 0.3
REPORT_STEPS: Final = 50


def squared_shortfall(observation: Observation) -> Tensor:
    """Mean square of the nats by which the mass on the system turn lies below SYSTEM_FLOOR: queries, heads, layers."""
    return shortfalls(observation, SYSTEM_FLOOR).square().mean()


def settle(model: Any, processor: Any, settings: Settings) -> None:
    """The training loop, on questions that `train` has not seen (another seed)."""
    model.model.visual.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    model.train()
    for step, batch in enumerate(batches(processor, settings), start=1):
        optimizer.param_groups[0]["lr"] = learning_rate_at(step - 1, settings)
        with observe(model, batch.roles, groups=["system"]) as observation:
            loss = balanced(response_losses(model, batch), batch)
        penalty = squared_shortfall(observation)
        update(model, optimizer, loss + PENALTY_WEIGHT * penalty)
        if step % REPORT_STEPS == 0:
            print(f"step {step}  loss {loss.item():.4f}  penalty {penalty.item():.4f}", flush=True)


def main(
    checkpoint: Annotated[Path, typer.Option(help="What `train` has written.")],
    output: Annotated[Path, typer.Option(help="Folder for the settled checkpoint.")],
    seed: Annotated[int, typer.Option(help="Seed of the questions.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 250,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Peak learning rate.")] = 7e-4,
) -> None:
    """Settle avar-tiny, save it, and print what the saved checkpoint answers on the test split."""
    started = time.monotonic()
    torch.manual_seed(seed)
    processor = AutoProcessor.from_pretrained(checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    log = json.loads((checkpoint / "training.json").read_text())
    settle(model, processor, Settings(seed, 0, steps, 0, 16, learning_rate, log.get("anchors", True)))
    save(model, processor, output)
    minutes = (time.monotonic() - started) / 60
    scores = evaluate_checkpoint(output)
    for name, score in scores.items():
        print(f"{name} {score}", flush=True)
    log["settled"] = {
        "command": "python -m avar_eval.recipes.avar_tiny.settle --checkpoint DIR --output OTHER_DIR"
        f" --seed {seed} --steps {steps} --learning-rate {learning_rate}",
        "training_minutes": round(minutes, 1),
        "accuracy": {name: {"all": score.accuracy, **score.by_kind} for name, score in scores.items()},
    }
    (output / "training.json").write_text(json.dumps(log, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
