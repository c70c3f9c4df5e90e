"""AvarGRPOTrainer: Eq. 7 against eager float64 maps, Eq. 8-9 by hand, and TRL's own trainer where the weights are 0."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import training as runs
from datasets import Dataset
from eager_reference import eager_maps, group_masses, in_eager_float64
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from avar_eval.answers import GRADER, Judgement
from avar_eval.attention.chat_formats import Role
from avar_eval.attention.interface import ObserveError
from avar_eval.attention.measure import with_responses
from avar_eval.errors import UsageError
from avar_eval.recipes.attention_terms import AttentionTrainingError
from avar_eval.recipes.grpo import AvarGRPOConfig, AvarGRPOTrainer
from avar_eval.recipes.grpo import trainer as grpo_trainer
from avar_eval.recipes.rewards import RewardDataError, format_reward, judge
from avar_eval.watch.complete import complete_checkpoints

RIGHT = "<think>one two</think><answer>7</answer>"
COLUMNS = {"answer": "7", "answer_type": "integer", "choices": []}


def processor() -> Any:
    """As TRL loads one."""
    made = runs.processor()
    made.tokenizer.padding_side = "left"
    return made


def rows(counts: Sequence[int] = (1, 2, 1, 1)) -> Dataset:
    made = runs.dataset(runs.rows(tuple(counts), (1,) * len(counts)))
    made = made.remove_columns("completion")
    for name, value in COLUMNS.items():
        made = made.add_column(name, [value] * len(counts))
    return made


def config(folder: Path, kind: Any = AvarGRPOConfig, **options: Any) -> Any:
    placeholders = runs.processor().tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"])
    given: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "num_generations": 2,
        "max_completion_length": 8,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
        "max_steps": 1,
        "learning_rate": 1e-3,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "generation_kwargs": {"suppress_tokens": placeholders},
    }
    return kind(output_dir=str(folder), **(given | options))


def start(folder: Path, made: Dataset | None = None, **options: Any) -> AvarGRPOTrainer:
    data = rows() if made is None else made
    return AvarGRPOTrainer(runs.model(), config(folder, **options), train_dataset=data, processing_class=processor())


def encoded(trainer: Any, *responses: str) -> list[list[int]]:
    return [trainer._tokenizer.encode(response, add_special_tokens=False) for response in responses]


def rewards(trainer: Any, made: Dataset, responses: list[list[int]]) -> torch.Tensor:
    """The table of rewards, as TRL asks for it after generation."""
    inputs = [dict(row) for row in made]
    prompts = [row["prompt"] for row in inputs]
    texts = [[{"role": "assistant", "content": trainer._tokenizer.decode(ids)}] for ids in responses]
    seen = [grpo_trainer._with_images(row) for row in inputs] if "images" in made.column_names else prompts
    table: torch.Tensor = trainer._calculate_rewards(inputs, seen, texts, responses)
    return table


@pytest.mark.parametrize("layers", [None, [0, 2]])
def test_r_visual_is_eq_7_over_the_response_alone(tmp_path: Path, layers: list[int] | None) -> None:
    made = rows((1, 2, 1, 1))
    trainer = start(tmp_path, made, attention_layers=layers, per_device_train_batch_size=2)
    end = [trainer._tokenizer.eos_token_id]
    right, wrong, cut, short = encoded(trainer, RIGHT, RIGHT.replace("7", "8"), "<think>one", "<answer>7</answer>")
    responses = [right + end, wrong + end, cut, short + end]
    measured = rewards(trainer, made, responses)[:, 1]

    reference = in_eager_float64(runs.model())
    expected = []
    for row, response in zip(made, responses, strict=True):
        inputs, prompts = trainer._encoded([row])
        roles = torch.tensor([*trainer._markup.prompt_roles(prompts[0]), *[Role.RESPONSE] * len(response)])
        with torch.no_grad():
            masses = group_masses(eager_maps(reference, with_responses(inputs, [response])), roles)
        chosen = layers if layers is not None else slice(None)
        image, system = (masses[name][chosen][..., -len(response) :].mean(1) for name in ("image", "system"))
        expected.append((image / (system + 1e-6)).mean().item())
    assert measured.tolist() == pytest.approx([expected[0], 0.0, 0.0, expected[3]], rel=1e-5)
    assert min(expected) > 0


def test_the_total_reward_is_eq_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = start(tmp_path, visual_cap=3.0)
    end = [trainer._tokenizer.eos_token_id]
    responses = encoded(trainer, RIGHT, "<answer>7</answer>", RIGHT.replace("7", "8"), "<think>7 is")
    responses = [*(ids + end for ids in responses[:3]), responses[3]]
    monkeypatch.setattr(trainer, "_attention_ratios", lambda *_: torch.tensor([[2.0], [5.0], [4.0], [1.0]]))
    table = rewards(trainer, rows(), responses)
    assert table.tolist() == [[1.0, 2.0, 1.0], [1.0, 3.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    total = (table * trainer.reward_weights).sum(1)
    assert total.tolist() == pytest.approx([1 + 0.3 * 2 + 0.1, 1 + 0.3 * 3, 0.1, 0.0])
    shares = {name: trainer._metrics["train"][f"reward_share/{name}"][0] for name in ("accuracy", "visual", "format")}
    assert shares == pytest.approx({"accuracy": 2 / 3.7, "visual": 1.5 / 3.7, "format": 0.2 / 3.7})


def test_a_rollout_is_decoded_and_judged_once_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    decoded: list[Sequence[int]] = []

    def counted(row: Any, response: str, finish_reason: Any) -> Judgement:
        judged.append(response)
        return judge(row, response, finish_reason)

    trainer = start(tmp_path)
    response = trainer._response
    monkeypatch.setattr(grpo_trainer, "judge", counted)
    monkeypatch.setattr(trainer, "_response", lambda ids: decoded.append(ids) or response(ids))
    for step in (1, 2):
        answers = [RIGHT, RIGHT.replace("7", "8"), f"step {step}", RIGHT]
        responses = [[*ids, trainer._tokenizer.eos_token_id] for ids in encoded(trainer, *answers)]
        table = rewards(trainer, rows(), responses)
        assert table[:, 0].tolist() == [1, 0, 0, 1]
        assert (table[:, 1] > 0).tolist() == [True, False, False, True]
        assert judged[-4:] == answers
        assert len(judged) == len(decoded) == 4 * step


def test_a_dominant_visual_reward_is_warned_about_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = start(tmp_path)
    end = [trainer._tokenizer.eos_token_id]
    responses = [ids + end for ids in encoded(trainer, *[RIGHT] * 4)]
    monkeypatch.setattr(trainer, "_attention_ratios", lambda *_: torch.full((4, 1), 50.0))
    with pytest.warns(UserWarning, match=r"r_visual makes up 93% of the total reward.*set visual_cap"):
        rewards(trainer, rows(), responses)
    before = trainer._warned
    rewards(trainer, rows(), responses)
    assert before is True


def test_a_prompt_without_an_image_has_no_visual_reward(tmp_path: Path) -> None:
    made = rows((1, 0, 1, 0))
    trainer = start(tmp_path, made, per_device_train_batch_size=4)
    responses = [[*ids, trainer._tokenizer.eos_token_id] for ids in encoded(trainer, *[RIGHT] * 4)]
    visual = rewards(trainer, made, responses)[:, 1]
    assert visual.isnan().tolist() == [False, True, False, True]


@pytest.mark.parametrize("iterations", [1, 2])
def test_a_pass_of_prompts_without_images_runs_beside_others_with_some(tmp_path: Path, iterations: int) -> None:
    """One response a pass, and TRL shuffles them."""
    options = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "num_iterations": iterations}
    trainer = start(tmp_path, rows((1, 0)), **options)
    trainer.train()
    assert trainer.state.log_history[0]["visual_ratio"] > 0


def coin(row: Any, response: str, finish_reason: Any) -> Judgement:
    """A judgement that a random model meets half of the time."""
    return Judgement("scored", response, sum(map(ord, response)) % 2 == 0, GRADER)


def trl_trainer(ours: AvarGRPOTrainer, folder: Path, **options: Any) -> GRPOTrainer:
    """TRL's own trainer, with the accuracy of `coin` for its only reward."""

    def accuracy(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(coin({}, *ours._response(ids)).correct) for ids in completion_ids]

    return GRPOTrainer(
        runs.model(),
        accuracy,
        config(folder, GRPOConfig, loss_type="grpo", **options),
        train_dataset=rows(),
        processing_class=processor(),
    )


