"""Progress: it moves within a batch, its estimate is honest, and a narrow terminal cuts no number."""

import io
import statistics
import time

import pytest
import torch
from rich.console import Console

from avar_eval import progress
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.decoding import Decoding
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.progress import Bar


class Clock:
    """A clock that only tests move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_time_left_is_that_of_finished_items_and_counts_down(clock: Clock) -> None:
    bar = Bar("questions", 100, done=20, shown=False)
    assert bar.seconds_left(clock.now) is None
    clock.now += 40
    bar.advance(8)
    assert bar.seconds_left(clock.now) == pytest.approx(72 * 5)
    clock.now += 10
    assert bar.seconds_left(clock.now) == pytest.approx(72 * 5 - 10)
    clock.now += 600  # a batch far longer than the one before: all others are still to come
    assert bar.seconds_left(clock.now) == pytest.approx(64 * 5)


def test_before_anything_is_finished_the_time_is_the_most_that_it_can_take(clock: Clock) -> None:
    bar = Bar("questions", 20, shown=False)
    clock.now += 10
    bar.tokens(100, 4096, 8)
    assert bar.seconds_left(clock.now) == pytest.approx((3 * 4096 - 100) * 0.1)
    said = " ".join(bar._parts(clock.now).values())
    assert "0/20" in said
    assert "token 100 of at most 4,096" in said
    assert "at most 20 min 19 s left" in said


def test_lines_come_within_a_batch_where_there_is_no_terminal(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("questions", 16) as bar:
        for step in range(1, 4097):
            clock.now += 0.0625
            bar.tokens(step, 4096, 8)
        bar.advance(8)
        bar.advance(8)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 26
    assert lines[0].startswith("questions: 0/16, token 160 of at most 4,096, at most ")
    assert lines[-1].startswith("questions: 16/16")
    assert not any("\r" in line or "\x1b" in line for line in lines)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_a_line_fits_its_terminal_and_no_number_is_cut(width: int, clock: Clock) -> None:
    bar = Bar("attention of earlier responses", 12_345, shown=False)
    clock.now += 3600
    bar.advance(1_000)
    bar.tokens(1_234, 4_096, 8)
    text = io.StringIO()
    Console(file=text, width=width, color_system=None, force_terminal=True).print(bar)
    said = text.getvalue()
    assert all(len(line) <= width for line in said.splitlines())
    assert "…" not in said
    assert "1,000/12,345" in "".join(said.split("\n"))
    for piece in ("token 1,234 of at most 4,096", "11 h 20 min left", "16.7/min"):
        words = [word for word in piece.split() if word[0].isdigit()]
        if any(word in said for word in words):
            assert all(word in said for word in words), said


def test_counting_tokens_changes_no_text_and_takes_no_time(model_inputs: tuple[TransformersBackend, object]) -> None:
    backend, inputs = model_inputs
    decoding = Decoding(max_new_tokens=24, temperature=1.0)
    keys = ["00ff" * 16, "11ee" * 16]
    seen: list[tuple[int, int, int]] = []
    plain = backend.generate(inputs, decoding, keys)
    backend.on_token = lambda *counted: seen.append(counted)
    assert backend.generate(inputs, decoding, keys) == plain
    longest = max(len(one.token_ids) for one in plain)
    assert seen == [(step, 24, 2) for step in range(1, longest + 1)]
    # what a token costs more: the call alone, against a token of the smallest model that there is
    with Bar("questions", 8, shown=False) as bar:
        calls = []
        for _ in range(5):
            start = time.perf_counter()
            for step in range(1000):
                bar.tokens(step, 4096, 8)
            calls.append((time.perf_counter() - start) / 1000)
    backend.on_token = None
    start = time.perf_counter()
    backend.generate(inputs, decoding, keys)
    token = (time.perf_counter() - start) / longest
    print(f"{1e6 * statistics.median(calls):.2f} µs of {1e6 * token:.0f} µs a token")
    assert statistics.median(calls) < 0.01 * token


@pytest.fixture(scope="module")
def model_inputs() -> tuple[TransformersBackend, object]:
    from PIL import Image

    backend = TransformersBackend(resolve_checkpoint("avar-tiny"), device="cpu")
    chat = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many red objects are there?"}]}
    ]
    prompt = backend.render(chat)
    picture = Image.new("RGB", (56, 56), "red")
    torch.set_num_threads(1)
    return backend, backend.encode([prompt, prompt], [[picture], [picture]])
