"""What a recipe will do, in numbers, before anything is loaded."""

from typing import Any

from avar_eval.names import listed_names
from avar_eval.recipes.memory import GIGABYTE, estimate
from avar_eval.recipes.paper_sources import PAPER_SOURCES
from avar_eval.recipes.recipe import Card, Expected, Recipe


def plan(recipe: Recipe) -> str:
    """Base model, data, the batch's arithmetic, what is published of the result, and the memory of one GPU."""
    card, options = recipe.card, recipe.options
    per_device = int(options.get("per_device_train_batch_size", 8))
    accumulation = int(options.get("gradient_accumulation_steps", 1))
    size = card.processes * per_device * accumulation
    unit = "sequences" if card.method == "sft" else f"responses ({size // _generations(options)} prompts)"
    devices = f"{card.processes} {recipe.processor}"
    lines = [
        f"{recipe.name}: {card.description}",
        f"  model   {options['model_name_or_path']}",
        f"  data    {', '.join(map(_source, listed_names(options['train_data'])))}",
        f"  batch   {devices} x {per_device} x {accumulation} accumulated = {size} {unit} a step",
        f"  length  {_length(card, options)}",
    ]
    if card.architecture is not None:
        lines.append(f"  memory  {_memory(card, options, per_device, accumulation)}")
    return "\n".join([*lines, f"  expect  {_expected(card.expected)}"])


def _generations(options: dict[str, Any]) -> int:
    return int(options.get("num_generations", 8))


def _source(source: str) -> str:
    """A source with what it is read from, and at which revision."""
    name, _, folder = source.partition("=")
    paper = PAPER_SOURCES.get(name)
    if paper is None or folder:
        return source
    return f"{name} ({paper.repository}@{paper.revision or 'newest'}, split {paper.split})"


def _length(card: Card, options: dict[str, Any]) -> str:
    if card.method == "sft":
        limit = options.get("max_length")
        return f"at most {limit} tokens, longer rows are left out" if limit else "no limit"
    prompt, response = options.get("max_prompt_tokens"), options.get("max_completion_length")
    kept = f"prompts of at most {prompt} tokens, longer ones are left out" if prompt else "prompts of any length"
    return f"{kept}; responses of at most {response}"


def _memory(card: Card, options: dict[str, Any], per_device: int, accumulation: int) -> str:
    assert card.architecture is not None
    length = options.get("max_length") or (
        int(options.get("max_prompt_tokens", 0)) + int(options.get("max_completion_length", 0))
    )
    at_a_time = 0
    if card.method == "grpo" and not options.get("use_vllm"):
        at_a_time = per_device * int(options.get("steps_per_generation", accumulation))
    memory = estimate(
        card.architecture,
        per_device * int(length),
        lora_rank=int(options["lora_r"]) if options.get("use_peft") else None,
        shards=card.processes if card.sharded else 1,
        generated=at_a_time * int(length),
    )
    parts = {name: value / GIGABYTE for name, value in memory.model_dump().items()}
    # they are not there at one time
    del parts["activations" if memory.generation > memory.activations else "generation"]
    listed = " + ".join(f"{name} {value:.1f}" for name, value in parts.items())
    beside = f"; vLLM takes {options['vllm_gpu_memory_utilization']:.0%} of it" if options.get("use_vllm") else ""
    return f"{memory.total / GIGABYTE:.1f} GB a GPU, estimated: {listed}{beside}"


def _expected(expected: Expected | None) -> str:
    if expected is None:
        return "nothing is published for this model and recipe"
    found = {"VAS": expected.vas, "average": expected.average} | expected.scores
    numbers = ", ".join(f"{name} {value}" for name, value in found.items() if value is not None)
    return f"{numbers} ({expected.source})"
