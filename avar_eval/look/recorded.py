"""A recorded row, looked at again: the run's model, steering and pictures, and the recorded answer, never a new one."""

from dataclasses import replace
from pathlib import Path

from PIL import Image

from avar_eval.attention.steering import Steering
from avar_eval.errors import UsageError
from avar_eval.look.conversation import Look, observed
from avar_eval.look.places import heat_map
from avar_eval.models.checkpoint import find_source, locate, weights_sha256
from avar_eval.models.image_limits import ImageLimits
from avar_eval.models.served_observer import ServedObserver
from avar_eval.models.transformers_backend import TransformersBackend, check_prompts
from avar_eval.pictures import image_sha256
from avar_eval.progress import Bar
from avar_eval.records.journal import Journal
from avar_eval.records.overlays import OVERLAYS, OVERLAYS_NAME, Heat, OverlayLine, PictureOverlay
from avar_eval.view.records import Record, RunRecords
from avar_eval.view.rows import own_texts
from avar_eval.view.task_rows import TaskRows, command_option, data_folder

_GRID = 64
"""Cells along the longer side of an overlay's grid."""


def open_recorded(
    run: RunRecords,
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    attn_implementation: str | None = None,
) -> TransformersBackend:
    """The run's model as it answered, on this machine.

    model: where it lies now (None: where the run had it). dtype, attn_implementation: in the place of the run's, with
    which masses are the record's. Raises UsageError for other weights than the run's, and for those of an endpoint, and
    what locating and opening a model raise.
    """
    protocol = run.results.protocol
    recorded = protocol.get("weights_sha256")
    if recorded is None:
        raise UsageError(
            f"{run.folder} was answered by an endpoint whose weights are not known: nothing can look again"
        )
    served = (protocol.get("backend") or {}).get("backend") == "api"
    command = str(protocol.get("command", ""))
    flags = ("--api-weights",) if served else ("--model", "-m")
    name = model or command_option(command, *flags) or str(protocol["model"])
    try:
        source = find_source(name)
        if model is None and source.repository is not None and protocol.get("revision") is not None:
            source = replace(source, revision=protocol["revision"])  # the commit that a run took of a moving branch
        checkpoint = locate(source)
    except UsageError as error:
        raise UsageError(f"the model of {run.folder}: {error}; --model says where it lies now") from error
    if weights_sha256(checkpoint) != recorded:
        raise UsageError(
            f"{name} has other weights, configuration or chat template than the model that answered {run.folder}: "
            "--model says where that one lies"
        )
    steering, limits = protocol.get("steering"), protocol.get("image_limits")
    return (ServedObserver if served else TransformersBackend)(
        checkpoint,
        device,
        dtype or protocol.get("dtype"),
        Steering(**steering) if steering else None,
        attn_implementation or protocol.get("attn_implementation"),
        ImageLimits(**limits) if limits else None,
    )


def find_record(run: RunRecords, task: str | None, row_id: str, sample: int) -> Record:
    """A row's record. Raises UsageError, with what there is, where no task of the run has it, or several have."""
    if task is not None and task not in run.results.tasks:
        raise UsageError(f"{run.folder} has no task {task!r}; it has {', '.join(run.results.tasks)}")
    tasks = [task] if task is not None else list(run.results.tasks)
    of_row = [record for name in tasks for record in run.of_task(name) if record["row_id"] == row_id]
    found = [record for record in of_row if record["sample"] == sample]
    if not found:
        there = f"; of that row there are samples 0 to {len(of_row) - 1}" if of_row else ""
        raise UsageError(f"{run.folder} has no record of row {row_id!r}, sample {sample}, in {', '.join(tasks)}{there}")
    if len(found) > 1:
        having = ", ".join(str(record["task"]) for record in found)
        raise UsageError(f"row {row_id!r} is in several tasks of {run.folder}: give --task, one of {having}")
    return found[0]


def recorded_pictures(rows: TaskRows, record: Record) -> list[Image.Image]:
    """The pictures that a record was asked with, in order. Raises UsageError where they are not at hand."""
    at_hand = rows.visuals(record["row_id"])
    asked = record.get("image_sha256")
    if at_hand is not None and asked is not None:
        by_hash = {image_sha256(picture): picture for picture in at_hand}
        at_hand = [by_hash[sha256] for sha256 in asked] if set(asked) <= by_hash.keys() else None
    if at_hand is None:
        reason = rows.problem or "the data hold none, or others than the row was asked with"
        raise UsageError(f"the pictures of row {record['row_id']} of {record['task']} are not at hand: {reason}")
    return at_hand


