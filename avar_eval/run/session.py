"""A model and its record book: questions go in, records come out, and what is recorded is not asked again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, cast

from avar_eval.attention.steering import Steering
from avar_eval.cluster.driver import Driver
from avar_eval.cluster.here import Here
from avar_eval.cluster.jobs import Plan, Steps
from avar_eval.cluster.ray_workplace import Opening, join_cluster
from avar_eval.errors import AvarError, UsageError
from avar_eval.in_words import code_fault
from avar_eval.models.backend import Backend, BackendError
from avar_eval.models.checkpoint import weights_sha256
from avar_eval.models.decoding import Decoding
from avar_eval.models.open_backend import open_backend
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.models.vllm_backend import VllmBackend
from avar_eval.pictures import UNREADABLE, image_sha256, picture_fault, whole_pictures_only
from avar_eval.progress import Bar
from avar_eval.ranks import Ranks
from avar_eval.records.book import AT_ONCE, RecordBook, RecordBookError
from avar_eval.records.causal import CausalRecord, Images
from avar_eval.records.journal import Journal
from avar_eval.records.record import Record, protocol_id, record_key
from avar_eval.results.causal import BLIND, PASSES, SWAPPED
from avar_eval.run.answering import answer_batch, answer_question, answer_streaming
from avar_eval.run.asking import Asking
from avar_eval.run.batches import Batch, Batching
from avar_eval.run.cards import asking_card
from avar_eval.run.causal import Altered, add_passes, altered_questions
from avar_eval.run.measuring import measure_recorded
from avar_eval.run.model import ResolvedModel, resolve
from avar_eval.run.questions import Question, RenderedQuestion, load_pictures, with_system_prompt
from avar_eval.run.responses import Refusals, Responses, judged
from avar_eval.terminal import note

if TYPE_CHECKING:
    from avar_eval.models.api_backend import ApiBackend


_OF_TASKS: Final = {"limit", "data_dir", "allow_outside", "attention_samples", "vas_queries", "causal_samples"}
"""What is chosen among the questions of tasks."""


class Session:
    """Asks a model questions and records each response as soon as it is there; a killed session goes on where it was.

    Attributes: model, and how it is asked; checkpoint; backend; observer, which measures attention (None where nothing
    can); weights, their SHA-256 (None where they are out of reach); steering; ranks; and book, the record book.

    Examples:
        Two questions of one's own, without any benchmark:

        >>> from functools import partial
        >>> from PIL import Image
        >>> from avar_eval import Question, Session, user_turn
        >>> picture = Image.new("RGB", (112, 112), "red")
        >>> asked = ["How many circles are there?", "Is the picture red?"]
        >>> questions = [Question(str(n), partial(user_turn, text, picture)) for n, text in enumerate(asked)]
        >>> with Session.of("avar-tiny", folder, max_new_tokens=64) as session:
        ...     responses = session.ask(questions)
        >>> [(record.row_id, record.finish_reason, record.attention.user.tokens > 0) for record in responses.records]
        [('0', 'stop', True), ('1', 'stop', True)]
    """

    def __init__(self, model: ResolvedModel, output: Path, ranks: Ranks | None = None) -> None:
        """Open a model and the record book in the folder `output`; weights are loaded when they are first needed.

        ranks: this process among those that answer together, each of them given all questions.
        """
        self.model = model
        asking = model.asking
        cluster = None if asking.cluster is None else join_cluster(asking.cluster, model.backend, asking.device, ranks)
        opened = open_backend(
            model.source,
            model.options,
            device="cpu" if cluster else asking.device,
            dtype=asking.dtype or (cluster.dtype(asking.device) if cluster else None),
            steering=asking.steering,
            image_limits=model.image_limits,
        )
        self.checkpoint, self.backend, self.observer = opened
        self.weights = weights_sha256(self.observer.checkpoint) if self.observer else None
        self.ranks = ranks or Ranks()
        cross_attention = self.observer is not None and self.observer.markup.format.cross_attention
        self._work: Here | Driver[list[Record]] | None = Here(self.observer) if self.observer else None
        if cluster is not None:
            assert self.observer is not None
            assert self.weights is not None
            opening = Opening.of(model.source, model.options, asking.device, self.observer, self.weights)
            self._work = Driver(cluster.workplace(opening, asking.cluster_workers))
        self._batching = Batching(model.batch_size, cross_attention, self.ranks)
        # Last, so that an error before it leaves no folder locked.
        self.book = self._open_book(output)
        if self.backend.name == "api":
            answers = chain(self.book, self.book.altered if self.model.asking.causal == "full" else ())
            cast("ApiBackend", self.backend).recall(record.usage for record in answers if record.usage)

    @classmethod
    def of(cls, model: str, output: str | Path, **asking: Any) -> "Session":
        """A session with a model by its name, asked as the fields of `Asking.of` say. Raises UsageError."""
        if of_tasks := sorted(_OF_TASKS & asking.keys()):
            raise UsageError(
                f"{of_tasks[0]}: a session asks the questions that it is given, `avar_eval.evaluate` those of tasks"
            )
        return cls(resolve(Asking.of(model=model, **asking)), Path(output).expanduser())

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the record book, and of workers on a cluster; the session is over."""
        try:
            if self._work is not None:
                self._work.close()
        finally:
            self.book.close()

    @property
    def steering(self) -> Steering | None:
        """What the model is steered by."""
        return (self.observer or cast("ApiBackend", self.backend)).steering

    def steer(self, steering: Steering | None) -> None:
        """Steer by this from now on. Raises UsageError for a backend that is steered in one way as long as it runs."""
        if not isinstance(self.backend, TransformersBackend):
            raise UsageError(f"{self.backend.name} cannot change how it steers: use --backend transformers")
        self.backend.steering = steering

    def steering_identity(self) -> dict[str, Any] | None:
        """What the model is steered by, as it stands in record keys and in the protocol."""
        return None if self.steering is None else self.steering.identity()

    def protocol(self) -> dict[str, Any]:
        """How the model is asked: all that is known of it before it is."""
        return {
            "model": self.model.name,
            "revision": self.checkpoint.revision,
            "weights_sha256": self.weights,
            "dtype": self.backend.dtype,
            "attn_implementation": self.observer.attn_implementation if self.observer else None,
            "backend": {"backend": self.backend.name, **self.backend.identity()},
            **asking_card(self.model),
            "steering": self.steering_identity(),
        } | ({"image_limits": asdict(self.model.image_limits)} if self.model.image_limits else {})

    def ask(
        self,
        questions: Sequence[Question],
        decoding: Decoding | None = None,
        protocol: Mapping[str, Any] | None = None,
        recorded_only: bool = False,
    ) -> Responses:
        """The records of all questions, from the book or from the model; by then each is in the book.

        decoding: how responses are drawn (None: as the model's are). protocol: all that is known of how the run asks,
        which new records name (None: what the session knows of it). recorded_only: whether a question without a record
        is an error, a UsageError: the model is asked otherwise than it was.

        Questions that cannot be read, or that the model's server refuses, are left out and named. Raises BackendError
        if these are more than `may_refuse`, and what loading and answering raise; the book holds all that was answered.
        """
        if self.book.closed:
            raise UsageError("this session is closed: open another one in the same folder, it goes on where this was")
        drawn = decoding or self.model.decoding
        refusals = Refusals(len(questions))
        asked_by = self.protocol() if protocol is None else protocol
        name = protocol_id(asked_by)
        rendered = [self._rendered(question, drawn, name, refusals) for question in questions]
        readable = [asked for asked in rendered if asked]
        if recorded_only and (new := [asked for asked in readable if asked.key not in self.book]):
            raise UsageError(
                f"{self.book.path.parent} has no record of {len(new)} questions as they are asked here, such as row "
                f"{new[0].question.row_id} of {new[0].question.task}: the model, its data or how it is asked is not "
                "what the run had"
            )
        if any(asked.key not in self.book for asked in readable):
            self.book.keep_protocol(asked_by)
        if isinstance(self.backend, VllmBackend):
            self.backend.on_restart = partial(self.book.add_note, name)
        self._answer_missing(readable, drawn, refusals, self.book)
        altered = self._ask_altered(readable, drawn, name)
        if not isinstance(self.backend, TransformersBackend):
            self.backend.release()
        self._sync_ranks()
        refusals.gather(self.ranks)
        answered = [asked for asked in readable if not self._is_refused(asked, refusals)]
        if len(answered) < len(questions) and self.ranks.first:
            note(
                f"warning: {len(questions) - len(answered)} of {len(questions)} questions are refused and have no "
                "answer; the same command asks them again"
            )
        self._measure_missing(answered)
        self._add_missing_passes(answered)
        records = self._judged(answered, altered)
        by_question = [records.get(asked.key) if asked else None for asked in rendered]
        return Responses(by_question, refusals.reasons)

    def _open_book(self, folder: Path) -> RecordBook:
        """The record book, the first rank's before the others', which read it."""
        if not self.ranks.first:
            self.ranks.barrier()
        book = RecordBook(folder, self.ranks.rank)
        if self.ranks.first:
            self.ranks.barrier()
        return book

    def _sync_ranks(self) -> None:
        """Everything that any rank has written goes into the book, and into every rank's view of it."""
        if self.ranks.count == 1:
            return
        self.ranks.barrier()
        if self.ranks.first:
            self.book.take_in_ranks()
        self.ranks.barrier()
        if not self.ranks.first:
            self.book.read_first()
        self.ranks.barrier()

    @property
    def blind_images(self) -> Images:
        """What takes the images' place in blind questions: grey of their size, or nothing where no size is known."""
        return "removed" if self.backend.name == "api" else "grey"

    def causal_columns(self) -> tuple[str, ...]:
        """The causal columns that can be had of this model, and were asked for."""
        wanted = self.model.asking.causal
        passes = PASSES if self.observer is not None and wanted != "off" else ()
        if wanted != "full":
            return passes
        return passes + BLIND + (() if self.blind_images == "removed" else SWAPPED)

    def _ask_altered(
        self, questions: Sequence[RenderedQuestion], decoding: Decoding, asked_by: str
    ) -> dict[str, list[tuple[Altered, RenderedQuestion]]]:
        """Ask questions with other images, which needs no answer to the questions themselves; by their records' keys.

        What is refused of them is missing from their columns alone.
        """
        chosen = [asked for asked in questions if asked.question.causal]
        if self.model.asking.causal != "full" or not chosen:
            return {}
        altered = altered_questions(chosen, self.blind_images, self.blind_images == "grey", decoding.seed)
        found: dict[str, list[tuple[Altered, RenderedQuestion]]] = {}
        for one, asked in zip(altered, self._answer_altered(altered, decoding, asked_by), strict=True):
            if asked is not None:
                found.setdefault(one.of, []).append((one, asked))
        return found

    def recorded_batches(
        self, questions: Sequence[Question], decoding: Decoding
    ) -> list[list[tuple[RenderedQuestion, Record]]]:
        """Questions with an image and a record, with the record as it lies in the book, batched as they are asked."""
        name, refusals = protocol_id(self.protocol()), Refusals(len(questions))
        rendered = [self._rendered(question, decoding, name, refusals) for question in questions]
        known = [asked for asked in rendered if asked and asked.image_sha256 and asked.key in self.book]
        return [[(asked, self._recorded(asked)) for asked in batch] for batch in self._batching.shard(known)]

    def ask_altered(self, altered: Sequence[Altered], decoding: Decoding) -> list[Record | None]:
        """The records of questions with other images, judged; None where one was refused."""
        asked = self._answer_altered(altered, decoding, protocol_id(self.protocol()))
        if not isinstance(self.backend, TransformersBackend):
            self.backend.release()
        self._sync_ranks()
        answers = [None if one is None else self.book.altered.get(one.key) for one in asked]
        return [None if of is None else judged(of, one.question) for of, one in zip(answers, altered, strict=True)]

    def _answer_altered(
        self, altered: Sequence[Altered], decoding: Decoding, asked_by: str
    ) -> list[RenderedQuestion | None]:
        """Ask those that are not in `altered.jsonl` yet; None for those that cannot be read."""
        refusals = Refusals(len(altered))
        rendered = [self._rendered(one.question, decoding, asked_by, refusals, one.images) for one in altered]
        self._answer_missing([asked for asked in rendered if asked], decoding, refusals, self.book.altered)
        return rendered

    def _rendered(
        self,
        question: Question,
        decoding: Decoding,
        asked_by: str,
        refusals: Refusals,
        altered: str | None = None,
    ) -> RenderedQuestion | None:
        """The question as the model is asked it; None for one that cannot be read, which is then refused.

        altered: what it has in the place of its images, if it is asked with others.
        """
        try:
            with whole_pictures_only():
                chat = with_system_prompt(question.chat(), self.model.system_prompt, self.model.instruction)
                images = tuple(image_sha256(image) for image in load_pictures(question, chat))
            prompt = self.backend.render(chat)
            fault = None
        except (BackendError, *UNREADABLE) as error:
            fault = picture_fault(error)
        except AvarError:
            raise
        except Exception as error:  # the code of a task, which anyone may write
            fault = code_fault(error)
        if fault is not None:
            refusals.add(question.task, question.row_id, fault)
            refusals.left()
            return None
        key = record_key(
            task=question.task,
            row=question.row_id,
            sample=question.sample,
            prompt=prompt,
            images=images,
            weights=self.weights,
            dtype=self.backend.dtype,
            decoding=decoding.identity(),
            steering=self.steering_identity(),
            **self.backend.identity(),
            **({"altered": altered} if altered else {}),
        )
        return RenderedQuestion(question, key, prompt, images, asked_by)

    def _is_refused(self, asked: RenderedQuestion, refusals: Refusals) -> bool:
        return asked.key not in self.book and asked.question.row_id in refusals.reasons.get(asked.question.task, {})

    def _answer_missing(
        self,
        questions: Sequence[RenderedQuestion],
        decoding: Decoding,
        refusals: Refusals,
        answers: Journal[Record],
    ) -> None:
        """Ask what is not in `answers`: the book, or its journal of answers to questions with other images."""
        missing = [asked for asked in questions if asked.key not in answers]
        if missing:
            self._load(self.backend)  # before the clock of the bar starts
        done, own = len(questions) - len(missing), -(-len(missing) // self.ranks.count)
        what = "questions" if answers is self.book else "questions with other images"
        what += "" if self.ranks.count == 1 else f" of the first of {self.ranks.count} processes"
        with Bar(what, done + own, done, shown=self.ranks.first) as bar:
            if isinstance(self.backend, TransformersBackend):
                self.backend.on_token = bar.tokens
                how = decoding, self.steering, self.book, answers, refusals, self.model.asking.knockout_windows
                batches = self._batching.unanswered(questions, answers)
                answered = self._computed([_plan(batch, partial(answer_batch, batch, *how)) for batch in batches])
            elif isinstance(self._work, Driver):
                plans = [_plan([asked], partial(answer_question, asked, decoding, refusals)) for asked in missing]
                answered = self._computed(plans)
            else:
                answered = answer_streaming(self.backend, decoding, missing, refusals)
            for records in answered:
                if records:
                    answers.append(records)
                if any(record.causal for record in records):
                    self.book.drop_waiting()
                bar.advance(len(records))
        if isinstance(self.backend, TransformersBackend):
            self.backend.on_token = None

    def _computed(self, plans: Sequence[Plan[list[Record]]]) -> Iterator[list[Record]]:
        """The records that plans end with, as they come; those that come together are written together."""
        assert self._work is not None
        for ended in self._work.run(plans):
            yield [record for records in ended for record in records]

    def _measure_missing(self, questions: Sequence[RenderedQuestion]) -> None:
        """Measure the attention of responses whose records lack it."""
        if self.observer is None:
            return
        unmeasured = [
            asked for asked in questions if asked.question.measured and self._recorded(asked).attention is None
        ]
        if not unmeasured:
            return
        self._load(self.observer)
        batches = self._batching.shard(unmeasured)

        def measured(batch: Batch) -> Steps[list[Record]]:
            records = [self._recorded(asked) for asked in batch]
            return (yield from measure_recorded(self.book, batch, records, self.steering))

        with Bar("attention of earlier responses", sum(map(len, batches)), shown=self.ranks.first) as bar:
            for records in self._computed([_plan(batch, partial(measured, batch)) for batch in batches]):
                self.book.append(records)
                bar.advance(len(records))
        self._sync_ranks()

    def _add_missing_passes(self, questions: Sequence[RenderedQuestion]) -> None:
        """Causal passes over responses whose records lack them.

        After a kill in batches of the same make-up as before it: padding changes the last digits.
        """
        chosen = [asked for asked in questions if asked.question.causal and asked.image_sha256]
        if self.observer is None or self.model.asking.causal == "off":
            return
        windows = self.model.asking.knockout_windows
        lacking = {asked.key for asked in chosen if not self._has_passes(asked, windows)}
        if not lacking:
            return
        self._load(self.observer)
        batches = [batch for batch in self._batching.shard(chosen) if any(asked.key in lacking for asked in batch)]

        def passed(batch: Batch) -> Steps[list[Record]]:
            records = [self._recorded(asked) for asked in batch]
            found = yield from add_passes(self.steering, self.book, batch, records, windows)
            return [record for record in found if record.key in lacking]

        own = sum(asked.key in lacking for batch in batches for asked in batch)
        with Bar("causal passes over earlier responses", own, shown=self.ranks.first) as bar:
            for records in self._computed([_plan(batch, partial(passed, batch)) for batch in batches]):
                self.book.append(records)
                bar.advance(len(records))
        self._sync_ranks()

    def _has_passes(self, asked: RenderedQuestion, windows: int) -> bool:
        """Whether they are done, or never can be: nothing is known of the tokens of some endpoints' responses."""
        record = self._recorded(asked)
        return not record.response_token_ids or (record.causal is not None and record.causal.holds(windows))

    def _judged(
        self,
        questions: Sequence[RenderedQuestion],
        altered: Mapping[str, Sequence[tuple[Altered, RenderedQuestion]]],
    ) -> dict[str, Record]:
        """The questions' records by key, without token ids; judgements that older rules made are made anew.

        They have the answers to `altered` questions, by the key of their own. Of 20,000 records the token ids are a
        gigabyte, and attention that only an earlier run asked for is not theirs.
        """
        records: dict[str, Record] = {}
        changed: list[Record] = []
        for asked in questions:
            before = self._recorded(asked)
            record = self._with_altered(judged(before, asked.question), altered.get(asked.key, ()))
            if record != before and self.ranks.first:
                changed.append(record)
            if len(changed) == AT_ONCE:
                self.book.append(changed)
                changed = []
            unneeded: dict[str, Any] = {"prompt_token_ids": [], "response_token_ids": []}
            unneeded |= {} if asked.question.measured else {"attention": None}
            unneeded |= {} if asked.question.causal else {"causal": None}
            records[asked.key] = record.model_copy(update=unneeded)
        if changed:
            self.book.append(changed)
        self._sync_ranks()
        return records

    def _with_altered(self, record: Record, altered: Sequence[tuple[Altered, RenderedQuestion]]) -> Record:
        """The record with the answers to its question with other images, as today's rules judge them."""
        causal = record.causal or CausalRecord()
        for one, asked in altered:
            answer = self.book.altered.get(asked.key)
            if answer is not None:  # it may have been refused
                name = "swap" if one.images == "swapped" else "blind"
                causal = causal.model_copy(update={name: one.record(judged(answer, asked.question))})
        return record if causal == (record.causal or CausalRecord()) else record.model_copy(update={"causal": causal})

    def _recorded(self, asked: RenderedQuestion) -> Record:
        record = self.book.get(asked.key)
        question = asked.question
        if record is None:
            raise KeyError(f"{question.task} {question.row_id} has not been asked")
        if (record.task, record.row_id) != (question.task, question.row_id):
            raise RecordBookError(
                f"{self.book.path}: the record {asked.key} is of {record.task}, row {record.row_id}, and its key of "
                f"{question.task}, row {question.row_id}: delete that line, and run the same command again"
            )
        return record

    def _load(self, backend: Backend) -> None:
        """Make a backend ready; where a cluster computes, its workers do."""
        if not isinstance(self._work, Driver):
            backend.load()


def _plan(batch: Batch, steps: Callable[[], Steps[list[Record]]]) -> Plan[list[Record]]:
    """What is to be done with a batch, which is of its questions' tasks."""
    return Plan(steps, tuple(sorted({asked.question.task for asked in batch})))
