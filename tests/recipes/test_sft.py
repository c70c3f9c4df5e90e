"""AvarSFTTrainer against Eq. 4-6 written out on eager float64 maps, against TRL's own trainer, and against itself."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import training as runs
from datasets import Dataset
from eager_reference import eager_maps, group_masses, in_eager_float64
from peft import LoraConfig
from torch import Tensor
from trl import SFTConfig, SFTTrainer

from avar_eval.attention.chat_formats import Role
from avar_eval.attention.interface import ObserveError
from avar_eval.attention.roles import ChatMarkup
from avar_eval.errors import UsageError
from avar_eval.recipes.attention_terms import AttentionTrainingError
from avar_eval.recipes.sft import AvarSFTTrainer
from avar_eval.recipes.sharding import sees_together

ROLES = {"user": [Role.USER], "response": [Role.RESPONSE], "both": [Role.USER, Role.RESPONSE]}
TERMS = ("loss_lm", "loss_enhance_image", "loss_suppress_system")


def logged(trainer: Any, step: int = 0) -> dict[str, float]:
    first: dict[str, float] = trainer.state.log_history[step]
    return first


def reference_terms(
    trainer: Any, queries: str, layers: list[int] | None, epsilon: float, power: float = 0.0
) -> tuple[Any, list[Tensor]]:
    """The reference model and Eq. 5-6 and the language loss of the step, one row after the other.

    power: a response's token at place i of n counts (i / n)^power.
    """
    reference = in_eager_float64(runs.model())
    markup = ChatMarkup(trainer.processing_class)
    negative, tokens, enhance, suppress = [], 0, [], []
    for row in trainer.train_dataset:
        inputs = dict(trainer.data_collator([row]))
        labels, mask = inputs.pop("labels")[0, 1:], inputs["attention_mask"]
        logits = reference(**{n: v.double() if v.is_floating_point() else v for n, v in inputs.items()}).logits[0, :-1]
        chosen = labels != -100
        negative.append(-logits.log_softmax(-1)[chosen].gather(1, labels[chosen][:, None]).sum())
        tokens += int(chosen.sum())
        roles = torch.tensor(markup.prompt_roles(inputs["input_ids"][0][mask[0].bool()].tolist()))
        masses = group_masses(eager_maps(reference, inputs), roles)
        asked = torch.isin(roles, torch.tensor(ROLES[queries]))
        counts, answered = asked.double(), (roles == Role.RESPONSE).nonzero()[:, 0].tolist()
        for number, place in enumerate(answered, start=1):
            counts[place] *= (number / len(answered)) ** power
        for group, into, add in (("image", enhance, 0.0), ("system", suppress, epsilon)):
            keys = roles == Role[group.upper()]
            if keys.any():
                by_head = masses[group][layers if layers is not None else slice(None)]
                into.append(((by_head * counts).sum(-1) / counts.sum() / keys.sum() + add).log().mean())
    return reference, [torch.stack(negative).sum() / tokens, -torch.stack(enhance).mean(), torch.stack(suppress).mean()]


@pytest.mark.parametrize(
    ("queries", "layers", "epsilon", "power"),
    [
        ("user", None, 1e-6, 0.0),
        ("response", None, 1e-6, 0.0),
        ("both", [0, 2], 1e-6, 0.0),
        ("user", [1], 1e-2, 0.0),
        ("response", None, 1e-6, 2.0),
        ("both", [1], 1e-6, 0.5),
    ],
)
def test_terms_and_gradients_of_a_padded_batch_equal_eager_float64(
    tmp_path: Path, queries: str, layers: list[int] | None, epsilon: float, power: float
) -> None:
    options = {"attention_queries": queries, "attention_layers": layers, "attention_epsilon": epsilon}
    options["late_queries"] = power
    trainer = runs.trained(tmp_path, runs.rows(), alpha=0.4, beta=0.7, **options)
    reference, terms = reference_terms(trainer, queries, layers, epsilon, power)
    for name, wanted in zip(TERMS, terms, strict=True):
        assert logged(trainer)[name] == pytest.approx(wanted.item(), rel=1e-5), name
    total = terms[0] + 0.4 * terms[1] + 0.7 * terms[2]
    assert logged(trainer)["loss"] == pytest.approx(total.item(), rel=1e-5)
    total.backward()  # type: ignore[no-untyped-call]
    assert runs.close(trainer.kept[0], runs.gradients(reference), 1e-4)


def test_where_the_model_looks_is_logged_as_eq_2_has_it(tmp_path: Path) -> None:
    trainer = runs.trained(tmp_path, runs.rows())
    reference = in_eager_float64(runs.model())
    markup = ChatMarkup(trainer.processing_class)
    scores, images, systems = [], [], []
    for row in trainer.train_dataset:
        inputs = dict(trainer.data_collator([row]))
        del inputs["labels"]
        roles = torch.tensor(markup.prompt_roles(inputs["input_ids"][0].tolist()))
        with torch.no_grad():
            masses = group_masses(eager_maps(reference, inputs), roles)
        image, system = (masses[group][..., roles == Role.USER] for group in ("image", "system"))
        systems.append(system.mean())
        if row["images"]:
            scores.append((image / system).mean())
            images.append(image.mean())
    assert logged(trainer)["vas"] == pytest.approx(torch.stack(scores).mean().item(), rel=1e-5)
    assert logged(trainer)["attention/image"] == pytest.approx(torch.stack(images).mean().item(), rel=1e-5)
    assert logged(trainer)["attention/system"] == pytest.approx(torch.stack(systems).mean().item(), rel=1e-5)


def test_without_weights_it_is_trl_bit_by_bit(tmp_path: Path) -> None:
    rows = runs.rows((1, 2, 0, 1, 1, 0, 1, 1), (3, 9, 5, 1, 2, 4, 6, 2))
    options = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 20,
        "gradient_checkpointing": True,
        "train_sampling_strategy": "random",
    }
    config = runs.sft_config(tmp_path, alpha=0.0, beta=0.0, **options)
    plain = {name: getattr(config, name) for name in SFTConfig.__dataclass_fields__ if name in vars(config)}
    kept = []
    for kind, args in ((AvarSFTTrainer, config), (SFTTrainer, SFTConfig(**plain))):
        trainer = kind(runs.model(), args, train_dataset=runs.dataset(rows), processing_class=runs.processor())
        trainer.train()
        kept.append(trainer)
    ours, theirs = kept
    assert [log["loss"] for log in ours.state.log_history[:20]] == [
        log["loss"] for log in theirs.state.log_history[:20]
    ]
    first = runs.model().state_dict()
    for name, value in theirs.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], value), name
    assert not torch.equal(first["lm_head.weight"], theirs.model.state_dict()["lm_head.weight"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One step on a batch of four: what every other way to make the same step is compared with."""
    return runs.trained(tmp_path_factory.mktemp("whole"), runs.rows())


