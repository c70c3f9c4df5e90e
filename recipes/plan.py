"""What a recipe will do, in numbers, before anything is loaded."""

from avar_eval.recipes.memory import GIGABYTE, estimate
from avar_eval.recipes.recipe import Recipe


def plan(recipe: Recipe) -> str:
    """The batch's arithmetic and, where the recipe gives the model's shape, the memory of one GPU."""
    card, options = recipe.card, recipe.options
    per_device = int(options.get("per_device_train_batch_size", 8))
    accumulation = int(options.get("gradient_accumulation_steps", 1))
    size = card.processes * per_device * accumulation
    lines = [
        f"{recipe.name}: {card.description}",
        f"  model   {options['model_name_or_path']}",
        f"  data    {options['train_data']}",
        f"  batch   {card.processes} GPU x {per_device} x {accumulation} accumulated = {size}",
    ]
    if card.architecture is not None:
        length = options.get("max_length") or (
            int(options.get("max_prompt_tokens", 0)) + int(options.get("max_completion_length", 0))
        )
        rank = int(options["lora_r"]) if options.get("use_peft") else None
        shards = card.processes if card.sharded else 1
        memory = estimate(card.architecture, per_device * int(length), lora_rank=rank, shards=shards)
        parts = {name: value / GIGABYTE for name, value in memory.model_dump().items()}
        listed = " + ".join(f"{name} {value:.1f}" for name, value in parts.items())
        lines.append(f"  memory  {memory.total / GIGABYTE:.1f} GB a GPU, estimated: {listed}")
    if card.expected is not None:
        found = {"VAS": card.expected.vas, "average": card.expected.average}
        numbers = ", ".join(f"{name} {value}" for name, value in found.items() if value is not None)
        lines.append(f"  expect  {numbers} ({card.expected.source})")
    return "\n".join(lines)