def question_of(run: RunRecords, record: Record) -> str:
    """The words of a record's prompt that other prompts of its task do not have."""
    prompts = {str(one["key"]): str(one["prompt"]) for one in run.of_task(record["task"])}
    return own_texts(list(prompts.values()))[list(prompts).index(record["key"])]


def look_again(
    backend: TransformersBackend, run: RunRecords, record: Record, pictures: list[Image.Image], question: str = ""
) -> Look:
    """Where the model looks in a recorded prompt and its recorded response; the masses are those of the record.

    question: what headings quote of the prompt.
    Raises UsageError for a record without pictures or response, BackendError where the prompt's tokens are others now.
    """
    row, task, protocol = record["row_id"], record["task"], run.results.protocol
    if not pictures:
        raise UsageError(f"row {row} of {task} has no picture to look in")
    token_ids = list(record.get("response_token_ids") or ())
    if not token_ids:  # an endpoint tells none
        token_ids = backend.processor.tokenizer.encode(record["response"], add_special_tokens=False)
    if not token_ids:
        raise UsageError(f"row {row} of {task} has an empty response: nothing looks from it")
    inputs = backend.encode([record["prompt"]], [pictures])
    if record.get("prompt_token_ids"):
        check_prompts(inputs, [record["prompt_token_ids"]])
    return observed(
        backend,
        inputs,
        token_ids,
        model=protocol["model"],
        revision=protocol.get("revision"),
        system=protocol.get("system_prompt"),
        prompt=record["prompt"],
        question=question,
        image_names=[row if len(pictures) == 1 else f"{row}, picture {n + 1}" for n in range(len(pictures))],
        pictures=pictures,
        response=record["response"],
        finish_reason=record["finish_reason"],
    )


def overlay_line(key: str, looked: Look) -> OverlayLine | None:
    """What the viewer shows of a look; None where the places of image tokens are not known."""
    if looked.image_tokens is None:
        return None
    overlays = []
    for picture, tokens in zip(looked.pictures, looked.image_tokens, strict=True):
        factor = _GRID / max(picture.size)
        columns, rows = (max(1, round(side * factor)) for side in picture.size)
        heats = {
            name: Heat.of(heat_map(tokens.places, shares, columns, rows), min(1.0, float(shares.sum())))
            for name, shares in tokens.shares.items()
        }
        overlays.append(PictureOverlay(rows=rows, columns=columns, queries=heats))
    return OverlayLine(key=key, pictures=overlays)


def keep_overlay(folder: Path, line: OverlayLine) -> None:
    """Keep an overlay beside the run's records, for its viewer. Raises JournalError."""
    with Journal(folder / OVERLAYS_NAME, OVERLAYS) as journal:
        journal.append([line])


def add_overlays(
    folder: Path, rows_a_task: int, data_dir: Path | None = None, allow_outside: bool = False
) -> list[str]:
    """Look again at some rows of each task of a run, the wrong ones first, and keep their overlays for its viewer.

    Those that were looked at before are not again. Returns which cannot be looked at, and why. Raises UsageError where
    the run's model is not at hand, JournalError where the folder cannot be written, and what observing raises.
    """
    run = RunRecords.of(folder)
    backend = open_recorded(run)
    problems = []
    for task in run.results.tasks:
        rows = TaskRows.of(task, data_dir or data_folder(str(run.results.protocol.get("command", ""))), allow_outside)
        correct = {record["key"]: (record.get("judgement") or {}).get("correct") for record in run.of_task(task)}
        wanted = set(sorted(correct, key=lambda key: correct[key] is not False)[:rows_a_task])
        reasons = []
        with Journal(folder / OVERLAYS_NAME, OVERLAYS) as journal, Bar(f"looks into {task}", len(wanted)) as bar:
            for record in run.of_task(task):
                if record["key"] not in wanted:
                    continue
                if record["key"] not in journal:
                    try:
                        looked = look_again(backend, run, record, recorded_pictures(rows, record))
                        if (line := overlay_line(record["key"], looked)) is None:
                            reasons.append(str(looked.no_overlay))
                        else:
                            journal.append([line])
                    except UsageError as error:  # one row never ends it
                        reasons.append(str(error))
                bar.advance(1)
        problems += [f"{task}: {len(reasons)} of {len(wanted)} rows without overlay: {reasons[0]}"] if reasons else []
    return problems
