"""The three models of VARD, played on `shapes` scenes from what they are shown: an endpoint of this machine.

The describer sees pixels alone, finds the scene that has them, and tells some attribute of it wrongly as often as it is
told to. The reasoner reads the description alone, and answers what follows from it. The rewriter makes looks of marks.
"""

import base64
import hashlib
import json
import math
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any

from local_server import serve
from PIL import Image

from avar_eval.tasks.shapes.dataset import rows
from avar_eval.tasks.shapes.questions import DIRECTIONS, LETTERS, POINTING
from avar_eval.tasks.shapes.scene import ANGLES, COLORS, SHAPES, Cell, Content, Dial, Number, Object, Scene

_ELEMENT = re.compile(
    r"^- (?P<name>[^:\n]+): (?:number (?P<number>\d+)|dial (?P<angle>\d+)|(?P<color>\w+) (?P<shape>\w+))"
    r" at row (?P<row>\d) column (?P<column>\d)\.$",
    re.MULTILINE,
)
_REASONING = re.compile(r"<reasoning>\n(.*)\n</reasoning>", re.DOTALL)
_MARK = re.compile(r"(Wait, according to the description, |So )?\[LOOK: ([^\]]+)\] ")


@dataclass
class Actors:
    """wrong: the share of descriptions with a wrong attribute. delay: seconds a reply takes.

    spoil: what becomes of a reply before it is sent (model, text -> text). served: how often each request was answered,
    by its body. serials: the request of each reply, by the number that stands in its reasoning_content.
    """

    wrong: float = 0.0
    delay: float = 0.0
    seed: int = 0
    count: int = 100
    spoil: Callable[[str, str], str] = lambda model, text: text
    url: str = ""
    served: Counter[str] = field(default_factory=Counter)
    serials: dict[str, str] = field(default_factory=dict)
    stages: Counter[str] = field(default_factory=Counter)
    after_reply: Callable[[int], None] = lambda count: None
    keep: bool = True
    _scenes: dict[str, Scene] = field(default_factory=dict)
    _most: float = math.inf
    _allowed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        for row in rows("train", self.count, seed=self.seed):
            self._scenes[hashlib.sha256(row["image"].tobytes()).hexdigest()] = Scene.from_canonical(row["scene"])

    def reply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A chat completion."""
        content = body["messages"][0]["content"]
        model = body["model"]
        if model == "describer":
            text = self._describe(content)
        elif model == "reasoner":
            text = reason(content, random.Random(body["seed"]))
        else:
            text = rewrite(content)
        asked = content if isinstance(content, str) else content[-1]["text"]
        tokens = len(re.findall(r"\w+|[^\w\s]", asked)) + (16 if model == "describer" else 0)
        text = self.spoil(model, text)
        with self._allowed:
            self._allowed.wait_for(lambda: sum(self.stages.values()) < self._most)
            serial = f"reply {sum(self.stages.values())}"
            self.stages[model] += 1
            if self.keep:
                digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
                self.served[digest] += 1
                self.serials[serial] = digest
        message = {"role": "assistant", "content": text, "reasoning_content": serial}
        usage = {"prompt_tokens": tokens, "completion_tokens": len(re.findall(r"\w+|[^\w\s]", text))}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}

    def allow(self, most: float) -> None:
        """Let there be so many replies in all; further requests wait."""
        with self._allowed:
            self._most = most
            self._allowed.notify_all()

    def _describe(self, content: list[dict[str, Any]]) -> str:
        url, text = content[0]["image_url"]["url"], content[1]["text"]
        picture = Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
        digest = hashlib.sha256(picture.tobytes()).hexdigest()
        rng = random.Random(f"{digest}/{text}")
        scene = self._scenes[digest]
        contents = dict(scene.contents)
        if rng.random() < self.wrong:
            cell = rng.choice(list(contents))
            contents[cell] = _otherwise(contents[cell], rng)
        return describe(Scene.of(contents))


def _otherwise(content: Content, rng: random.Random) -> Content:
    match content:
        case Number(value):
            return Number(rng.choice([other for other in range(2, 99) if other != value]))
        case Dial(angle):
            return Dial(rng.choice([other for other in ANGLES if other != angle]))
        case Object(color, shape):
            if rng.random() < 0.5:
                return Object(rng.choice([other for other in COLORS if other != color]), shape)
            return Object(color, rng.choice([other for other in SHAPES if other != shape]))


def describe(scene: Scene) -> str:
    """The four headed parts."""
    lines = []
    for cell, content in scene.contents:
        name = "number" if isinstance(content, Number) else "dial" if isinstance(content, Dial) else str(content)
        lines.append(f"- {name} at {cell}: {content} at {cell}.")
    return "\n\n".join(
        [
            "## 1. Global scan and frame\nA grid of four rows and four columns in a dark frame; rows are counted from "
            "the top, columns from the left, and ticks in each cell count both.",
            "## 2. Elements\n" + "\n".join(lines),
            "## 3. Links and cross-check\nEvery element lies in a cell of its own, all other cells are empty, and the "
            "list above has been compared with the grid once more.",
            "## 4. Synthesis\nColoured objects and signs on a grid; every cell that is not in the list is empty.",
        ]
    )


def reason(prompt: str, rng: random.Random) -> str:
    """A solution from the description in the prompt alone."""
    description, _, rest = prompt.partition("<description>")[2].partition("</description>")
    question = rest.partition("Problem:\n")[2].partition("\n\nThink first.")[0]
    contents: dict[Cell, Content] = {}
    names: dict[Cell, str] = {}
    for found in _ELEMENT.finditer(description):
        cell = Cell(int(found["row"]), int(found["column"]))
        names[cell] = found["name"]
        contents[cell] = (
            Number(int(found["number"]))
            if found["number"]
            else Dial(int(found["angle"]))
            if found["angle"]
            else Object(found["color"], found["shape"])
        )
    try:
        answer, cells = solve(question, contents)
    except (KeyError, IndexError, StopIteration, ValueError):  # the description does not fit the question
        answer, cells = "unknown", list(contents)[:1]
    looked = [*cells, *(cell for cell in contents if cell not in cells)]
    steps = [f"at {cell} there is {contents[cell]}." for cell in looked]
    named = [names[cell] for cell in looked]
    filler = rng.choice(["This settles one part of it.", "So one part of it is known.", "This is one part of it."])
    lines = [
        "The question asks about things in a grid, and each of them is taken one after the other.",
        *(
            f"{'Wait, according to the description, ' if number % 2 else 'So '}[LOOK: {name}] {step} {filler}"
            for number, (name, step) in enumerate(zip(named, steps, strict=True))
        ),
        f"Let me double-check this step before anything is concluded: [LOOK: {named[0]}] {steps[0]}",
        f"All parts agree, and it follows that the answer is {answer}.",
    ]
    return f"<reasoning>{chr(10).join(lines)}</reasoning>\n<answer>{answer}</answer>"


def solve(question: str, contents: Mapping[Cell, Content]) -> tuple[str, list[Cell]]:
    """The answer to a question of `shapes` about these contents, and the cells that decide it."""
    text, *shown = question.splitlines()
    options = [line.partition(") ")[2] for line in shown]
    answer, cells = _solve(text, contents)
    return (LETTERS[options.index(answer)] if options else answer), cells


def _solve(text: str, contents: Mapping[Cell, Content]) -> tuple[str, list[Cell]]:
    objects = {cell: one for cell, one in contents.items() if isinstance(one, Object)}
    numbers = {cell: one.value for cell, one in contents.items() if isinstance(one, Number)}

    def having(feature: str) -> list[Cell]:
        return [cell for cell, one in objects.items() if feature in (one.color, one.shape)]

    def of(cell: Cell, kind: str) -> str:
        return objects[cell].color if kind == "color" else objects[cell].shape

    def only(found: list[Cell]) -> Cell:
        (cell,) = found
        return cell

    if asked := re.fullmatch(r"How many (\w+)(?: objects)? are there\?", text):
        feature = next(one for one in (*COLORS, *SHAPES) if asked[1].startswith(one))
        return str(len(having(feature))), having(feature)
    if asked := re.fullmatch(r"What (color|shape) is the object at row (\d) column (\d)\?", text):
        cell = Cell(int(asked[2]), int(asked[3]))
        return of(cell, asked[1]), [cell]
    if asked := re.fullmatch(
        r"What (color|shape) is the object directly (above|below|left of|right of) the (.+)\?", text
    ):
        start = only([cell for cell, one in objects.items() if str(one) == asked[3]])
        goal = start.step(*DIRECTIONS[asked[2]])
        return of(goal, asked[1]), [start, goal]
    if asked := re.fullmatch(r"Which (?:color|shape) do more objects have, (\w+) or (\w+)\?", text):
        counts = [len(having(feature)) for feature in (asked[1], asked[2])]
        answer = "neither" if counts[0] == counts[1] else asked[1 + counts.index(max(counts))]
        return answer, [*having(asked[1]), *having(asked[2])]
    if asked := re.fullmatch(r"Which number is written at row (\d) column (\d)\?", text):
        cell = Cell(int(asked[1]), int(asked[2]))
        return str(numbers[cell]), [cell]
    if text.startswith("How many degrees clockwise"):
        cell = only([cell for cell, one in contents.items() if isinstance(one, Dial)])
        return str(contents[cell].angle), [cell]  # type: ignore[union-attr]
    if asked := re.fullmatch(r"All objects but one have the same (color|shape)\. What \w+ is the odd one out\?", text):
        counted = Counter(of(cell, asked[1]) for cell in objects)
        odd = only([cell for cell in objects if counted[of(cell, asked[1])] == 1])
        return of(odd, asked[1]), [odd]
    if text.startswith("What is the sum of the two numbers"):
        one, other = numbers
        return str(numbers[one] + numbers[other]), [one, other]
    if asked := re.fullmatch(r"Which number is directly (above|below|left of|right of) the (.+)\?", text):
        start = only([cell for cell, one in objects.items() if str(one) == asked[2]])
        goal = start.step(*DIRECTIONS[asked[1]])
        return str(numbers[goal]), [start, goal]
    if asked := re.fullmatch(r"What (color|shape) is the object that the hand of the dial points to\?", text):
        start = only([cell for cell, one in contents.items() if isinstance(one, Dial)])
        goal = start.step(*DIRECTIONS[POINTING[contents[start].angle]])  # type: ignore[union-attr]
        return of(goal, asked[1]), [start, goal]
    raise ValueError(text)


def rewrite(prompt: str) -> str:
    """The solution with looks in the places of its marks."""
    found = _REASONING.search(prompt)
    assert found is not None

    def look(mark: re.Match[str]) -> str:
        if (mark[1] or "").startswith("Wait"):
            return f"Wait, look back at the {mark[2]}: "
        return f"{mark[1] or ''}let me check the {mark[2]} in the image: "

    return f"<reasoning>\n{_MARK.sub(look, found[1])}\n</reasoning>"


@contextmanager
def playing(actors: Actors) -> Iterator[Actors]:
    """Serve them from threads."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with suppress(ConnectionResetError, BrokenPipeError, json.JSONDecodeError):  # the client was killed
                super().handle()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(actors.delay)
            data = json.dumps(actors.reply(body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()
            actors.after_reply(sum(actors.stages.values()))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serve(Handler) as actors.url:
        yield actors


def recipe(url: str, count: int, **changes: Any) -> dict[str, Any]:
    """A recipe that asks them about `count` questions of `shapes`; stages: what is changed of each."""
    stages: dict[str, dict[str, Any]] = {
        "describe": {"model": "describer"},
        "reason": {"model": "reasoner", "samples": 4, "temperature": 0.6},
        "anchor": {"model": "rewriter"},
    }
    changed = changes.pop("stages", {})
    shared = {"url": url, "concurrency": 4, "retries": 1, "timeout": 20, "price": [1.0, 2.0]}
    return {
        "sources": [{"source": "shapes", "count": count}],
        "stages": {name: shared | stage | changed.get(name, {}) for name, stage in stages.items()},
        "filters": {"anchors_per_100_words": [0.2, 20]},
    } | changes