def same_step(trainer: Any, whole: Any) -> None:
    for name in ("loss", *TERMS):
        assert logged(trainer)[name] == pytest.approx(logged(whole)[name], rel=1e-5), name
    assert runs.close(trainer.kept[0], whole.kept[0], 1e-4)


@pytest.mark.parametrize("batch", [1, 2])
def test_accumulated_batches_are_one_batch(tmp_path: Path, whole: Any, batch: int) -> None:
    accumulated = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 4 // batch}
    same_step(runs.trained(tmp_path, runs.rows(), **accumulated), whole)


def test_gradient_checkpointing_changes_nothing(tmp_path: Path, whole: Any) -> None:
    same_step(runs.trained(tmp_path, runs.rows(), gradient_checkpointing=True), whole)


def test_accumulation_is_exact_where_the_model_takes_no_token_count(tmp_path: Path) -> None:
    """The language loss is then a mean of means, as TRL has it; the attention losses stay means over sequences."""

    class Uncounted(runs.Keep):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.model_accepts_loss_kwargs = False

    trainers = []
    for batch in (4, 1):
        options = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 4 // batch}
        config = runs.sft_config(tmp_path, **options)
        trainer = Uncounted(
            runs.model(), config, train_dataset=runs.dataset(runs.rows()), processing_class=runs.processor()
        )
        trainer.train()
        trainers.append(trainer)
        log = logged(trainer)
        total = log["loss_lm"] + 0.15 * log["loss_enhance_image"] + 0.15 * log["loss_suppress_system"]
        assert log["loss"] == pytest.approx(total, rel=1e-6)
    for name in TERMS[1:]:
        assert logged(trainers[0])[name] == pytest.approx(logged(trainers[1])[name], rel=1e-5)


