"""What tests of the trainers share: a small random Qwen2.5-VL, rows of every shape, and runs of a trainer."""

import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Pictures
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "attention"))

from family_models import FAMILIES, lively_model

from avar_eval.recipes.sft import AvarSFTConfig, AvarSFTTrainer

WORDS = ("What is this?", "one two three", "four\n\nfive", "help me", "this?", "a you are", "What?", "is two")


def processor(family: str = "qwen2_5_vl") -> Any:
    made = FAMILIES[family].processor()
    made.tokenizer.eos_token = "<|im_end|>"
    return made


def model(seed: int = 0, family: str = "qwen2_5_vl") -> Any:
    made = lively_model(FAMILIES[family].config(processor(family).tokenizer), seed)
    # the vision tower is frozen, as is usual: a text-only batch does not reach it
    for parameter in made.model.visual.parameters():
        parameter.requires_grad_(False)
    return made.train()


def picture(seed: int) -> Pictures.Image:
    generator = torch.Generator().manual_seed(seed)
    size = (56 + 28 * (seed % 2), 56)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return Pictures.fromarray(pixels.numpy())


def rows(counts: tuple[int, ...] = (1, 2, 0, 1), responses: tuple[int, ...] = (3, 9, 5, 1)) -> list[dict[str, Any]]:
    """Conversations with so many images and answers of so many words."""
    made = []
    for index, (images, words) in enumerate(zip(counts, responses, strict=True)):
        question = [{"type": "image"}] * images + [{"type": "text", "text": WORDS[index % len(WORDS)]}]
        answer = " ".join(WORDS[(index + word) % len(WORDS)] for word in range(words))
        made.append(
            {
                "images": [picture(7 * index + image) for image in range(images)],
                "prompt": [
                    {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
                    {"role": "user", "content": question},
                ],
                "completion": [{"role": "assistant", "content": [{"type": "text", "text": answer}]}],
            }
        )
    return made


MESSAGES = List({"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})})
FEATURES = Features({"images": List(Image()), "prompt": MESSAGES, "completion": MESSAGES})


def dataset(made: list[dict[str, Any]]) -> Dataset:
    """Rows as `datasets` stores them; content without text gets text None, as in any table."""

    def whole(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [m | {"content": [{"text": None} | part for part in m["content"]]} for m in messages]

    table = [row | {"prompt": whole(row["prompt"]), "completion": whole(row["completion"])} for row in made]
    return Dataset.from_list(table, features=FEATURES)


def sft_config(folder: Path, kind: type[AvarSFTConfig] = AvarSFTConfig, **options: Any) -> AvarSFTConfig:
    """Options of a run on the CPU in float32, without anything that changes between runs."""
    given: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
        "max_steps": 1,
        "max_length": None,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "train_sampling_strategy": "sequential",
        "weight_decay": 0.0,
        "max_grad_norm": 1e9,
    }
    return kind(output_dir=str(folder), **(given | options))


def gradients(of: Any) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in of.named_parameters() if p.grad is not None}


class Keep(AvarSFTTrainer):  # type: ignore[misc]
    """Keeps the gradients of every optimizer step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept: list[dict[str, Tensor]] = []
        from transformers import TrainerCallback

        trainer = self

        class Watch(TrainerCallback):
            def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                trainer.kept.append(gradients(trainer.model))

        self.add_callback(Watch())


def trained(folder: Path, made: list[dict[str, Any]], of: Any = None, **options: Any) -> Keep:
    """A finished run."""
    trainer = Keep(
        model() if of is None else of,
        sft_config(folder, **options),
        train_dataset=dataset(made),
        processing_class=processor(),
    )
    trainer.train()
    return trainer


def close(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> bool:
    """Gradients agree relative to their norm, or to a thousandth of the largest."""
    assert ours.keys() == theirs.keys()
    largest = max(float(gradient.norm()) for gradient in theirs.values())
    assert largest > 1e-3
    return all(
        float((ours[name].double() - of.double()).norm()) <= tolerance * max(float(of.norm()), 1e-3 * largest)
        for name, of in theirs.items()
    )
