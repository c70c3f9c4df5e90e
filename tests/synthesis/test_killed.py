"""Killed at random moments: what was kept is never asked again, and the finished set is that of a run left alone."""

import json
import math
import multiprocessing
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from actors import Actors, playing, recipe

from avar_eval.recipes.synthesis.pipeline import synthesize
from avar_eval.recipes.synthesis.recipe import parse_recipe

COUNT, SAMPLES = 24, 1
REQUESTS = COUNT * (1 + SAMPLES + 1)
KILLS = 30
CONCURRENCY = 4
STAGES = ("describe", "reason", "anchor")
MODELS = {"describer": "describe", "reasoner": "reason", "rewriter": "anchor"}


def run(content: dict[str, Any], folder: str) -> None:
    """What is killed, in a process of its own."""
    synthesize(parse_recipe(content, "x"), Path(folder), shown=False)


def kept(folder: Path) -> set[str]:
    """The number that each kept reply came with; a line that the kill has torn is not kept."""
    serials = set()
    for stage in STAGES:
        path = folder / f"{stage}.jsonl"
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
            if line.endswith(b"\n"):
                serials.add(json.loads(line)["reasoning_content"])
    return serials


def test_thirty_kills_pay_nothing_twice_but_what_was_under_way(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["avar_eval.recipes.synthesis.pipeline", "avar_eval.recipes.data"])
    rng = random.Random(0)
    struck: Counter[str] = Counter()
    with playing(Actors(count=COUNT, delay=0.01)) as actors:
        content = recipe(actors.url, COUNT)
        for stage in content["stages"].values():
            stage["concurrency"] = CONCURRENCY
        content["stages"]["reason"]["samples"] = SAMPLES
        paid: dict[str, int] = {}
        for number in range(KILLS):
            process = context.Process(target=run, args=(content, str(tmp_path / "killed")))
            done = threading.Event()
            # so many that the kills are spread over the whole run
            left = REQUESTS - len(kept(tmp_path / "killed"))
            replies = max(1, round((left - 12) / (KILLS - number) * rng.uniform(0.3, 1.7)))
            # and none after them, or the run would come to its end where the kill is late
            last = sum(actors.stages.values()) + min(replies, left - 1)
            actors.allow(last)

            def strike(count: int, last: int = last, done: threading.Event = done) -> None:
                if count == last:
                    done.set()

            actors.after_reply = strike
            process.start()
            # some die before their first request, while questions are selected or a book is opened
            done.wait(rng.uniform(0.0, 0.2) if number % 6 == 5 else 600)
            time.sleep(rng.uniform(0, 0.005))
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
            struck[_stage(tmp_path / "killed")] += 1
            # let what the dead one had asked for be counted, before it is compared
            actors.allow(math.inf)
            counted = -1
            while counted != (counted := sum(actors.stages.values())):
                time.sleep(0.1)
            for serial in kept(tmp_path / "killed"):
                digest = actors.serials[serial]
                assert paid.setdefault(digest, actors.served[digest]) == actors.served[digest]
        actors.after_reply = lambda count: None
        run(content, str(tmp_path / "killed"))
        assert all(actors.served[digest] == count for digest, count in paid.items())
        lost = sum(actors.served.values()) - len(actors.served)
        assert len(actors.served) == REQUESTS
        assert 0 < lost <= KILLS * CONCURRENCY
        run(content, str(tmp_path / "alone"))
    assert set(struck) >= set(STAGES), struck
    for name in ("rows.jsonl", "sharegpt.jsonl", "questions.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    report = {name: json.loads((tmp_path / name / "report.json").read_text()) for name in ("killed", "alone")}
    assert report["killed"] == report["alone"]


def _stage(folder: Path) -> str:
    """The stage at which a run has died."""
    present = [
        stage for stage in STAGES if (folder / f"{stage}.jsonl").exists() and (folder / f"{stage}.jsonl").stat().st_size
    ]
    return present[-1] if present else "select"
