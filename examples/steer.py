"""The same questions unsteered and steered (Eq. 3: image keys up, system keys down), from one load of the model.

python examples/steer.py
"""

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from avar_eval import ChatMarkup, Steering, observe, steer
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.tasks.shapes.dataset import prompt, rows

PATH = resolve_checkpoint("avar-tiny").path


@torch.inference_mode()
def main() -> None:
    processor = AutoProcessor.from_pretrained(PATH)
    model = AutoModelForImageTextToText.from_pretrained(PATH, dtype=torch.float32).eval()
    markup = ChatMarkup(processor)
    for row in rows("test", 3):
        content = [{"type": "image", "image": row["image"]}, {"type": "text", "text": prompt(row)}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        roles = markup.roles(inputs["input_ids"], inputs["attention_mask"])
        for name, strengths in (("unsteered", Steering()), ("steered", Steering(image=0.15, system=0.4))):
            with steer(model, strengths, roles):
                tokens = model.generate(**inputs, max_new_tokens=160, do_sample=False)
                with observe(model, roles, groups=["image"]) as observation:
                    model(**inputs)
            answer = processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            print(f"{name:10} image {observation.mass('image').mean():6.1%}  {answer[-60:]!r}  (gold {row['answer']})")


if __name__ == "__main__":
    main()
