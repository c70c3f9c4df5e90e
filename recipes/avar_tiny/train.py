"""Train `avar-tiny` from random weights on the train split of `shapes`.

    python -m avar_eval.recipes.avar_tiny.train --seed 0 --output DIR

The model sees what it will be asked: the processor's own rendering of system turn, image and prompt. The loss is on
the response alone, `<think>solution</think><answer>answer</answer><|im_end|>`. At the end the saved checkpoint is
loaded as any checkpoint is and answers the test split by greedy generation, with the images and with white ones.

Three stages here, and a short last one in `settle`: the vision tower learns to spell what a cell shows (`vision_tower`,
half a minute) and stays as it is from then on; heads that look something up are fitted to it (`lookup_heads`); then the
language model is trained on descriptions of whole scenes, and after that on questions (`lessons`).

What was tried and did not help, on two cores:
- Vision tower and language model together from random weights: 64 % of the test split after 28 minutes. The tower
  alone needs 100 steps when it is told what each cell shows; through the language model it takes a thousand.
- Random queries and keys after that: descriptions stay at what is known without looking (95 nats each) for 300 steps.
  Queries equal to keys (like finds like) and a bias towards the image did no better: a token finds itself.
- Qwen2.5-VL's frequencies replaced by faster ones (base 500, most of them for columns): the same plateau.
- A word in two tokens ("number", "47"; "(C)", "yellow"): the second has to look one token back for what it is about,
  and that alone takes as long as all the rest.
- Queries and keys trained from the first step: noise undoes the fitted heads before anything reads them.
- A running tally that copies the last number; lists of the cells of what is counted: counting stays near chance.
- Learning rate 3e-3, Muon, a batch of 32, bfloat16 autocast (the processor had no AMX), torch.compile (the batches
  differ in length): slower or worse at equal time.
"""

import json
import math
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import torch
import typer
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText, AutoProcessor

from avar_eval.attention.observe import Observation, observe
from avar_eval.attention.roles import ChatMarkup, Role, TokenRoles
from avar_eval.recipes.avar_tiny.lessons import Example, lessons
from avar_eval.recipes.avar_tiny.lookup_heads import fit_lookup_heads
from avar_eval.recipes.avar_tiny.model import build_model, build_processor
from avar_eval.recipes.avar_tiny.tokenizer import train_tokenizer
from avar_eval.recipes.avar_tiny.vision_tower import SpellingLoss, crowded_scene, look_at, scene_words, visual_features
from avar_eval.tasks.shapes.dataset import Row, prompt, rows
from avar_eval.tasks.shapes.scene import blank_image

WARMUP_STEPS: Final = 50
FINAL_RATE: Final = 0.02
GRADIENT_NORM: Final = 1.0
# Attention of a model of this size can leave the system turn next to nothing, and a score that divides by it explodes.
# Large models keep an attention sink there. So every step keeps one random layer's mass there above a floor.
SYSTEM_FLOOR: Final = 0.1
SHORTFALL_WEIGHT: Final = 0.05
# The rows of so many batches are sorted by length before they are cut into batches, which saves a third as padding.
POOL_BATCHES: Final = 16
LATER_DESCRIPTIONS: Final = 0.1
EYE_BATCH: Final = 32
FITTED_SCENES: Final = 64
# So long queries and keys stay as they were fitted: what they find must be of use before it can be improved.
FIXED_LOOKUP_STEPS: Final = 100
EYE_RATE: Final = 2e-3
MAX_NEW_TOKENS: Final = 160
EVALUATION_BATCH: Final = 100
REPORT_STEPS: Final = 100
VALIDATION_STEPS: Final = 800
VALIDATION_ROWS: Final = 100


@dataclass(frozen=True)
class Settings:
    """What a training run depends on. The first `description_steps` of the `steps` train on descriptions.

    anchors: whether solutions have visual anchors, the sentences that look again; without them the model is a base that
    has never seen one.
    """

    seed: int
    eye_steps: int
    steps: int
    description_steps: int
    batch_size: int
    learning_rate: float
    anchors: bool = True

    @property
    def command(self) -> str:
        numbers = {name: value for name, value in asdict(self).items() if name != "anchors"}
        options = [f"--{name.replace('_', '-')} {value}" for name, value in numbers.items()]
        options += [] if self.anchors else ["--no-anchors"]
        return " ".join(["python -m avar_eval.recipes.avar_tiny.train", *options, "--output DIR"])


@dataclass(frozen=True)
class Batch:
    """What the model is given, and which role every token has: the loss counts those of the response."""

    inputs: dict[str, Tensor]
    roles: TokenRoles

    @property
    def is_response(self) -> Bool[Tensor, "batch tokens"]:
        return self.roles.mask(Role.RESPONSE)


@dataclass(frozen=True)
class Score:
    """Free-running accuracy over rows, and by kind of question."""

    accuracy: float
    by_kind: dict[str, float]

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {accuracy:.2f}" for kind, accuracy in self.by_kind.items())
        return f"{self.accuracy:.3f} ({kinds})"


