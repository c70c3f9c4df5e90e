"""A loss of one's own on attention: no response token may spend more than a tenth of it on the system turn.

python examples/own_loss.py
"""

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from avar_eval import ChatMarkup, observe
from avar_eval.attention.roles import Role
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.tasks.shapes.dataset import prompt, rows

PATH = resolve_checkpoint("avar-tiny").path
CEILING, WEIGHT, STEPS = 0.1, 1.0, 8


def main() -> None:
    torch.manual_seed(0)
    processor = AutoProcessor.from_pretrained(PATH)
    model = AutoModelForImageTextToText.from_pretrained(PATH, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    batch = list(rows("train", 4))
    texts = []
    for row in batch:
        content = [{"type": "image"}, {"type": "text", "text": prompt(row)}]
        asked = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        texts.append(f"{asked}<think>{row['solution']}</think><answer>{row['answer']}</answer><|im_end|>")
    inputs = processor(text=texts, images=[row["image"] for row in batch], padding=True, return_tensors="pt")
    roles = ChatMarkup(processor).roles(inputs["input_ids"], inputs["attention_mask"])
    response = roles.mask(Role.RESPONSE)
    labels = inputs["input_ids"].masked_fill(~response, -100)
    for step in range(STEPS):
        with observe(model, roles, groups=["system"]) as observation:
            likelihood = model(**inputs, labels=labels).loss
        system = observation.mass("system")  # [layers, batch, heads, queries], differentiable
        answering = observation.query_mask(Role.RESPONSE)[None, :, None, :].expand_as(system)
        penalty = (system - CEILING).clamp(min=0)[answering].mean()
        optimizer.zero_grad()
        (likelihood + WEIGHT * penalty).backward()
        optimizer.step()
        print(f"step {step}  loss {likelihood.item():.4f}  over the ceiling {penalty.item():.4f}")


if __name__ == "__main__":
    main()