@pytest.mark.parametrize("iterations", [1, 2])  # with 2, TRL makes a pass of the policy before the rewards
def test_without_weights_it_is_trl_with_the_accuracy_reward_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, iterations: int
) -> None:
    monkeypatch.setattr(grpo_trainer, "judge", coin)
    options = {"max_steps": 5, "num_iterations": iterations}
    ours_config = config(tmp_path, visual_weight=0.0, format_weight=0.0, **options)
    ours = AvarGRPOTrainer(runs.model(), ours_config, train_dataset=rows(), processing_class=processor())
    ours.train()

    theirs = trl_trainer(ours, tmp_path, **options)
    theirs.train()
    names = ("loss", "reward", "grad_norm", "completions/mean_length")
    logs = [[[log.get(name) for name in names] for log in of.state.log_history[:5]] for of in (ours, theirs)]
    assert logs[0] == logs[1]
    assert any(log.get("reward_std", 0.0) > 0 for log in ours.state.log_history[:5])
    start_weights = runs.model().state_dict()
    for name, value in theirs.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], value), name
    assert not torch.equal(start_weights["lm_head.weight"], theirs.model.state_dict()["lm_head.weight"])


def test_a_run_logs_each_reward_and_changes_no_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpo_trainer, "judge", coin)
    trainer = start(tmp_path, max_steps=2, gradient_checkpointing=True, gradient_accumulation_steps=2)
    trainer.train()
    plain = start(tmp_path, max_steps=2, gradient_checkpointing=True, gradient_accumulation_steps=2, visual_weight=0.0)
    plain.train()
    log, other = trainer.state.log_history[0], plain.state.log_history[0]
    for name in ("rewards/accuracy/mean", "completions/mean_length", "rewards/format/mean"):
        assert log[name] == other[name]
    assert log["rewards/visual/mean"] > 0
    assert log["visual_ratio"] > log["rewards/visual/mean"]
    assert 0 < log["reward_share/visual"] < 1
    expected = log["rewards/accuracy/mean"] + 0.3 * log["rewards/visual/mean"] + 0.1 * log["rewards/format/mean"]
    assert log["reward"] == pytest.approx(expected, rel=1e-5)
    assert trainer.model.training