def render(processor: Any, request: str) -> str:
    """The prompt as the chat template renders it, up to the assistant's header."""
    content = [{"type": "image"}, {"type": "text", "text": request}]
    text: str = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return text


@lru_cache(maxsize=1)
def _markup(processor: Any) -> ChatMarkup:
    return ChatMarkup(processor)


def collate(processor: Any, batch: Sequence[Example]) -> Batch:
    """Examples as right-padded tensors."""
    texts = [render(processor, example.request) + example.response for example in batch]
    images = [example.scene.draw() for example in batch]
    inputs = dict(processor(text=texts, images=images, padding=True, padding_side="right", return_tensors="pt"))
    roles = _markup(processor).roles(inputs["input_ids"], inputs["attention_mask"])
    # Padding on the right is never attended to by a causal model; without a mask attention is a fifth faster.
    del inputs["attention_mask"]
    return Batch(inputs, roles)


def batches(processor: Any, settings: Settings) -> Iterator[Batch]:
    """The lessons in batches of similar length."""
    order = random.Random(settings.seed)
    size = settings.batch_size
    described = settings.description_steps * size
    stream = lessons(settings.seed, settings.steps * size, described, LATER_DESCRIPTIONS, anchors=settings.anchors)
    while pool := list(islice(stream, POOL_BATCHES * size)):
        pool.sort(key=lambda example: len(example.request) + len(example.response))
        chunks = [pool[start : start + size] for start in range(0, len(pool), size)]
        order.shuffle(chunks)
        for chunk in chunks:
            yield collate(processor, chunk)


def response_losses(model: Any, batch: Batch) -> Float[Tensor, " tokens"]:
    """Cross-entropy (nats) of every response token of a batch, in order."""
    hidden = model.model(**batch.inputs, use_cache=False).last_hidden_state
    predicts = batch.is_response[:, 1:]
    logits = model.lm_head(hidden[:, :-1][predicts])
    return F.cross_entropy(logits, batch.inputs["input_ids"][:, 1:][predicts], reduction="none")


def balanced(losses: Float[Tensor, " tokens"], batch: Batch) -> Tensor:
    """A mean in which a response of n tokens weighs √n: between a mean over tokens and one over responses.

    A mean over tokens is ruled by the long scans of counting, a mean over responses neglects them.
    """
    length = batch.is_response[:, 1:].sum(dim=1)
    weight = length.rsqrt().repeat_interleave(length)
    return (losses * weight).sum() / weight.sum()


def shortfalls(observation: Observation, floor: float) -> Float[Tensor, "queries layers heads"]:
    """By how many nats each mass on the system turn lies below `floor`, of the user's and the response's tokens."""
    below = (math.log(floor) - (observation.mass("system") + 1e-8).log()).clamp(min=0)
    asked = observation.query_mask(Role.USER) | observation.query_mask(Role.RESPONSE)
    return below.permute(1, 3, 0, 2)[asked]


