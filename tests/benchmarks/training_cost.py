"""What AVAR's trainers cost beside TRL's: whole steps of the trainers, from reading a row to the optimizer; a table.

    python tests/benchmarks/training_cost.py sft [--tokens 4096] [--rounds 2]                      2 minutes, two cores
    python tests/benchmarks/training_cost.py grpo [--tokens 4096] [--response 1024] [--rounds 2]   5 minutes

The model is that of attention_workload.py; a row has 20 tokens of system text, an image of a quarter of the tokens, and
a question and a response: 64 tokens and the rest where the question is trained on, the rest and the second half where
the response is. GRPO makes two responses to one prompt, as long as they may be. Ways take turns in one process; ratios
are medians of the turns' ratios. A round of warm-up comes first. Ends with code 1 if a bar is not kept.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from attention_workload import SYSTEM, THREADS, USER, make_model
from datasets import Dataset
from PIL import Image
from transformers import PrinterCallback, Qwen2VLImageProcessor, TrainerCallback

from avar_eval.doctor.timing import ratio
from avar_eval.recipes.grpo import AvarGRPOConfig, AvarGRPOTrainer
from avar_eval.recipes.sft import AvarSFTConfig, AvarSFTTrainer

sys.path.append(str(Path(__file__).parents[1] / "attention"))
from family_models import FAMILIES

MARKUP = 19
"""Tokens of the chat template."""
COMMON: dict[str, Any] = {
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "report_to": [],
    "save_strategy": "no",
    "logging_steps": 1,
    "max_steps": 1,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}


def make_processor(image_tokens: int) -> Any:
    """The tests' processor, with images of so many tokens."""
    processor = FAMILIES["qwen2_5_vl"].processor()
    processor.tokenizer.eos_token = "<|im_end|>"
    processor.tokenizer.padding_side = "left"
    pixels = 784 * image_tokens  # 28 x 28 make one token
    processor.image_processor = Qwen2VLImageProcessor(patch_size=14, min_pixels=784, max_pixels=pixels)
    return processor


def model_for(processor: Any) -> Any:
    """The benchmark's model with this processor's tokens; its vision tower is frozen, as is usual."""
    model = make_model("sdpa")
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    tokens = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    for name, token in zip(names, tokens, strict=True):
        setattr(model.config, name, processor.tokenizer.convert_tokens_to_ids(token))
    model.model.visual.requires_grad_(False)
    return model.train()


def make_row(tokens: int, question: int, response: int, *, with_answer: bool) -> dict[str, Any]:
    """A row of `tokens` tokens, of which a quarter is its image; each digit is one."""
    side = 28 * round((tokens // 4) ** 0.5)
    row: dict[str, Any] = {
        "images": [Image.new("RGB", (side, side), "white")],
        "prompt": [
            {"role": "system", "content": [{"type": "text", "text": "7" * SYSTEM}]},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "7" * question}]},
        ],
    }
    if with_answer:
        return row | {"answer": "7", "answer_type": "integer"}
    return row | {"completion": [{"role": "assistant", "content": [{"type": "text", "text": "7" * response}]}]}


def left(tokens: int, of_turn: int) -> int:
    """Tokens of the other turn."""
    return tokens - tokens // 4 - SYSTEM - of_turn - MARKUP


class Clock(TrainerCallback):  # type: ignore[misc] # transformers is untyped here
    """Times steps, without what a trainer does before the first and after the last."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begun = 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """The rows of the step are about to be read."""
        self._begun = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """The optimizer has made its step."""
        self.seconds.append(time.perf_counter() - self._begun)


def measured(trainers: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step of each trainer, one of each a round, after one round of warm-up."""
    clocks = {name: Clock() for name in trainers}
    for name, trainer in trainers.items():
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(clocks[name])
    for number in range(rounds + 1):
        for trainer in trainers.values():
            trainer.train()
        seconds = ", ".join(f"{name} {clock.seconds[-1]:.1f}" for name, clock in clocks.items())
        print(f"round {number or 'of warm-up'}, seconds: {seconds}", file=sys.stderr, flush=True)
    return {name: clock.seconds[1:] for name, clock in clocks.items()}