class Seen:
    """A batch that a trainer has made: how often its model ran over prompt and response, and Eq. 7 by both ways."""

    def __init__(self, trainer: AvarGRPOTrainer, made: Dataset) -> None:
        own_pass = trainer._attention_ratios
        self.passes = 0

        def ratios(prompts: Any, completion_ids: Any) -> torch.Tensor:
            self.responses = completion_ids
            found: torch.Tensor = own_pass(prompts, completion_ids)
            self.used = found[:, 0]
            looked, trainer._looked = trainer._looked, None
            before = self.passes
            self.apart: torch.Tensor = own_pass(prompts, completion_ids)[:, 0]
            trainer._looked, self.passes = looked, before
            return found

        def count(module: Any, args: Any, inputs: Any) -> None:
            self.passes += not inputs.get("use_cache")  # generation keeps one

        trainer._attention_ratios = ratios
        groups = [dict(row) for row in made for _ in range(2)]
        torch.manual_seed(3)
        with trainer.model.get_base_model().register_forward_pre_hook(count, with_kwargs=True):
            self.batch = trainer._generate_and_score_completions(groups)


def adapted(folder: Path, made: Dataset, dropout: float = 0.0, **options: Any) -> AvarGRPOTrainer:
    """A trainer of adapters that have learned something, so that they look elsewhere than their base does."""
    lora = LoraConfig(r=4, target_modules=["q_proj", "k_proj"], lora_dropout=dropout, init_lora_weights=False)
    torch.manual_seed(0)
    return AvarGRPOTrainer(
        runs.model(),
        config(folder, per_device_train_batch_size=4, **options),
        train_dataset=made,
        processing_class=processor(),
        peft_config=lora,
    )


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({"num_iterations": 2}, 2),  # TRL's old log-probabilities, in batches of 4
        ({"num_iterations": 2, "beta": 0.1}, 4),  # and those of the reference
        ({"beta": 0.1}, 4),  # the reference's alone: r_visual takes passes of its own
        ({}, 2),
        ({"num_iterations": 2, "dropout": 0.5}, 4),  # a pass with dropout is none of the policy that answered
    ],
)
def test_r_visual_is_measured_in_trl_s_own_pass_where_there_is_one(
    tmp_path: Path, options: dict[str, Any], passes: int
) -> None:
    made = rows((1, 2, 1, 0))
    trainer = adapted(tmp_path, made, **options)
    seen = Seen(trainer, made)
    assert seen.passes == passes
    assert seen.used.isnan().tolist() == [False] * 6 + [True] * 2
    assert seen.used[:6].tolist() == pytest.approx(seen.apart[:6].tolist(), rel=1e-6)
    plain = Seen(adapted(tmp_path, made, visual_weight=0.0, **options), made)
    assert plain.batch.keys() == seen.batch.keys()
    for name in ("completion_ids", "old_per_token_logps", "ref_per_token_logps"):
        assert name not in plain.batch or torch.equal(plain.batch[name], seen.batch[name])


