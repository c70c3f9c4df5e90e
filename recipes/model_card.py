"""The README of a trained model: its base, its data, the recipe, and what its checkpoints scored."""

from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import yaml

from avar_eval.atomic import write_atomically
from avar_eval.models.ancestry import model_ancestry
from avar_eval.names import listed_names
from avar_eval.recipes.paper_sources import PAPER_SOURCES
from avar_eval.recipes.plan import plan
from avar_eval.recipes.recipe import Recipe
from avar_eval.recipes.scores import scores_by_step
from avar_eval.recipes.sources import EMBEDDED

CARD_NAME: Final = "README.md"
_LIBRARIES: Final = ("avar-eval", "trl", "transformers", "torch")
_NUMBERS: Final = {"accuracy": ("accuracy %", 100), "vas": ("VAS", 1), "ratio_of_sums": ("image ÷ system", 1)}
_METHODS: Final = {
    "sft": "Fine-tuned with AGTO, attention-guided training objectives",
    "grpo": "Trained by reinforcement learning (GRPO) with VARS, visual-anchored reward shaping",
}


def write_model_card(recipe: Recipe, folder: Path) -> None:
    """Write README.md into a training's output folder, with the scores that are there by now."""
    write_atomically(folder / CARD_NAME, [model_card(recipe, folder)])


def model_card(recipe: Recipe, folder: Path) -> str:
    """The card as Markdown, with the front matter that the hub reads."""
    base, chain = model_ancestry(str(recipe.options["model_name_or_path"]))
    data = listed_names(str(recipe.options["train_data"]))
    head: dict[str, Any] = {"library_name": "peft" if recipe.options.get("use_peft") else "transformers"}
    if base is not None:
        head["base_model"] = base
    if sets := [of for source in data if (of := _data_set(source)) is not None]:
        head["datasets"] = sets
    head |= {"pipeline_tag": "image-text-to-text", "tags": ["avar", "trl", recipe.card.method]}
    options = yaml.safe_dump(recipe.options, sort_keys=False, allow_unicode=True)
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {folder.resolve().name}",
        f"{_METHODS[recipe.card.method]} (arXiv 2603.03825), by the recipe `{recipe.name}`: {recipe.card.description}.",
        f"- Base model: {' ← '.join(chain)}\n- Data: {', '.join(data)}",
        "## Scores",
        _scores(folder),
        "## Recipe",
        f"```text\n{plan(recipe)}\n```",
        f"```yaml\n{options}```",
        f"Made with {libraries}.",
    ]
    return "\n\n".join(parts) + "\n"


def _data_set(source: str) -> str | None:
    """The data set of the hub that a source is."""
    paper = PAPER_SOURCES.get(source.partition("=")[0])
    repository = source.partition("@")[0] if paper is None else paper.repository
    return None if source in EMBEDDED or Path(source).exists() or repository.count("/") != 1 else repository


def _scores(folder: Path) -> str:
    """A table: a line each checkpoint that was scored and task, the base as step 0."""
    steps = scores_by_step(folder)
    if not steps:
        return f"None yet: `avar-eval watch {folder} --tasks …` scores the checkpoints."
    lines = [f"| step | task | {' | '.join(title for title, _ in _NUMBERS.values())} |", "|---|---|---|---|---|"]
    for step, numbers in steps.items():
        for task in dict.fromkeys(name.partition("/")[0] for name in numbers):
            cells = (_cell(numbers.get(f"{task}/{name}"), unit) for name, (_, unit) in _NUMBERS.items())
            lines.append(f"| {step or '0 (base)'} | {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | None, unit: float) -> str:
    return "–" if value is None else f"{unit * value:.1f}" if unit == 100 else f"{value:.4g}"
