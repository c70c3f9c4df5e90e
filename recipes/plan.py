"""What a recipe will do, in numbers, before anything is loaded."""

import tempfile
from pathlib import Path
from typing import Any

from avar_eval.names import listed_names
from avar_eval.number_format import gigabytes
from avar_eval.recipes.cost import copied_rows, estimated_disk, estimated_hours, free_space
from avar_eval.recipes.memory import GIGABYTE, estimate
from avar_eval.recipes.paper_sources import PAPER_SOURCES
from avar_eval.recipes.recipe import Card, Expected, Recipe
from avar_eval.recipes.steps import Steps, planned_steps, recipe_steps


def plan(recipe: Recipe) -> str:
    """Base model, data, the batch's arithmetic, what is published of the result, and the memory of one GPU."""
    card, options, steps = recipe.card, recipe.options, recipe_steps(recipe)
    lines = [
        f"{recipe.name}: {card.description}",
        f"  model   {options['model_name_or_path']}",
        f"  data    {', '.join(map(_source, listed_names(options['train_data'])))}",
        f"  batch   {_batch(recipe, steps)}",
    ]
    if steps.generated:
        lines.append(f"  rollout {_rollouts(steps)}")
    lines += [f"  steps   {_steps(recipe)}", f"  length  {_length(card, options)}", f"  images  {_pictures(options)}"]
    if card.architecture is not None:
        lines.append(f"  memory  {_memory(card, options, steps)}")
    lines += [f"  {name:7} {said}" for name, said in (("hours", _hours(recipe)), ("disk", _disk(recipe))) if said]
    return "\n".join([*lines, f"  expect  {_expected(card.expected)}"])


def _batch(recipe: Recipe, steps: Steps) -> str:
    devices = f"{steps.processes} {recipe.processor}"
    product = f"{devices} x {steps.per_device} x {steps.accumulation} accumulated = {steps.sequences}"
    if not steps.generated:
        return f"{product} sequences a step"
    return f"{product} responses a step: {steps.prompts} prompts x {steps.generations} rollouts"


def _rollouts(steps: Steps) -> str:
    policy = "all by the policy that learns from them" if steps.on_policy else "the policy has moved on when it learns"
    each = steps.generated // steps.processes
    return f"{steps.generated} responses generated at a time, {each} on each process; {policy}"


def _steps(recipe: Recipe) -> str:
    planned = planned_steps(recipe)
    if planned is None:
        return "not known before the rows are read"
    rows, prompts = planned.rows, recipe_steps(recipe).prompts
    if int(recipe.options.get("max_steps", -1)) > 0:
        return f"{planned.steps} (max_steps; an epoch of {rows} rows has {planned.an_epoch})"
    # the last step of an epoch is a smaller one
    whole = f"{rows} x {planned.epochs:g} / {prompts} = {int(planned.rows * planned.epochs / prompts)} whole ones"
    return f"{planned.steps} in {planned.epochs:g} epochs of {planned.rows} rows, {planned.an_epoch} an epoch ({whole})"


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
    shrunk = f"prompts of at most {prompt} tokens, pictures of longer ones are made smaller"
    kept = shrunk if prompt else "prompts of any length"
    return f"{kept}; responses of at most {response}"


def _pictures(options: dict[str, Any]) -> str:
    least, most = options.get("image_min_pixels"), options.get("image_max_pixels")
    ends = [f"at least {least}" if least else "", f"at most {most}" if most else ""]
    return f"{' and '.join(filter(None, ends))} pixels" if least or most else "of the processor's own sizes"


def _memory(card: Card, options: dict[str, Any], steps: Steps) -> str:
    assert card.architecture is not None
    length = options.get("max_length") or (
        int(options.get("max_prompt_tokens", 0)) + int(options.get("max_completion_length", 0))
    )
    at_a_time = 0
    if card.method == "grpo" and not options.get("use_vllm"):
        at_a_time = steps.generated // steps.processes
    memory = estimate(
        card.architecture,
        steps.per_device * int(length),
        lora_rank=int(options["lora_r"]) if options.get("use_peft") else None,
        shards=card.processes if card.sharded else 1,
        generated=at_a_time * int(length),
        pixels=steps.per_device * int(options.get("image_max_pixels") or 0),
    )
    parts = {name: value / GIGABYTE for name, value in memory.model_dump().items()}
    # rollouts and a step's activations are not there at one time
    alone = ("activations", "vision") if memory.generation > memory.activations + memory.vision else ("generation",)
    parts = {name: part for name, part in parts.items() if name not in alone}
    listed = " + ".join(f"{name} {value:.1f}" for name, value in parts.items())
    beside = f"; vLLM takes {options['vllm_gpu_memory_utilization']:.0%} of it" if options.get("use_vllm") else ""
    return f"{gigabytes(memory.total)} a GPU, estimated: {listed}{beside}"


def _hours(recipe: Recipe) -> str | None:
    hours, card = estimated_hours(recipe), recipe.card
    if hours is None:
        return None
    total = sum(hours)
    devices = f"on {card.processes} {card.gpu}" if card.processes > 1 else f"on one {card.gpu}"
    if card.method == "sft":
        return f"about {total:,.0f} {devices}, if rows have {card.mean_tokens} tokens on average"
    parts = f"{hours.generating:,.0f} generating and {hours.learning:,.0f} learning"
    return f"about {total:,.0f} {devices}, {parts}, if responses have {card.mean_tokens} tokens on average"


def _disk(recipe: Recipe) -> str | None:
    needed, folder = estimated_disk(recipe), Path(str(recipe.options["output_dir"]))
    if needed is None:
        return None
    free = free_space(folder)
    few = "" if free > needed.total else f"; NOT ENOUGH, {gigabytes(free)} are free at {folder}"
    each = f"{needed.kept} checkpoints of at most {gigabytes(needed.checkpoint)} and the trained model"
    copied = copied_rows(recipe)
    rows = "a copy of the rows" if copied is None else f"{gigabytes(copied)} of rows"
    return f"up to {gigabytes(needed.total)}: {each}{few}; and {rows} in {tempfile.gettempdir()}"


def _expected(expected: Expected | None) -> str:
    if expected is None:
        return "nothing is published for this model and recipe"
    found = {"VAS": expected.vas, "average": expected.average} | expected.scores
    numbers = ", ".join(f"{name} {value}" for name, value in found.items() if value is not None)
    return f"{numbers} ({expected.source})"