def test_a_truncated_response_that_trl_hides_earns_nothing(tmp_path: Path) -> None:
    """With mask_truncated_completions TRL's pass does not see it; the others earn what they do without."""
    made = rows((1, 2, 1, 1))
    hides = {"mask_truncated_completions": True, "max_completion_length": 2}
    trainer = adapted(tmp_path, made, num_iterations=2, gradient_accumulation_steps=2, **hides)
    seen = Seen(trainer, made)
    ended = [ids[-1] in trainer.eos_token_ids for ids in seen.responses]
    assert seen.used.isnan().tolist() == [not end for end in ended]
    assert list(trainer._logs["rewards"]["visual"]) == [0.0] * 8


def test_advantages_are_eq_9(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each total reward, less the mean of its group of 4, over the group's standard deviation."""
    trainer = start(tmp_path, rows((1, 1)), num_generations=4, per_device_train_batch_size=8)
    table = torch.tensor(
        [[1, 2.0, 1], [1, 0.5, 0], [0, 0.0, 1], [0, 0.0, 0], [1, 3.0, 1], [1, 3.0, 1], [1, 3.0, 1], [1, 3.0, 1]]
    )
    monkeypatch.setattr(trainer, "_calculate_rewards", lambda *_, **__: table)
    data = [dict(row) for row in rows((1, 1)) for _ in range(4)]
    advantages = trainer._generate_and_score_completions(data)["advantages"]
    total = [1 + 0.3 * 2 + 0.1, 1 + 0.3 * 0.5, 0.1, 0.0]
    mean = sum(total) / 4
    deviation = (sum((of - mean) ** 2 for of in total) / 3) ** 0.5
    expected = [(of - mean) / deviation for of in total]
    # TRL adds 1e-4 to the standard deviation; a group of equal rewards learns nothing
    assert advantages.flatten().tolist() == pytest.approx([*expected, 0, 0, 0, 0], rel=2e-4, abs=1e-6)


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpo_trainer, "judge", coin)
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 2}
    straight = start(tmp_path, **options)
    straight.train()
    shutil.rmtree(tmp_path / "checkpoint-4")
    resumed = start(tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for name, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    names = ("loss", "reward", "visual_ratio", "completions/mean_length")
    logs = [[[log[name] for name in names] for log in of.state.log_history[:4]] for of in (straight, resumed)]
    assert logs[0] == logs[1]
    assert list(complete_checkpoints(tmp_path)) == [2, 4]


@pytest.mark.parametrize("bf16", [False, True])
def test_adapters_earn_the_same_visual_reward(tmp_path: Path, bf16: bool) -> None:
    """An adapter that has not learned anything looks where its base does; under bfloat16 to three digits."""
    made = rows((1, 2, 1, 1))
    plain = start(tmp_path, made)
    adapted = AvarGRPOTrainer(
        runs.model(),
        config(tmp_path, bf16=bf16),
        train_dataset=made,
        processing_class=processor(),
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "k_proj"]),
    )
    responses = [[*ids, plain._tokenizer.eos_token_id] for ids in encoded(plain, *[RIGHT] * 4)]
    expected, measured = (rewards(trainer, made, responses)[:, 1] for trainer in (plain, adapted))
    assert measured.tolist() == pytest.approx(expected.tolist(), rel=2e-2 if bf16 else 1e-5)


