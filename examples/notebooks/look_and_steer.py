# %% [markdown]
# # One answer: looked at, steered, looked at again
# Percent format: open it in VS Code, PyCharm or Spyder, or `jupytext --to ipynb` it.

# %%
import torch
from matplotlib import pyplot as plt
from transformers import AutoModelForImageTextToText, AutoProcessor

from avar_eval import ChatMarkup, Steering, observe, steer
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.tasks.shapes.dataset import prompt, rows

path = resolve_checkpoint("avar-tiny").path  # or a folder of yours
processor = AutoProcessor.from_pretrained(path)
model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).eval()

# %% [markdown]
# A question, and what the model says.

# %%
row = next(rows("test"))
content = [{"type": "image", "image": row["image"]}, {"type": "text", "text": prompt(row)}]
messages = [{"role": "user", "content": content}]
asked = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
roles = ChatMarkup(processor).roles(asked["input_ids"], asked["attention_mask"])


@torch.inference_mode()
def answer(steering: Steering) -> tuple[str, float]:
    """The model's words, and its question's attention on the image over that on the system turn."""
    with steer(model, steering, roles):
        tokens = model.generate(**asked, max_new_tokens=160, do_sample=False)
        with observe(model, roles, queries="user", groups=["image", "system"]) as observation:
            model(**asked)
    image, system = (observation.mass(name).sum() for name in ("image", "system"))
    return processor.decode(tokens[0, asked["input_ids"].shape[1] :]), float(image / system)


# %% [markdown]
# Steered by a few strengths: what it answers, and how much its question attends to the image over the system turn.
# Steering sets that ratio by construction; whether the answer gets better is another matter.

# %%
strengths = [0.0, 0.15, 0.5, 1.0]
ratios = []
for strength in strengths:
    words, ratio = answer(Steering(image=strength))
    ratios.append(ratio)
    print(f"image +{strength:4.0%}: {words[-50:]!r}, image over system {ratio:.2f}")

# %%
figure, axes = plt.subplots(figsize=(3.3, 2.2), layout="constrained")
axes.plot(strengths, ratios, marker="o")
axes.set(xlabel="strength on image scores (Eq. 3)", ylabel="image ÷ system")
figure.savefig("look_and_steer.png", dpi=200)
