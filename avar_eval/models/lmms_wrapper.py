"""Our lmms-eval model: asks the record book first, and appends what is missing as soon as a backend has answered it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import datasets
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages
from PIL.Image import Image

from avar_eval.answers import FinishReason
from avar_eval.attention.record import AttentionRecord
from avar_eval.attention.steering import Steering, parse_steering
from avar_eval.attention.summary import AttentionSummary
from avar_eval.models.answer_format import Replacement, instruction_for, with_instruction
from avar_eval.models.backend import BackendError, Generation, Refusal
from avar_eval.models.backend_options import BackendName
from avar_eval.models.checkpoint import weights_sha256
from avar_eval.models.concurrency import too_many_refused
from avar_eval.models.decoding import decoding_for
from avar_eval.models.open_backend import open_backend
from avar_eval.models.registry import choose_backend, find_model
from avar_eval.models.transformers_backend import TransformersBackend, check_prompts
from avar_eval.names import run_name
from avar_eval.pictures import UNREADABLE, whole_pictures_only
from avar_eval.progress import Bar
from avar_eval.ranks import Ranks
from avar_eval.records.attention import ATTENTION_NAME, append_lines, take_in_ranks
from avar_eval.records.book import AT_ONCE, RecordBook, RecordBookError
from avar_eval.records.record import JudgementRecord, Record, Response, record_key
from avar_eval.refusals import may_refuse
from avar_eval.tasks.catalog import catalog, is_judged, judge_of
from avar_eval.terminal import note

if TYPE_CHECKING:
    from avar_eval.models.api_backend import ApiBackend


@dataclass(frozen=True)
class Question:
    """One request, known by what decides its response.

    row() reads the row without its images; images() decodes them anew, so that only a batch's are in memory.
    """

    key: str
    task: str
    row_id: str
    sample: int
    prompt: str
    row: Callable[[], Mapping[str, Any]]
    images: Callable[[], list[Image]]
    image_count: int
    measured: bool


@dataclass(frozen=True)
class AttentionSampling:
    """Whose attention is measured: `samples` rows a task (0: none, None: all), chosen by a hash, not by order."""

    samples: int | None
    seed: int = 0

    def chosen(self, row_ids: Sequence[str]) -> set[str]:
        """The rows to measure."""
        ranked = sorted(row_ids, key=lambda row: hashlib.sha256(f"{self.seed}:{row}".encode()).digest())
        return set(ranked[: self.samples])


class Avar(lmms):  # type: ignore[misc]
    """`lmms-eval --model avar --model_args pretrained=avar-tiny`, and the model that `avar-eval` runs.

    pretrained: registered name, local folder or hub repository, or the name that an endpoint knows. backend: see
    `avar_eval.models.backend`; by default the model's. output: folder of the record book. decoding: as in
    `avar_eval.models.decoding`; given one by one for lmms-eval's --model_args. attention_samples: rows a task whose
    attention is measured, 0 for none. steering: or its text, such as a preset's name. name: what the model is called in
    results, by default as `pretrained`. backend_options: the fields of `ApiOptions` or `VllmOptions`. ranks: this
    process among those that answer together, each of them given all requests.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str = "avar-tiny",
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | str | None = None,
        system_prompt: str | None = None,
        output: str | None = None,
        attention_samples: int | None = 200,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        repetition_penalty: float | None = None,
        max_new_tokens: int | None = None,
        seed: int = 0,
        samples: int = 1,
        max_batch_size: int | None = None,
        steering: Steering | str | None = None,
        backend: BackendName | None = None,
        name: str | None = None,
        ranks: Ranks | None = None,
        **backend_options: Any,
    ) -> None:
        super().__init__()
        entry = find_model(pretrained)
        steering = parse_steering(steering) if isinstance(steering, str) else steering
        chosen = choose_backend(entry, backend)
        opened = open_backend(chosen, pretrained, device, dtype, steering, backend_options)
        self.checkpoint, self.backend, self.observer = opened
        if name is not None:
            self.checkpoint = replace(self.checkpoint, name=name)
        self.weights = weights_sha256(self.observer.checkpoint) if self.observer else None
        self.instruction = instruction_for(entry)
        default_system = entry.system_prompt if entry else None
        self.system_prompt = default_system if system_prompt is None else system_prompt
        self.batch_size = int(batch_size or (entry.batch_size if entry else 16))
        if max_batch_size is not None:
            self.batch_size = min(self.batch_size, int(max_batch_size))
        self.decoding = decoding_for(
            entry,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            max_new_tokens=max_new_tokens,
            seed=seed,
            samples=samples,
        )
        self.attention = AttentionSampling(attention_samples if self.observer else 0, seed)
        self.asked: dict[str, list[Record]] = {}
        self.refused: dict[str, dict[str, str]] = {}
        self._plain_rows: dict[str, Any] = {}
        # Last, so that an error before it leaves no folder locked.
        self.ranks = ranks or Ranks()
        self.book = self._open_book(Path(output or f"avar-runs/{run_name(pretrained)}"))
        if self.backend.name == "api":
            cast("ApiBackend", self.backend).recall(record.usage for record in self.book if record.usage)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError("avar answers with generated text: choose a task of output_type generate_until")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError("avar answers in one turn: choose a task of output_type generate_until")

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The responses to all requests, in their order; each is in the record book by then.

        Of a question that cannot be read or that the model's server refuses it is an empty text, and `refused` holds
        the reason: task -> row's id -> reason. Raises BackendError if these are more than `may_refuse`.
        """
        every = self._questions(requests)
        asked = [question for question in every if question is not None]
        self._ask_missing(asked, len(every))
        self._settle()
        for refused in self.ranks.gathered(self.refused):
            for task, reasons in refused.items():
                self.refused.setdefault(task, {}).update(reasons)
        self._refusals_left(len(every))
        questions = [question for question in asked if not self._is_refused(question)]
        if len(questions) < len(every) and self.ranks.first:
            note(
                f"warning: {len(every) - len(questions)} of {len(every)} questions are refused and have no answer; the "
                "same command asks them again"
            )
        unmeasured = [question for question in questions if question.measured and self._lacks_attention(question)]
        if unmeasured:
            self._measure_missing(unmeasured)
            self._settle()
        if self.ranks.first:
            self._judge_again(questions)
        self._settle()
        records = {question.key: self._reported(question) for question in questions}
        for request in requests:
            self.asked.setdefault(request.args[4], [])
        for record in records.values():
            self.asked[record.task].append(record)
        return [Response(records[one.key]) if one is not None and one.key in records else "" for one in every]

    def _open_book(self, folder: Path) -> RecordBook:
        """The record book, the first rank's before the others', which read it."""
        if not self.ranks.first:
            self.ranks.wait()
        book = RecordBook(folder, self.ranks.rank)
        if self.ranks.first:
            take_in_ranks(folder)
            self.ranks.wait()
        return book

    def _refusals_left(self, questions: int) -> int:
        """How many of so many questions may still be refused. Raises BackendError if too many are."""
        reasons = [reason for of in self.refused.values() for reason in of.values()]
        left = may_refuse(questions) - len(reasons)
        if left < 0:
            raise too_many_refused(len(reasons), reasons[-1])
        return left

    def _refuse(self, task: str, row_id: str, reason: str) -> None:
        self.refused.setdefault(task, {})[row_id] = reason

    def _ask_missing(self, questions: Sequence[Question], all_questions: int) -> None:
        missing = [question for question in questions if question.key not in self.book]
        if missing:
            self.backend.load()  # before the clock of the bar starts
        done, own = len(questions) - len(missing), -(-len(missing) // self.ranks.count)
        what = "questions" if self.ranks.count == 1 else f"questions of the first of {self.ranks.count} processes"
        with Bar(what, done + own, done, shown=self.ranks.first) as bar:
            for records in self._answered(questions, missing, all_questions):
                if records:
                    self.book.append(records)
                bar.advance(len(records))

    def _measure_missing(self, unmeasured: Sequence[Question]) -> None:
        self._observer().load()
        batches = self.ranks.lane(list(self._batches(unmeasured)))
        with Bar("attention of earlier responses", sum(map(len, batches)), shown=self.ranks.first) as bar:
            for batch in batches:
                self.book.append(self._measure_again(batch))
                bar.advance(len(batch))

    def _settle(self) -> None:
        """Everything that any rank has written into the book, and into every rank's view of it."""
        if self.ranks.count == 1:
            return
        self.ranks.wait()
        if self.ranks.first:
            take_in_ranks(self.book.path.parent)
            self.book.take_in_ranks()
        self.ranks.wait()
        if not self.ranks.first:
            self.book.read_first()
        self.ranks.wait()

    def steering_identity(self) -> dict[str, Any] | None:
        """What the model is steered by, as it stands in record keys and in the protocol."""
        steering = (self.observer or cast("ApiBackend", self.backend)).steering
        return None if steering is None else steering.identity()

    def _answered(
        self, questions: Sequence[Question], missing: Sequence[Question], all_questions: int
    ) -> Iterator[list[Record]]:
        """New records, as they are finished: batches with their attention, or one by one, to be measured later."""
        if isinstance(self.backend, TransformersBackend):
            for batch in self._batches_to_answer(questions):
                readable, inputs = self._readable(batch)
                self._refusals_left(all_questions)
                answered = self._answer(self.backend, readable, inputs) if readable else []
                yield [record for record in answered if record.key not in self.book]
        elif missing:
            for number, answer in self.backend.answer(missing, self.decoding, self._refusals_left(all_questions)):
                if isinstance(answer, Refusal):
                    self._refuse(missing[number].task, missing[number].row_id, answer.reason)
                else:
                    yield [_record(missing[number], answer, None)]
            self.backend.release()

    def _observer(self) -> TransformersBackend:
        if self.observer is None:
            raise ValueError("attention is to be measured, and nothing can measure it")
        return self.observer

    def _is_refused(self, question: Question) -> bool:
        return question.key not in self.book and question.row_id in self.refused.get(question.task, {})

    def _recorded(self, question: Question) -> Record:
        record = self.book.get(question.key)
        if record is None:
            raise KeyError(f"{question.task} {question.row_id} has not been asked")
        if (record.task, record.row_id) != (question.task, question.row_id):
            raise RecordBookError(
                f"{self.book.path}: the record {question.key} is of {record.task}, row {record.row_id}, and its key of "
                f"{question.task}, row {question.row_id}: delete that line, and run the same command again"
            )
        return record

    def _reported(self, question: Question) -> Record:
        """The record without what results do not need: token ids, and attention that only an earlier run asked for."""
        record = self._recorded(question)
        unneeded: dict[str, Any] = {"prompt_token_ids": [], "response_token_ids": []}
        return record.model_copy(update=unneeded | ({} if question.measured else {"attention": None}))

    def _questions(self, requests: Sequence[Instance]) -> list[Question | None]:
        """The requests' questions; None for one whose pictures or text cannot be read, which is then refused."""
        measured = self._rows_to_measure(requests)
        seen: Counter[tuple[str, int]] = Counter()
        questions: list[Question | None] = []
        for request in requests:
            _, doc_to_messages, _, doc_id, task, split = request.args
            sample = seen[task, doc_id]
            seen[task, doc_id] += 1
            first = (task, doc_id) in measured and sample == 0
            try:
                questions.append(self._question(doc_to_messages, task, split, doc_id, sample, first))
            except (BackendError, *UNREADABLE) as error:
                questions.append(None)
                self._refuse(task, self._row_id(task, split, doc_id), str(error))
                self._refusals_left(len(requests))
        return questions

    def _row_id(self, task: str, split: str, doc_id: int) -> str:
        entry = catalog().get(task)
        ours = entry is not None and entry.form == "avar-eval"
        return entry.row_id(self._rows_without_images(task, split)[doc_id]) if entry and ours else str(doc_id)

    def _rows_to_measure(self, requests: Sequence[Instance]) -> set[tuple[str, int]]:
        rows: dict[str, dict[str, int]] = {}
        for request in requests:
            _, _, _, doc_id, task, _ = request.args
            rows.setdefault(task, {})[str(doc_id)] = doc_id
        return {(task, ids[row]) for task, ids in rows.items() for row in self.attention.chosen(list(ids))}

    def _question(
        self, doc_to_messages: Callable[[Any], Any], task: str, split: str, doc_id: int, sample: int, measured: bool
    ) -> Question:
        rows = self.task_dict[task][split]
        with whole_pictures_only():
            chat = _chat(doc_to_messages(rows[doc_id]), self.system_prompt, self.instruction)
        images, videos, sounds = chat.extract_media()
        if videos or sounds or not all(isinstance(image, Image) for image in images):
            raise BackendError(f"row {doc_id} of {task} has a video, a sound or a picture's address: not a picture")
        prompt = self.backend.render(chat.to_hf_messages())
        row_id = self._row_id(task, split, doc_id)
        key = record_key(
            task=task,
            row=row_id,
            sample=sample,
            prompt=prompt,
            images=[_image_sha256(image) for image in images],
            weights=self.weights,
            dtype=self.backend.dtype,
            decoding=self.decoding.identity(),
            steering=self.steering_identity(),
            **self.backend.identity(),
        )
        return Question(
            key=key,
            task=task,
            row_id=row_id,
            sample=sample,
            prompt=prompt,
            row=lambda: self._rows_without_images(task, split)[doc_id],
            images=lambda: _chat(doc_to_messages(rows[doc_id]), None).extract_media()[0],
            image_count=len(images),
            measured=measured,
        )

    def _rows_without_images(self, task: str, split: str) -> Any:
        if task not in self._plain_rows:
            entry = catalog().get(task)
            rows = self.task_dict[task][split]
            pictures = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
            self._plain_rows[task] = rows.remove_columns(list({*pictures, *(entry.images if entry else ())}))
        return self._plain_rows[task]

    def _lacks_attention(self, question: Question) -> bool:
        record = self.book.get(question.key)
        return record is not None and record.attention is None

    def _batches_to_answer(self, questions: Sequence[Question]) -> list[list[Question]]:
        """Batches of what is missing; after a kill the same as before it, so that the last batch may be begun.

        The rest of such a batch is computed together with what is recorded of it: in a batch of another make-up the
        padding changes attention in the last digits, and results would differ from those of an uninterrupted run. Of
        several ranks each has its own lane of batches, after a kill the same one.
        """
        batches = list(self._batches(questions))
        if all(self._is_begun(lane) for lane in self.ranks.lanes(batches)):
            lane = self.ranks.lane(batches)
            return [batch for batch in lane if any(question.key not in self.book for question in batch)]
        missing = [question for question in questions if question.key not in self.book]
        return self.ranks.lane(list(self._batches(missing)))

    def _is_begun(self, lane: Sequence[Sequence[Question]]) -> bool:
        """Whether all that is recorded of these batches comes before all that is not."""
        present = [question.key in self.book for batch in lane for question in batch]
        return all(present[: sum(present)])

    def _batches(self, questions: Sequence[Question]) -> Iterator[list[Question]]:
        """Batches of similar prompt length, longest first; the same whichever of the questions are to be measured."""
        ordered = sorted(questions, key=lambda question: (self._kind(question), -len(question.prompt), question.key))
        for _, group in groupby(ordered, key=self._kind):
            alike = list(group)
            for start in range(0, len(alike), self.batch_size):
                yield alike[start : start + self.batch_size]

    def _kind(self, question: Question) -> int:
        """What the questions of a batch must share: how many images they have, for some families."""
        return question.image_count if self._observer().markup.format.cross_attention else 0

    def _readable(self, batch: Sequence[Question]) -> tuple[Sequence[Question], Any]:
        """The questions of a batch that the model's processor can read, with their model inputs; others are refused."""
        try:
            return batch, self._encode(batch)
        except BackendError as error:
            if len(batch) == 1:
                self._refuse(batch[0].task, batch[0].row_id, str(error))
                return [], None
        readable = [question for question in batch if self._readable([question])[0]]
        return readable, self._encode(readable) if readable else None

    def _answer(self, backend: TransformersBackend, batch: Sequence[Question], inputs: Any) -> list[Record]:
        streams = [question.key for question in batch]
        attention: list[AttentionSummary | None] = [None] * len(batch)
        measured = [index for index, question in enumerate(batch) if question.measured]
        if measured:
            generations, found = backend.generate_measured(inputs, self.decoding, streams, measured)
            summaries = self._kept([batch[index] for index in measured], found)
            for index, summary in zip(measured, summaries, strict=True):
                attention[index] = summary
        else:
            generations = backend.generate(inputs, self.decoding, streams)
        return [_record(*parts) for parts in zip(batch, generations, attention, strict=True)]

    def _measure_again(self, batch: Sequence[Question]) -> list[Record]:
        records = [self._recorded(question) for question in batch]
        responses = [record.response_token_ids for record in records]
        inputs = self._encode(batch)
        check_prompts(inputs, [record.prompt_token_ids for record in records])
        attention = self._kept(batch, self._observer().measure(inputs, responses))
        return [
            record.model_copy(update={"attention": summary}) for record, summary in zip(records, attention, strict=True)
        ]

    def _kept(self, batch: Sequence[Question], measured: Sequence[AttentionRecord]) -> list[AttentionSummary]:
        """Keep a batch's attention: the details go to attention.jsonl, the summaries into the records."""
        folder = self.book.path.parent
        try:
            append_lines(folder, [question.key for question in batch], measured, self.ranks.rank)
        except OSError as error:
            raise self.book.cannot_append(folder / ATTENTION_NAME, error) from error
        return [record.summary() for record in measured]

    def _judge_again(self, questions: Sequence[Question]) -> None:
        """Judgements are a pure function of row and response: those of an older grader are made anew."""
        changed = []
        for question in questions:
            record = self._recorded(question)
            judgement = _judge(question, record.response, record.finish_reason)
            if judgement != record.judgement:
                changed.append(record.model_copy(update={"judgement": judgement}))
            if len(changed) == AT_ONCE:
                self.book.append(changed)
                changed = []
        if changed:
            self.book.append(changed)

    def _encode(self, batch: Sequence[Question]) -> Any:
        """Model inputs of a batch. Raises BackendError if one of its questions cannot be read."""
        try:
            with whole_pictures_only():
                images = [question.images() for question in batch]
        except UNREADABLE as error:
            raise BackendError(f"a picture cannot be read: {error}") from error
        return self._observer().encode([question.prompt for question in batch], images)