def learning_rate_at(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine down to a fiftieth of the peak; `step` counts from 0."""
    peak = settings.learning_rate
    if step < WARMUP_STEPS:
        return peak * (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, settings.steps - WARMUP_STEPS)
    return peak * (FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * progress)) / 2)


def final_answer(text: str) -> str | None:
    """What stands in the last answer tags, or None."""
    found = re.findall(r"<answer>(.*?)</answer>", text, flags=re.DOTALL)
    return found[-1].strip() if found else None


@torch.inference_mode()
def generate(model: Any, processor: Any, batch: Sequence[Row], images: Sequence[Image.Image]) -> list[str]:
    """Greedy responses, one a row."""
    inputs = processor(
        text=[render(processor, prompt(row)) for row in batch],
        images=list(images),
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    tokens = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS)
    answers: list[str] = processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def evaluate(model: Any, processor: Any, questions: Sequence[Row], *, blind: bool = False) -> Score:
    """Generate an answer to every question, with a white image where `blind`, and compare it with the right one."""
    model.eval()
    correct: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(questions), EVALUATION_BATCH):
        batch = questions[start : start + EVALUATION_BATCH]
        images = [blank_image() if blind else row["image"] for row in batch]
        for row, text in zip(batch, generate(model, processor, batch, images), strict=True):
            correct[row["kind"]].append(final_answer(text) == row["answer"])
    model.train()
    by_kind = {kind: sum(hits) / len(hits) for kind, hits in correct.items()}
    return Score(sum(map(sum, correct.values())) / len(questions), by_kind)


def train_vision_tower(model: Any, processor: Any, settings: Settings) -> None:
    """Train the vision tower and the embeddings alone: every visual token spells what its cell shows."""
    rng = random.Random(settings.seed)
    spelling = SpellingLoss(processor)
    embeddings = model.get_input_embeddings().weight
    optimizer = torch.optim.AdamW([*model.model.visual.parameters(), embeddings], lr=EYE_RATE, weight_decay=0.01)
    started = time.monotonic()
    for step in range(1, settings.eye_steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = EYE_RATE * min(1.0, step / 50, (settings.eye_steps - step + 1) / 100)
        scenes = [crowded_scene(rng) for _ in range(EYE_BATCH)]
        features = visual_features(model, look_at(processor, [scene.draw() for scene in scenes]))
        words = torch.tensor([words for scene in scenes for words in scene_words(scene)])
        loss = spelling(torch.cat(features.pooler_output), embeddings, words)
        update(model, optimizer, loss)
        if step % REPORT_STEPS == 0:
            print(f"vision tower {step}  loss {loss.item():.4f}  {time.monotonic() - started:.0f} s", flush=True)
    fit_lookup_heads(model, processor, [crowded_scene(rng) for _ in range(FITTED_SCENES)])


def update(model: Any, optimizer: torch.optim.Optimizer, objective: Tensor) -> None:
    """One optimizer step on the objective, its gradient clipped."""
    optimizer.zero_grad()
    objective.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
    optimizer.step()


def _split_parameters(model: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The decoder's query and key projections, and all else that is trained."""
    lookup_parameters: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_lookup = "q_proj" in name or "k_proj" in name
        (lookup_parameters if is_lookup else others).append(parameter)
    return lookup_parameters, others


def train(model: Any, processor: Any, settings: Settings) -> None:
    """The training loop; prints the loss every 100 steps and the validation accuracy every 800."""
    model.model.visual.requires_grad_(False)
    lookup_parameters, others = _split_parameters(model)
    optimizer = torch.optim.AdamW(
        [{"params": lookup_parameters}, {"params": others}],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=True,
    )
    validation = list(rows("validation", VALIDATION_ROWS))
    layers = model.config.text_config.num_hidden_layers
    layer_order = random.Random(settings.seed)
    started = time.monotonic()
    reported: list[float] = []
    model.train()
    for step, batch in enumerate(batches(processor, settings), start=1):
        rate = learning_rate_at(step - 1, settings)
        optimizer.param_groups[0]["lr"] = rate if step > FIXED_LOOKUP_STEPS else 0.0
        optimizer.param_groups[1]["lr"] = rate
        with observe(model, batch.roles, groups=["system"], layers=[layer_order.randrange(layers)]) as observation:
            loss = balanced(response_losses(model, batch), batch)
        update(model, optimizer, loss + SHORTFALL_WEIGHT * shortfalls(observation, SYSTEM_FLOOR).mean())
        reported.append(loss.item())
        if step % REPORT_STEPS == 0:
            mean = sum(reported) / len(reported)
            print(f"step {step}  loss {mean:.4f}  {time.monotonic() - started:.0f} s", flush=True)
            reported.clear()
        if step % VALIDATION_STEPS == 0 and step > settings.description_steps:
            print(f"step {step}  validation {evaluate(model, processor, validation)}", flush=True)


def save(model: Any, processor: Any, output: Path) -> None:
    """Write the checkpoint: weights in bfloat16, configuration, generation defaults, processor, chat template."""
    model.to(torch.bfloat16).save_pretrained(output)
    processor.save_pretrained(output)


def evaluate_checkpoint(path: Path) -> dict[str, Score]:
    """Accuracy on the test split of a checkpoint on disk, loaded in float32: with the images, and blind."""
    processor = AutoProcessor.from_pretrained(path)
    model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32)
    questions = list(rows("test"))
    return {
        "test": evaluate(model, processor, questions),
        "test_blind": evaluate(model, processor, questions, blind=True),
    }


def main(
    output: Annotated[Path, typer.Option(help="Folder for the checkpoint.")],
    seed: Annotated[int, typer.Option(help="Seed of the initial weights and of the questions.")] = 0,
    eye_steps: Annotated[int, typer.Option(min=0, help="Steps that train the vision tower alone.")] = 150,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of the language model.")] = 2800,
    description_steps: Annotated[int, typer.Option(min=0, help="How many of them train on descriptions.")] = 300,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 16,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Peak learning rate.")] = 1.5e-3,
    anchors: Annotated[bool, typer.Option(help="Solutions with visual anchors (`Let me look again`).")] = True,
) -> None:
    """Train avar-tiny, save it, and print what the saved checkpoint answers on the test split."""
    settings = Settings(seed, eye_steps, steps, description_steps, batch_size, learning_rate, anchors)
    started = time.monotonic()
    torch.manual_seed(seed)
    tokenizer = train_tokenizer()
    processor = build_processor(tokenizer)
    model = build_model(tokenizer)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {len(tokenizer)} tokens", flush=True)
    train_vision_tower(model, processor, settings)
    train(model, processor, settings)
    save(model, processor, output)
    training_minutes = (time.monotonic() - started) / 60
    scores = evaluate_checkpoint(output)
    for name, score in scores.items():
        print(f"{name} {score}", flush=True)
    log = {
        "command": settings.command,
        **asdict(settings),
        "parameters": parameters,
        "training_minutes": round(training_minutes, 1),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "torch": torch.__version__,
        "accuracy": {name: {"all": score.accuracy, **score.by_kind} for name, score in scores.items()},
    }
    (output / "training.json").write_text(json.dumps(log, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
