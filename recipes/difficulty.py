"""The difficulty filter: ask a model every training row several times, and keep rows that it gets right now and then.

AVAR filters its reinforcement learning set once with the base model: 8 rollouts, rows of accuracy in [0.25, 0.75] stay.
The others teach GRPO nothing: where all responses are right, or none is, advantages are 0 (Eq. 9).

Rollouts are asked for in a session, on any backend, and go into a record book: a run that was killed goes on where it
stopped. They are judged as the accuracy reward judges them.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from avar_eval.answers import Judgement
from avar_eval.atomic import write_atomically
from avar_eval.errors import AvarError, UsageError
from avar_eval.pictures import as_rgb
from avar_eval.recipes.sources import TrainingDataError, check_source
from avar_eval.run.asking import Asking
from avar_eval.run.model import ResolvedModel, resolve

if TYPE_CHECKING:
    from avar_eval.records.record import Record
    from avar_eval.run.questions import Chat
    from avar_eval.run.session import Session

ROWS_NAME: Final = "rows.jsonl"
"""The kept rows: `--train_data OUTPUT` of a GRPO recipe reads them."""
HISTOGRAM_NAME: Final = "difficulty.json"
PICTURE_NAME: Final = "difficulty.png"
_TASK: Final = "training"


class NothingKeptError(AvarError):
    """No row has an accuracy within the bounds.

    What to do: See difficulty.json, and choose other bounds, rows or another model.
    """


@dataclass(frozen=True)
class FilterConfig:
    """sources: as `train_data` of a recipe. keep: lowest and highest accuracy (0..1) of a kept row.

    asking: how the model is asked; its samples are the rollouts, its limit is of rows a source.
    """

    asking: Asking
    sources: str
    output: Path
    keep: tuple[float, float] = (0.25, 0.75)


@dataclass(frozen=True)
class Difficulty:
    """right: for each row, how many of its rollouts were. truncated, unparsed: rollouts in these states."""

    rollouts: int
    right: Sequence[int]
    kept: Sequence[int]
    truncated: int
    unparsed: int
    protocol: Mapping[str, Any]

    def to_json(self) -> str:
        """rows by number of right rollouts, and what the numbers depend on."""
        counts = Counter(self.right)
        asked = self.rollouts * len(self.right)
        content = {
            "rows": len(self.right),
            "kept": len(self.kept),
            "rollouts": self.rollouts,
            "rows_by_right_rollouts": {str(right): counts[right] for right in range(self.rollouts + 1)},
            "accuracy": sum(self.right) / asked,
            "truncated": self.truncated / asked,
            "unparsed": self.unparsed / asked,
            "protocol": self.protocol,
        }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def check_filter(config: FilterConfig) -> ResolvedModel:
    """The model to ask. Raises UsageError for what can be known to be wrong before anything is loaded."""
    lowest, highest = config.keep
    if not 0 <= lowest <= highest <= 1:
        raise UsageError(f"--lowest {lowest} and --highest {highest} must be accuracies, from 0 to 1 and in this order")
    chosen = config.asking.decoding
    if chosen.get("samples", 1) < 2 or chosen.get("temperature", 0) <= 0:
        raise UsageError("give --rollouts of at least 2 and a --temperature above 0: greedy rollouts are all the same")
    check_source(config.sources)
    return resolve(config.asking)


def filter_rows(config: FilterConfig) -> Difficulty:
    """Ask, judge, and write the kept rows, the histogram as JSON and as a picture into `config.output`.

    Raises NothingKeptError after the histogram is written, if no row is kept, and what an evaluation raises.
    """
    model = check_filter(config)
    from avar_eval.recipes.data import load
    from avar_eval.run.session import Session

    rows = load(config.sources, "grpo", system_prompt=None, limit=config.asking.limit)
    with Session(model, config.output) as session:
        records = _rollouts(session, rows, model.decoding.samples)
        found = _measured(config, rows, records, model.decoding.samples, _protocol(config, session))
        write_atomically(config.output / HISTOGRAM_NAME, [found.to_json()])
        draw_difficulty(found, config.keep, config.output / PICTURE_NAME)
        if not found.kept:
            raise NothingKeptError(
                f"none of {len(rows)} rows has an accuracy from {config.keep[0]} to {config.keep[1]}: see "
                f"{config.output / HISTOGRAM_NAME}, and choose other bounds, rows or another model"
            )
        _write_selected(config.output, rows, found)
    return found


def _rollouts(session: "Session", rows: Any, count: int) -> list["Record"]:
    """`count` responses to each row, those of a row together."""
    from avar_eval.run.questions import Question

    questions = [
        Question(str(number), partial(_chat, rows, number), task=_TASK, sample=sample, measured=False)
        for number in range(len(rows))
        for sample in range(count)
    ]
    responses = session.ask(questions)
    if refused := responses.refused.get(_TASK):
        row, reason = next(iter(refused.items()))
        raise TrainingDataError(f"row {row} cannot be asked, leave it out: {reason}")
    return responses.records


def _chat(rows: Any, number: int) -> "Chat":
    """A training row's prompt with its pictures in place."""
    row = rows[number]
    images = iter(row["images"])
    return [
        {
            "role": turn["role"],
            "content": [
                {"type": "image", "image": as_rgb(next(images))}
                if part["type"] == "image"
                else {"type": "text", "text": part["text"]}
                for part in turn["content"]
            ],
        }
        for turn in row["prompt"]
    ]


