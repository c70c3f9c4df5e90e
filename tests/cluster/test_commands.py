"""Commands beside `run` on the same cluster: what they write is what one process writes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, get_peft_model
from runs import MODEL, Finished
from transformers import AutoModelForImageTextToText

from avar_eval.models.checkpoint import resolve_checkpoint

if TYPE_CHECKING:
    from ray_nodes import Nodes

Run = Callable[..., Finished]
FEW = ("--tasks", "shapes", "--limit", "2", "--max-new-tokens", "12", "--batch-size", "1")


def test_a_sweep_is_steered_on_workers_as_in_one_process(avar_eval: Run, nodes: "Nodes", tmp_path: Path) -> None:
    grid = ("sweep", MODEL, *FEW, "--system", "0,0.4", "--image", "0.3")
    alone = avar_eval(*grid, "--output", str(tmp_path / "alone"))
    assert alone.code == 0, alone.stderr
    done = avar_eval(*grid, "--output", str(tmp_path / "on"), "--cluster", nodes.address, "--cluster-workers", "2")
    assert done.code == 0, done.stderr
    written = [json.loads((tmp_path / folder / "sweep.json").read_text()) for folder in ("alone", "on")]
    assert written[0] == written[1]
    means = {json.dumps(point["steering"]): point["vas"] for point in written[0]["comparisons"] if point["vas"]}
    assert len({json.dumps(of) for of in means.values()}) > 1, "steerings differ in what they do"


def test_watched_checkpoints_are_scored_on_workers(avar_eval: Run, nodes: "Nodes", tmp_path: Path) -> None:
    base = resolve_checkpoint(MODEL).path
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "alone" / "checkpoint-5")
    (tmp_path / "alone" / "checkpoint-5" / "trainer_state.json").write_text(json.dumps({"global_step": 5}))
    shutil.copytree(tmp_path / "alone", tmp_path / "on")
    watch = (*FEW, "--once", "--run", "lora", "--device", "cpu", "--causal", "off")
    for folder, more in (("alone", ()), ("on", ("--cluster", nodes.address, "--cluster-workers", "1"))):
        done = avar_eval("watch", str(tmp_path / folder), *watch, *more)
        assert done.code == 0, done.stderr
    for step in (0, 5):
        found = [(tmp_path / folder / "scores" / f"step-{step}" / "results.json") for folder in ("alone", "on")]
        assert found[0].read_bytes() == found[1].read_bytes()
