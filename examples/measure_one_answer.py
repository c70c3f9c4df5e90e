"""One answer of a model, and where it looked while it gave it.

python examples/measure_one_answer.py
"""

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from avar_eval import measure_attention
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.tasks.shapes.dataset import prompt, rows

PATH = resolve_checkpoint("avar-tiny").path  # any local folder of a supported architecture


def main() -> None:
    processor = AutoProcessor.from_pretrained(PATH)
    model = AutoModelForImageTextToText.from_pretrained(PATH, dtype=torch.float32).eval()
    row = next(rows("test"))
    content = [{"type": "image", "image": row["image"]}, {"type": "text", "text": prompt(row)}]
    messages = [{"role": "user", "content": content}]
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    tokens = model.generate(**inputs, max_new_tokens=160, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
    print(processor.decode(tokens))

    record = measure_attention(model, processor, messages, tokens)
    print(f"VAS of the question {record.visual_attention_score('user'):.2f}, of the answer", end=" ")
    print(f"{record.visual_attention_score('response'):.2f}; image over system {record.ratio_of_sums('user'):.2f}")
    for name, mass in record.mass.items():  # [layers, heads, queries]
        print(f"{name:12} {mass.mean():6.1%} of all attention")


if __name__ == "__main__":
    main()