def _measured(
    config: FilterConfig, rows: Any, records: Sequence["Record"], rollouts: int, protocol: Mapping[str, Any]
) -> Difficulty:
    judged = rows.remove_columns(["images", "prompt"])
    states: Counter[str] = Counter()
    right = []
    for number, row in enumerate(judged):
        own = records[number * rollouts : (number + 1) * rollouts]
        judgements = [_judgement(config.sources, number, row, record) for record in own]
        states.update(judgement.state for judgement in judgements)
        right.append(sum(judgement.correct for judgement in judgements))
    lowest, highest = config.keep
    kept = [number for number, hits in enumerate(right) if lowest <= hits / rollouts <= highest]
    return Difficulty(rollouts, right, kept, states["truncated"], states["unparsed"], protocol)


def _judgement(sources: str, number: int, row: Mapping[str, Any], record: "Record") -> Judgement:
    from avar_eval.recipes.rewards import RewardDataError, judge

    try:
        return judge(row, record.response, record.finish_reason)
    except RewardDataError as error:
        raise TrainingDataError(f"row {number} of {sources}: {error}") from error


def _protocol(config: FilterConfig, session: "Session") -> dict[str, Any]:
    return {
        "model": session.model.name,
        "revision": session.checkpoint.revision,
        "weights_sha256": session.weights,
        "backend": {"backend": session.backend.name} | dict(session.backend.identity()),
        "system_prompt": session.model.system_prompt,
        "decoding": session.model.decoding.protocol(),
        "sources": config.sources,
        "limit": config.asking.limit,
        "keep": list(config.keep),
    }


def _write_selected(folder: Path, rows: Any, found: Difficulty) -> None:
    """The kept rows in the form that recipes read, pictures under names made from their own content."""
    (folder / "images").mkdir(exist_ok=True)
    lines = []
    for number in found.kept:
        row = rows[number]
        images = [_picture(folder, image) for image in row["images"]]
        lines.append(json.dumps(row | {"images": images, "accuracy": found.right[number] / found.rollouts}) + "\n")
    write_atomically(folder / ROWS_NAME, lines)


def _picture(folder: Path, image: Any) -> str:
    data = io.BytesIO()
    image.save(data, format="PNG")
    name = f"images/{hashlib.sha256(data.getvalue()).hexdigest()[:16]}.png"
    (folder / name).write_bytes(data.getvalue())
    return name


def draw_difficulty(found: Difficulty, keep: tuple[float, float], path: Path) -> Path:
    """The histogram of rows over their accuracy, with the part that is kept."""
    from avar_eval.figures.file import save_figure
    from avar_eval.figures.style import COLUMN, SERIES, SMALL, drawing, new_figure
    from avar_eval.number_format import count

    counts = Counter(found.right)
    places = range(found.rollouts + 1)
    inside = [keep[0] <= right / found.rollouts <= keep[1] for right in places]
    with drawing():
        figure = new_figure(
            COLUMN,
            1.9,
            f"{count(len(found.kept))} of {count(len(found.right))} rows kept",
            f"Dark: accuracy of {found.protocol['model']} from {keep[0]} to {keep[1]}",
        )
        axes = figure.subplots()
        bars = axes.bar(
            [str(right) for right in places],
            [counts[right] for right in places],
            color=[SERIES[0] if kept else "#b9bec7" for kept in inside],
        )
        axes.bar_label(bars, fontsize=SMALL)
        axes.set_xlabel(f"right responses of {found.rollouts}")
        axes.set_ylabel("rows")
        return save_figure(figure, path)
