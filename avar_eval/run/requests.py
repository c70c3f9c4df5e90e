"""lmms-eval's requests as a session's questions: of the tasks of a run, and of `lmms-eval --model avar`."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import datasets
from lmms_eval.api.instance import Instance
from lmms_eval.protocol import ChatMessages

from avar_eval.attention.sampling import AttentionSampling
from avar_eval.run.questions import Chat, Judging, Question
from avar_eval.tasks.catalog import catalog, get_judge, gold_answer, grader_version, is_judged

Rows = Mapping[str, datasets.Dataset]
"""A task's rows by split, as lmms-eval has them."""


Target = Callable[[Mapping[str, Any]], str | None]
"""The gold answer of a row without its pictures; None where it is not known."""


def build_questions(
    requests: Sequence[Instance],
    rows: Mapping[str, Rows],
    sampling: AttentionSampling,
    targets: Mapping[str, Target] | None = None,
    causal: AttentionSampling | None = None,
) -> list[Question]:
    """A question for each request for text, in order; requests for the same row are its samples.

    rows: by task. sampling, causal: whose attention is measured, and what else, in the first sample of each row.
    targets: by task, where the catalog does not tell them.
    """
    doc_ids: dict[str, dict[str, int]] = {}
    for request in requests:
        _, _, _, doc_id, task, _ = request.args
        doc_ids.setdefault(task, {})[str(doc_id)] = doc_id
    measured, also = (
        {task: {of[row] for row in chosen.chosen(list(of))} if chosen else set() for task, of in doc_ids.items()}
        for chosen in (sampling, causal)
    )
    plain: dict[tuple[str, str], datasets.Dataset] = {}
    seen: Counter[tuple[str, int]] = Counter()
    questions = []
    for request in requests:
        _, doc_to_messages, _, doc_id, task, split = request.args
        sample = seen[task, doc_id]
        seen[task, doc_id] += 1
        if (task, split) not in plain:
            plain[task, split] = _without_images(task, rows[task][split])
        row = partial(plain[task, split].__getitem__, doc_id)
        target = (targets or {}).get(task, partial(_target, task))
        questions.append(
            Question(
                row_id=_row_id(task, doc_id, row),
                chat=partial(_chat, doc_to_messages, rows[task][split], doc_id),
                task=task,
                sample=sample,
                measured=sample == 0 and doc_id in measured[task],
                causal=sample == 0 and doc_id in also[task],
                judging=Judging(get_judge(task), row, grader_version(task)) if is_judged(task) else None,
                reference=partial(_reference, target, row),
            )
        )
    return questions


def _chat(doc_to_messages: Callable[[Any], Any], rows: datasets.Dataset, doc_id: int) -> Chat:
    chat: Chat = ChatMessages(messages=doc_to_messages(rows[doc_id])).to_hf_messages()
    return chat


def _row_id(task: str, doc_id: int, row: Callable[[], Mapping[str, Any]]) -> str:
    """A row's name: its number in a task of lmms-eval's form."""
    entry = catalog().get(task)
    return entry.row_id(row()) if entry and entry.form == "avar-eval" else str(doc_id)


def _target(task: str, row: Mapping[str, Any]) -> str | None:
    entry = catalog().get(task)
    return gold_answer(task, row) if entry and entry.form == "avar-eval" else None


def _reference(target: Target, row: Callable[[], Mapping[str, Any]]) -> str | None:
    return target(row())


def _without_images(task: str, rows: datasets.Dataset) -> datasets.Dataset:
    entry = catalog().get(task)
    pictures = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    return rows.remove_columns(list({*pictures, *(entry.images if entry else ())}))