def _chat(
    messages: list[dict[str, Any]], system_prompt: str | None, instruction: Replacement | None = None
) -> ChatMessages:
    """lmms-eval's messages under a system prompt, the task's answer instruction replaced by the model's own."""
    if instruction is not None:
        messages = [with_instruction(message, instruction) for message in messages]
    if system_prompt is not None and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": [{"type": "text", "text": system_prompt}]}, *messages]
    return ChatMessages(messages=messages)


def _image_sha256(image: Image) -> str:
    return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()


def _record(question: Question, generation: Generation, attention: AttentionSummary | None) -> Record:
    return Record(
        key=question.key,
        task=question.task,
        row_id=question.row_id,
        sample=question.sample,
        prompt=question.prompt,
        prompt_token_ids=generation.prompt_token_ids,
        response_token_ids=generation.token_ids,
        response=generation.text,
        finish_reason=generation.finish_reason,
        judgement=_judge(question, generation.text, generation.finish_reason),
        attention=attention,
        usage=generation.usage,
        changed=dict(generation.changed) if generation.changed else None,
    )


def _judge(question: Question, response: str, finish_reason: FinishReason) -> JudgementRecord | None:
    if not is_judged(question.task):  # another project's lmms-eval task has metrics of its own
        return None
    return JudgementRecord(**judge_of(question.task)(question.row(), response, finish_reason).to_json())
