"""Two processes over gloo learn with each perception signal what one does: DDP and FSDP2, the same responses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import training as runs
from test_distributed_training import DESCENT, FSDP2, in_process, shard, start_two
from test_grpo import config, processor, rows
from torch import Tensor

from avar_eval.answers import GRADER, Judgement
from avar_eval.recipes.grpo import AvarGRPOTrainer
from avar_eval.recipes.grpo import trainer as grpo_trainer

SIGNALS: dict[str, dict[str, Any]] = {
    "vars": {"visual_weight": 0.5},
    "late_attention": {"late_attention_weight": 0.5},
    "papo": {"perception_weight": 0.5},
    "double_entropy": {"perception_weight": 0.5, "perception_entropy_weight": 0.03, "masked_entropy_weight": 0.03},
    "vppo": {"dependence_weight": 1.0, "least_factor": 0.5},
}
LOGGED = (
    "reward",
    "visual_ratio",
    "late_attention_ratio",
    "perception/kl",
    "perception/masked_entropy",
    "dependence/mean",
)
COUNTS = (1, 2)


def written(trainer: Any, prompts: list[Any], original: Callable[[Any], Any]) -> Any:
    """TRL's generation, with responses that depend on the prompt and their place in its group alone."""
    found = list(original(prompts))
    seen: dict[str, int] = {}
    ids = []
    for prompt in found[0]:
        name = str(prompt)
        place = seen[name] = seen.get(name, -1) + 1
        generator = torch.Generator().manual_seed(sum(prompt) + place)
        words = torch.randint(20, 60, (2 + (sum(prompt) + 3 * place) % 6,), generator=generator).tolist()
        ids.append([20 + place % 2, *words, trainer._tokenizer.eos_token_id])
    found[1] = ids
    found[3] = [[{"role": "assistant", "content": trainer._tokenizer.decode(of)}] for of in ids]
    return tuple(found)


def judged(correct: bool) -> Judgement:
    return Judgement("scored", "", correct, GRADER)


def trained(folder: Path, signal: str, **options: Any) -> tuple[dict[str, float], dict[str, Tensor]]:
    """One step of gradient descent at rate 1 with two prompts: what is logged, and what it took from the weights."""
    made = runs.model()
    before = {name: of.clone() for name, of in made.state_dict().items()}
    trainer = AvarGRPOTrainer(
        made,
        config(folder, **DESCENT | {"save_strategy": "no", "visual_weight": 0.0} | SIGNALS[signal] | options),
        train_dataset=rows(COUNTS),
        processing_class=processor(),
    )
    generate, right = trainer._generate, trainer._tokenizer.decode([20])
    with (
        patch.object(trainer, "_generate", lambda prompts: written(trainer, prompts, generate)),
        patch.object(grpo_trainer, "judge", lambda _, text, why: judged(text.startswith(right))),
    ):
        trainer.train()
    after = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    steps = {name: before[name] - of.cpu() for name, of in after.items() if name in before}
    return trainer.state.log_history[0], {name: of for name, of in steps.items() if bool(of.any())}


HALF = {"per_device_train_batch_size": 2}


def train(rank: int, port: int, folder: str) -> None:
    in_process(rank, port)
    found: dict[str, Any] = {}
    for signal in SIGNALS:
        found[f"{signal} ddp"] = trained(Path(folder) / signal, signal, ddp_backend="gloo", **HALF)
    for signal in SIGNALS:  # then, for accelerate keeps what it is told of FSDP in the environment
        shard()
        found[f"{signal} fsdp2"] = trained(Path(folder) / signal, signal, **HALF, **FSDP2)
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have learnt with every signal, in both ways."""
    made = tmp_path_factory.mktemp("signals")
    start_two(train, str(made))
    return made


@pytest.mark.parametrize("way", ["ddp", "fsdp2"])
@pytest.mark.parametrize("signal", SIGNALS)
def test_two_processes_learn_what_one_does(folder: Path, tmp_path: Path, signal: str, way: str) -> None:
    log, steps = torch.load(folder / "found.pt")[f"{signal} {way}"]
    expected_log, expected = trained(tmp_path, signal)
    assert expected_log["rewards/accuracy/mean"] == 0.5  # one right answer to each prompt
    for name in LOGGED:
        assert (name in log) == (name in expected_log)
        assert name not in log or log[name] == pytest.approx(expected_log[name], rel=1e-5), name
    assert runs.close(steps, expected, 1e-4)