def sft(tokens: int, rounds: int, folder: str) -> None:
    """AGTO's step over the plain one, for two sets of queries."""
    processor = make_processor(tokens // 4)
    half = tokens // 2
    short = make_row(tokens, USER, left(tokens, USER), with_answer=False)
    long = make_row(tokens, left(tokens, half), half, with_answer=False)
    plain: dict[str, Any] = {"alpha": 0.0, "beta": 0.0, "normalize_over_step": True}
    ways: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "plain, short question": (short, plain),
        "64 user queries": (short, {"attention_queries": "user"}),
        "plain, long question": (long, plain),
        "second half": (long, {"attention_queries": "response"}),
    }
    trainers = {
        name: AvarSFTTrainer(
            model_for(processor),
            AvarSFTConfig(folder, per_device_train_batch_size=1, max_length=None, **COMMON, **options),
            train_dataset=Dataset.from_list([row] * 2),
            processing_class=processor,
        )
        for name, (row, options) in ways.items()
    }
    bars = {
        "64 user queries": ("plain, short question", 1.05),
        "second half": ("plain, long question", 1.35),
    }
    report("SFT, a row", trainers, rounds, bars)


def grpo(tokens: int, response: int, rounds: int, folder: str) -> None:
    """A step with r_visual over one without: two responses of full length to one prompt."""
    processor = make_processor(tokens // 4)
    data = Dataset.from_list([make_row(tokens, left(tokens, response), response, with_answer=True)] * 2)
    placeholders = processor.tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"])
    kwargs = {"suppress_tokens": placeholders, "min_new_tokens": response}
    trainers = {
        name: AvarGRPOTrainer(
            model_for(processor),
            AvarGRPOConfig(
                folder,
                per_device_train_batch_size=2,
                num_generations=2,
                max_completion_length=response,
                visual_weight=weight,
                generation_kwargs=kwargs,
                **COMMON,
            ),
            train_dataset=data,
            processing_class=processor,
        )
        for name, weight in (("plain", 0.0), ("with r_visual", 0.3))
    }
    report(f"GRPO, two responses of {response} to a prompt", trainers, rounds, {"with r_visual": ("plain", 1.15)})


def report(unit: str, trainers: dict[str, Any], rounds: int, bars: dict[str, tuple[str, float]]) -> None:
    """Measure and print; ends with an error if a bar is not kept. bars: way -> over which other, how much at most."""
    lengths = {len(of["input_ids"][0]) for trainer in trainers.values() for of in [first_batch(trainer)]}
    seconds = measured(trainers, rounds)
    print(f"{unit} of {min(lengths)} tokens, float32, {THREADS} threads, {rounds} rounds\n")
    print("| training step | seconds | time × plain | bar |\n|---|---|---|---|")
    for name in trainers:
        base, bar = bars.get(name, ("", 0.0))
        compared = f"{ratio(seconds, name, base):.3f} | ≤ {bar:.2f}" if base else " | "
        print(f"| {name} | {median(seconds[name]):.2f} | {compared} |")
    missed = [name for name, (base, bar) in bars.items() if ratio(seconds, name, base) > bar]
    if missed:
        sys.exit(f"over the bar: {', '.join(missed)}")


def first_batch(trainer: Any) -> Any:
    """What the trainer reads first, to say how long it is."""
    row = trainer.train_dataset[0]
    return trainer._encoded([row])[0] if isinstance(trainer, AvarGRPOTrainer) else trainer.data_collator([row])


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["sft", "grpo"])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--response", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.kind == "sft":
            sft(arguments.tokens, arguments.rounds, folder)
        else:
            grpo(arguments.tokens, arguments.response, arguments.rounds, folder)
