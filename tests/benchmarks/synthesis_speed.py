"""Rows through the whole synthesis against the actors of the embedded world: rows a second, and memory.

    python tests/benchmarks/synthesis_speed.py --rows 10000

Rows a second are of this process' own time on the CPU. By default the actors answer within it, and their time is taken
off: what remains is all that is done here but for HTTP. With --http they are an endpoint in a process of its own, and
httpx's share, six requests a row, is counted. A tenth of the rows goes
first: the peak of memory must hardly grow from there.
"""

import argparse
import base64
import io
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from PIL import Image

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "synthesis")]

from actors import Actors, playing, recipe

from avar_eval.models.backend import Generation, Prompt
from avar_eval.models.decoding import Decoding
from avar_eval.recipes.synthesis.engine import Asker
from avar_eval.recipes.synthesis.pipeline import synthesize
from avar_eval.recipes.synthesis.recipe import parse_recipe
from avar_eval.records.record import Usage


def serve(count: int, pipe: Connection) -> None:
    with playing(Actors(count=count, keep=False)) as actors:
        pipe.send(actors.url)
        pipe.recv()


class InProcess:
    """The actors as a backend: no HTTP, and their own time known."""

    name = "api"
    dtype = None
    seconds = 0.0

    def __init__(self, actors: Actors, model: str) -> None:
        self.actors, self.model = actors, model

    def load(self) -> None:
        """Nothing to load."""

    def release(self) -> None:
        """Nothing to give back."""

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        return json.dumps(messages)

    def answer(
        self, prompts: Iterable[Prompt], decoding: Decoding, may_refuse: int = 0
    ) -> Iterator[tuple[int, Generation]]:
        for number, prompt in enumerate(prompts):
            begun = time.process_time()
            (turn,) = json.loads(prompt.prompt)
            content = turn["content"]
            pictures = iter(prompt.images())
            for part in content:
                if part["type"] == "image":
                    part["image_url"] = {"url": data_url(next(pictures))}
            content = content if self.model == "describer" else content[0]["text"]
            body = {"messages": [{"content": content}], "model": self.model, "seed": int(prompt.key[:7], 16)}
            reply = self.actors.reply(body)
            text, usage = reply["choices"][0]["message"]["content"], Usage(**reply["usage"])
            InProcess.seconds += time.process_time() - begun
            yield number, Generation([], [], text, "stop", usage)


def data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--http", action="store_true")
    given = parser.parse_args()
    if given.http:
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        context.Process(target=serve, args=(given.rows, theirs), daemon=True).start()
        url = ours.recv()
    else:
        url, actors = "http://localhost:1/v1", Actors(count=given.rows, keep=False)
        Asker._backend = lambda self, limit: InProcess(actors, self.model.model)  # type: ignore[method-assign,return-value,assignment]
    print("rows    finished   wall s   own CPU s   rows/s of own CPU   peak MB")
    for count in (given.rows // 10, given.rows):
        content = recipe(url, count)
        content["stages"]["reason"]["samples"] = given.samples
        wall, cpu, taken_off = time.monotonic(), time.process_time(), InProcess.seconds
        with tempfile.TemporaryDirectory() as folder:
            report = synthesize(parse_recipe(content, "the benchmark"), Path(folder), shown=False)
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu - (InProcess.seconds - taken_off)
        kept = sum(counts["kept"] for counts in report["sources"].values())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{count:6} {kept:9} {wall:8.1f} {cpu:11.1f} {kept / cpu:19.0f} {peak:9.0f}", flush=True)


if __name__ == "__main__":
    main()