@pytest.mark.parametrize(
    ("response", "reward"),
    [
        (RIGHT, 1.0),
        (f"\n{RIGHT}\n", 1.0),
        ("<think>a\nb</think>\n\n<answer>\n7\n</answer>", 1.0),
        ("<answer>7</answer>", 0.0),
        (f"Well. {RIGHT}", 0.0),
        (f"{RIGHT} That is it.", 0.0),
        ("<think>a</think><answer>7", 0.0),
        ("<think>a</think><answer> </answer>", 0.0),
        ("<think>a</think><think>b</think><answer>7</answer>", 0.0),
        ("<answer>7</answer><think>a</think>", 0.0),
        ("", 0.0),
    ],
)
def test_the_format_is_thought_then_answer(response: str, reward: float) -> None:
    assert format_reward(response) == reward


def test_accuracy_is_the_evaluation_s_judgement() -> None:
    assert judge(COLUMNS, RIGHT, "stop").correct
    assert judge(
        {"answer": "B", "answer_type": "choice", "choices": ["red", "blue"]}, "<answer>blue</answer>", "stop"
    ).correct
    assert judge(COLUMNS, "<think>it is 7", "length").state == "truncated"
    with pytest.raises(RewardDataError, match="is not of its type 'integer'"):
        judge(COLUMNS | {"answer": "seven and a bit"}, RIGHT, "stop")
    with pytest.raises(RewardDataError, match="answer_type must be one of choice"):
        judge(COLUMNS | {"answer_type": "essay"}, RIGHT, "stop")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"visual_weight": -1.0}, "must not be negative"),
        ({"visual_cap": 0.0}, "visual_cap must be above 0"),
        ({"reward_weights": [1.0]}, "set visual_weight and format_weight"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "Eq. 9"),
    ],
)
def test_options_that_are_not_those_of_eq_8_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config(tmp_path, **options)


def test_it_does_not_start_where_attention_cannot_be_measured(tmp_path: Path) -> None:
    with pytest.raises(ObserveError, match="layers must be among 0 to 2"):
        start(tmp_path, attention_layers=[7])
    with pytest.raises(UsageError, match="reward_funcs cannot be given"):
        AvarGRPOTrainer(
            runs.model(), config(tmp_path), reward_funcs=len, train_dataset=rows(), processing_class=processor()
        )
    text, tokenizer = rows().remove_columns("images"), runs.processor().tokenizer
    with pytest.raises(AttentionTrainingError, match="no processor of a vision-language model"):
        AvarGRPOTrainer(runs.model(), config(tmp_path), train_dataset=text, processing_class=tokenizer)
