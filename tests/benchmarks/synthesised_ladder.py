"""Anchored against plain solutions, and synthesised rows beside procedural ones, on a base that never saw an anchor.

    python -m avar_eval.recipes.avar_tiny.train --seed 0 --no-anchors --output BASE
    python tests/benchmarks/synthesised_ladder.py --base BASE --output DIR --seeds 0,1,2

The embedded ladder's own rung cannot tell what anchors do: avar-tiny was trained with them. Here the base was not, then
learnt to answer without a thought (tiny_base_sft), and each rung goes on from there with equally many rows of the same
scenes of `shapes`: procedural solutions without anchors, the same with anchors, and what `avar-train synthesize` makes
of the scenes with three actors behind an endpoint of this machine, of which the describer errs in a fifth.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "synthesis")]

from actors import Actors, playing, recipe

from avar_eval.console import wide_console
from avar_eval.recipes.ladder import climb, ladder_table, read_ladder
from avar_eval.recipes.synthesis.pipeline import synthesize
from avar_eval.recipes.synthesis.recipe import parse_recipe

BATCH = 8
WRONG = 0.2
SEED = 2
"""Of the scenes: neither the base nor tiny_base_sft was trained on them."""


def synthesised(folder: Path, count: int) -> int:
    """Make rows of `count` scenes; returns how many were finished."""
    with playing(Actors(wrong=WRONG, seed=SEED, count=count)) as actors:
        made = recipe(actors.url, count)
        made["seed"] = SEED
        report = synthesize(parse_recipe(made, "this script"), folder, shown=False)
    print(json.dumps(report["stages"], indent=2))
    return len((folder / "rows.jsonl").read_text(encoding="utf-8").splitlines())


def ladder(base: Path, rows: Path, finished: int) -> Mapping[str, Any]:
    """A ladder's file. All rungs over the base take as many steps as the synthesised rows give."""
    same = {"train_rows": finished, "max_steps": finished // BATCH, "data_seed_of_shapes": SEED}

    def rung(name: str, title: str, **options: Any) -> dict[str, Any]:
        return {"name": name, "title": title, "recipe": "tiny_vard_sft", "start": "base", "options": same | options}

    return {
        "description": "anchors, from a base that never saw one",
        "model": str(base),
        "tasks": ["shapes", "shapes_prior"],
        "max_new_tokens": 640,  # synthesised thoughts have up to 570
        "batch_size": 50,
        "rungs": [
            {"name": "unanchored", "title": "trained without anchors"},
            {"name": "base", "title": "answers without a thought", "recipe": "tiny_base_sft", "start": "unanchored"},
            rung("plain", "+ reflection without anchors", train_data="shapes", thoughts="plain"),
            rung("anchored", "+ the same with anchors", train_data="shapes", thoughts="anchored"),
            rung("synthesised", "+ synthesised rows", train_data=str(rows), train_rows=None),
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--scenes", type=int, default=3200)
    asked = parser.parse_args()
    rows = asked.output / "synthesis"
    finished = synthesised(rows, asked.scenes)
    path = asked.output / "ladder.yaml"
    path.write_text(yaml.safe_dump(ladder(asked.base, rows / "rows.jsonl", finished)), encoding="utf-8")
    read = read_ladder(str(path))
    found = climb(read, asked.output, [int(seed) for seed in asked.seeds.split(",")], {}, [])
    wide_console().print(ladder_table(read, found))


if __name__ == "__main__":
    main()
