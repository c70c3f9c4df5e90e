"""A model's card with what it scored: front matter with `model-index`, and a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from avar_eval.leaderboard.row import Row
from avar_eval.leaderboard.table import markdown, plain_markdown
from avar_eval.models.ancestry import model_ancestry
from avar_eval.models.registry import find_model
from avar_eval.tasks.catalog import catalog

_HEADING = "## Evaluation by avar-eval"


def model_card(model: str, name: str, rows: Sequence[Row], links: Sequence[str]) -> str:
    """The card as the hub reads it.

    A training's own README (base model, data, recipe: `avar-train` writes it) is kept, its results added; of another
    model the base is told, as far as it is known. links: Markdown lines that say where runs and page are.
    """
    own = _training_card(model)
    data, said = _data(model), f"# {plain_markdown(name)}"
    if own is not None:
        card = ModelCard.load(own)
        said = card.text.partition(_HEADING)[0].strip()
        data = card.data if isinstance(card.data, ModelCardData) else data
    data.model_name = name
    data.eval_results = [result for row in rows for result in _results(row)]
    parts = [
        said,
        _HEADING,
        markdown(rows).rstrip(),
        "Score: strict, official: the benchmark's published rule; intervals at 95 %; VAS: Visual Attention Score "
        "(arXiv 2603.03825, Eq. 2). *verified*: the numbers follow from the run's records.",
        *(["\n".join(links)] if links else []),
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _training_card(model: str) -> Path | None:
    """The README that a training wrote for itself, of a checkpoint or of its output folder."""
    path = Path(model)
    if not path.is_dir():
        return None
    return next((folder / "README.md" for folder in (path, path.parent) if (folder / "README.md").is_file()), None)


def _data(model: str) -> ModelCardData:
    repository, chain = model_ancestry(model)
    registered = find_model(model)
    tags = ["avar-eval", "visual-attention-score"]
    base = repository if repository is not None and (len(chain) > 1 or registered is None) else None
    return ModelCardData(
        base_model=base or (registered.repository if registered else None),
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=tags,
    )


def _results(row: Row) -> list[EvalResult]:
    """A row's score and VAS as the model-index has them; shares in percent."""
    entry = catalog().get(row.task)
    revision = row.data_revision
    shared: dict[str, Any] = {
        "task_type": "image-text-to-text",
        "dataset_type": entry.dataset if entry and "/" in entry.dataset else f"avar-eval/{row.task}",
        "dataset_name": row.task if row.limit is None else f"{row.task}, first {row.limit} questions",
        "dataset_split": row.split,
        "dataset_revision": revision,
    }
    name = row.score_name.replace("_", " ")
    values = (
        ("accuracy" if row.score_name == "accuracy" else row.score_name, f"{name}, strict", 100, row.score,
         row.score_low, row.score_high, row.n),
        ("official", f"{name}, published rule", 100, row.official, row.official_low, row.official_high, row.n),
        ("vas", "Visual Attention Score", 1, row.vas, row.vas_low, row.vas_high, row.vas_n),
    )  # fmt: skip
    return [
        EvalResult(
            **shared,
            metric_type=kind,
            metric_name=title,
            metric_value=round(unit * value, 4),
            metric_args={
                "ci95": None if low is None or high is None else [round(unit * low, 4), round(unit * high, 4)],
                "n": n,
                "run_id": row.run_id,
                "mark": row.mark,
            },
        )
        for kind, title, unit, value, low, high, n in values
        if value is not None
    ]