def test_a_step_without_images_has_no_image_term(tmp_path: Path) -> None:
    trainer = runs.trained(tmp_path, runs.rows((0, 0), (3, 5)), per_device_train_batch_size=2)
    log = logged(trainer)
    assert "loss_enhance_image" not in log
    assert "vas" not in log
    assert log["loss"] == pytest.approx(log["loss_lm"] + 0.15 * log["loss_suppress_system"], rel=1e-6)


def test_bfloat16_measures_the_same_attention(tmp_path: Path, whole: Any) -> None:
    """Under autocast, as with float32 weights on a GPU: bfloat16 has 8 bits, and so have the kernel's queries."""
    trainer = runs.trained(tmp_path, runs.rows(), bf16=True)
    for name in TERMS:
        assert logged(trainer)[name] == pytest.approx(logged(whole)[name], rel=1e-2), name


def test_adapters_learn_to_look(tmp_path: Path) -> None:
    adapters = LoraConfig(r=4, target_modules=["q_proj", "k_proj"], init_lora_weights=True)
    trainer = runs.Keep(
        runs.model(),
        runs.sft_config(tmp_path, alpha=1.0, beta=1.0, max_steps=25, learning_rate=1e-2, gradient_checkpointing=True),
        train_dataset=runs.dataset(runs.rows()),
        processing_class=runs.processor(),
        peft_config=adapters,
    )
    trainer.train()
    assert all("lora" in name for name in trainer.kept[0])
    first, last = logged(trainer), logged(trainer, 24)
    assert last["attention/image"] > first["attention/image"] + 0.05
    assert last["attention/system"] < first["attention/system"] - 0.05
    assert last["vas"] > 1.5 * first["vas"]


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    rows = runs.rows((1, 2, 0, 1, 1, 1), (3, 9, 5, 1, 2, 4))
    options = {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 3,
        "train_sampling_strategy": "random",
    }
    straight = runs.trained(tmp_path / "run", rows, **options)
    shutil.rmtree(tmp_path / "run" / "checkpoint-6")

    def resume() -> runs.Keep:
        trainer = runs.Keep(
            runs.model(seed=1),
            runs.sft_config(tmp_path / "run", **options),
            train_dataset=runs.dataset(rows),
            processing_class=runs.processor(),
        )
        trainer.train(resume_from_checkpoint=True)
        return trainer

    resumed = resume()
    assert len(resumed.kept) == 3
    for name, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    state = json.loads((tmp_path / "run" / "checkpoint-6" / "trainer_state.json").read_text())
    for name in ("loss_enhance_image", "num_tokens"):
        assert [log[name] for log in state["log_history"]] == [log[name] for log in straight.state.log_history[:6]], (
            name
        )
    finished = resume()
    assert finished.kept == []
    assert all(torch.equal(of, resumed.model.state_dict()[name]) for name, of in finished.model.state_dict().items())


