"""What ends a response: the end of a turn in the chat template, whatever else a checkpoint's defaults name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from runs import MODEL

from avar_eval.models.backend import BackendError, Generation
from avar_eval.models.backend_options import VllmOptions
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.decoding import Decoding
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.models.vllm_backend import VllmBackend
from avar_eval.tasks.shapes.dataset import prompt, rows

PADDING, TURN_END = 0, 2


def checkpoint_with(folder: Path, eos: Any, tokenizer_eos: str | None = None) -> Path:
    """The embedded model, its generation defaults naming other ends (`...`: it has none of them)."""
    made = Path(shutil.copytree(resolve_checkpoint(MODEL).path, folder / "model"))
    defaults = json.loads((made / "generation_config.json").read_text())
    if eos is ...:
        (made / "generation_config.json").unlink()
    else:
        (made / "generation_config.json").write_text(json.dumps(defaults | {"eos_token_id": eos}))
    if tokenizer_eos is not None:
        settings = json.loads((made / "tokenizer_config.json").read_text())
        (made / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": tokenizer_eos}))
    return made


def answers(backend: TransformersBackend) -> list[Generation]:
    chosen = [row for row, _ in zip(rows("test"), range(4), strict=False)]
    messages = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt(r)}]}] for r in chosen]
    inputs = backend.encode([backend.render(message) for message in messages], [[row["image"]] for row in chosen])
    generations, _ = backend.generate_measured(inputs, Decoding(max_new_tokens=200), ["0"] * 4, [0])
    assert generations == backend.generate(inputs, Decoding(max_new_tokens=200), ["0"] * 4)
    return generations


@pytest.fixture(scope="module")
def expected() -> list[Generation]:
    found = answers(TransformersBackend(resolve_checkpoint(MODEL), "cpu", "float32"))
    assert {answer.finish_reason for answer in found} == {"stop"}
    return found


@pytest.mark.parametrize(
    ("eos", "tokenizer_eos", "joined"),
    [
        (PADDING, None, {"also_ends": "<|im_end|>"}),
        ([PADDING], "<|endoftext|>", {"also_ends": "<|im_end|>"}),
        (None, "<|endoftext|>", {"also_ends": "<|im_end|>"}),
        (None, None, {}),
        ([PADDING, TURN_END], None, {}),
        (..., None, {}),
    ],
)
def test_the_end_of_a_turn_joins_the_ends_that_a_checkpoint_names(
    eos: Any, tokenizer_eos: str | None, joined: dict[str, str], expected: list[Generation], tmp_path: Path
) -> None:
    backend = TransformersBackend(resolve_checkpoint(str(checkpoint_with(tmp_path, eos, tokenizer_eos))), "cpu")
    assert answers(backend) == expected
    assert backend.identity() == joined
    engine = VllmBackend(backend, VllmOptions())
    assert TURN_END in engine._ends
    assert engine._ends == set(backend.model.generation_config.eos_token_id)
    assert engine.identity() == {"backend": "vllm", **joined}


def test_an_end_of_the_defaults_still_ends(expected: list[Generation], tmp_path: Path) -> None:
    first = expected[0].token_ids[1]
    backend = TransformersBackend(resolve_checkpoint(str(checkpoint_with(tmp_path, [first]))), "cpu")
    assert answers(backend)[0].token_ids == expected[0].token_ids[:2]


@pytest.mark.parametrize("eos", ["<|im_end|>", [2, "x"], {"a": 1}])
def test_defaults_that_cannot_be_used_say_so(eos: Any, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"generation defaults of .* cannot be used"):
        TransformersBackend(resolve_checkpoint(str(checkpoint_with(tmp_path, eos))), "cpu")