def test_evaluation_has_the_same_terms(tmp_path: Path, whole: Any) -> None:
    trainer = runs.Keep(
        runs.model(),
        runs.sft_config(tmp_path, per_device_eval_batch_size=4),
        train_dataset=runs.dataset(runs.rows()),
        eval_dataset=runs.dataset(runs.rows()),
        processing_class=runs.processor(),
    )
    measured = trainer.evaluate()
    for name in ("loss", *TERMS, "vas"):
        assert measured[f"eval_{name}"] == pytest.approx(logged(whole)[name], rel=1e-5), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -0.1}, "must not be negative"),
        ({"attention_epsilon": 0.0}, "must be above 0"),
        ({"late_queries": 1.0}, "set attention_queries to response or both"),
        ({"late_queries": -1.0, "attention_queries": "both"}, "late_queries must not be negative"),
        ({"packing": True}, "packing cannot be combined with attention losses"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor cannot be combined"),
        ({"gradient_checkpointing_kwargs": {"use_reentrant": True}}, "use_reentrant: false"),
    ],
)
def test_options_that_exclude_each_other_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        runs.sft_config(tmp_path, **options)


def start(folder: Path, of: Any = None, made: Dataset | None = None, **more: Any) -> AvarSFTTrainer:
    data = runs.dataset(runs.rows()) if made is None else made
    options = {"processing_class": runs.processor()} | more
    return AvarSFTTrainer(runs.model() if of is None else of, runs.sft_config(folder), train_dataset=data, **options)


def test_it_does_not_start_where_attention_cannot_be_measured(tmp_path: Path) -> None:
    with pytest.raises(ObserveError, match=r"layers must be among 0 to 2, got \[3\]"):
        runs.trained(tmp_path, runs.rows(), attention_layers=[3])
    with pytest.raises(UsageError, match="compute_loss_func makes a second pass"):
        start(tmp_path, compute_loss_func=lambda *_, **__: None)
    text = [{name: row[name] for name in ("prompt", "completion")} for row in runs.rows((0, 0), (3, 5))]
    tokenizer = runs.processor().tokenizer
    tokenizer.chat_template = runs.processor().chat_template
    with pytest.raises(AttentionTrainingError, match="no processor of a vision-language model"):
        start(tmp_path, made=Dataset.from_list(text), processing_class=tokenizer)
    unknown = runs.model()
    unknown.config.get_text_config()._attn_implementation = "paged"
    with pytest.raises(ObserveError, match="'paged' cannot be observed"):
        start(tmp_path, of=unknown)


def test_beta_needs_a_system_turn(tmp_path: Path) -> None:
    """LLaVA-OneVision's template writes none where there is no system message."""
    rows = runs.rows((1, 1, 1, 1))
    for row in rows:
        del row["prompt"][0]
    family = runs.lively_model(
        runs.FAMILIES["llava_onevision"].config(runs.FAMILIES["llava_onevision"].processor().tokenizer)
    )
    processor = runs.FAMILIES["llava_onevision"].processor()
    with pytest.raises(AttentionTrainingError, match="begin every conversation with a system message"):
        start(tmp_path, of=family, made=runs.dataset(rows), processing_class=processor)


def test_who_must_see_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FSDP and ZeRO-3 share all weights; ZeRO-2 shares gradients, of a vision tower that is trained."""
    trainer = start(tmp_path)
    assert sees_together(trainer) is False
    monkeypatch.setattr(trainer, "is_fsdp_enabled", True)
    assert sees_together(trainer) is True
    monkeypatch.setattr(trainer, "is_fsdp_enabled", False)
    monkeypatch.setattr(trainer, "is_deepspeed_enabled", True)
    for stage, trains, together in ((2, False, False), (2, True, True), (3, False, True)):
        monkeypatch.setattr(type(trainer.accelerator.state), "deepspeed_plugin", SimpleNamespace(zero_stage=stage))
        trainer.model.model.visual.requires_grad_(trains)
        assert sees_together(trainer) is together
