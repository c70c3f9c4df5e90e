"""The command: what it measures equals eager maps in float64, and what it prints, writes and refuses."""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_models import FAMILIES, lively_model
from matplotlib.figure import Figure
from PIL import Image
from readable_figures import check_readable

from avar_eval.attention.measure import measure_attention, with_responses
from avar_eval.attention.roles import ChatMarkup, Role, TokenRoles
from avar_eval.cli import main
from avar_eval.figures.style import COLUMN, PAGE, drawing
from avar_eval.look import image_attention, layer_curves, response_curves
from avar_eval.look.conversation import Conversation, look
from avar_eval.look.image_attention import attention_on_image_tokens
from avar_eval.look.overlay import _borders, draw_overlay
from avar_eval.look.response_curves import shown
from avar_eval.run.asking import Asking

Run = Callable[..., tuple[int, str, str]]
RESPONSE = "One $red$ and\ntwo <think> 画 blue_{2}^."


def save(folder: Path, family: str) -> Path:
    processor = FAMILIES[family].processor()
    lively_model(FAMILIES[family].config(processor.tokenizer)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: Any) -> Path:
    return save(tmp_path_factory.mktemp("model"), "qwen2_5_vl")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: Any) -> list[Path]:
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / "wide.png", folder / "tall.jpg"]
    for path, (width, height) in zip(paths, [(12, 7), (6, 12)], strict=True):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((width * 12, height * 12), Image.Resampling.NEAREST).save(path)
    return paths


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """The command line in this process: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["avar-eval", "look", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as exit:
            code = int(exit.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "gemma3", "internvl", "llava_onevision", "smolvlm"])
def test_attention_on_each_image_token_equals_eager_float64(
    family: str, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_attention, "_KEYS_AT_ONCE", 5)  # several blocks of keys and of queries
    monkeypatch.setattr(image_attention, "_ELEMENTS_AT_ONCE", 100)
    processor = FAMILIES[family].processor()
    model = lively_model(FAMILIES[family].config(processor.tokenizer))
    content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": "What is this? Count them."}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    images = [Image.open(path).convert("RGB") for path in pictures]
    inputs = with_responses(
        processor(text=[prompt], images=[images], return_tensors="pt", add_special_tokens=False), [[65, 66, 67, 68]]
    )
    length = inputs["input_ids"].shape[1]
    prompt_roles = ChatMarkup(processor).prompt_roles(inputs["input_ids"][0, : length - 4].tolist())
    roles = torch.tensor([*prompt_roles, *[Role.RESPONSE] * 4])
    keys = (roles == Role.IMAGE).nonzero().flatten()
    queries = {name: (roles == Role[name.upper()]).nonzero().flatten() for name in ("user", "response")}
    measured = attention_on_image_tokens(model, inputs, keys, queries, TokenRoles(roles[None]))
    reference = copy.deepcopy(model).double()
    reference.set_attn_implementation("eager")
    exact = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.no_grad():
        maps = torch.stack(reference(**exact, output_attentions=True, use_cache=False).attentions)[:, 0]
    assert len(keys) > 5
    for name, rows in queries.items():
        expected = maps[:, :, rows][..., keys].mean((0, 1, 2))
        assert measured[name].dtype == torch.float64
        assert measured[name].tolist() == pytest.approx(expected.tolist(), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("title", [True, False])
def test_curves_are_readable_in_a_column_of_print(
    title: bool, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    for module in (layer_curves, response_curves):
        monkeypatch.setattr(module, "save_figure", lambda figure, path: drawn.append(figure) or path)
    for answer in ("<answer>2</answer>", "<think>one two three</think>" * 12):
        looked = look(Conversation(Asking(model="avar-tiny", device="cpu"), pictures[:1], "How many? " * 9, answer))
        with drawing():
            layer_curves.draw_layer_curves(looked, tmp_path / "layers.png", title)
            response_curves.draw_response_curves(looked, tmp_path, title=title)
            for figure in drawn:
                check_readable(figure, title)
    assert [figure.get_size_inches()[0] for figure in drawn] == [COLUMN, COLUMN, COLUMN, PAGE]


def test_a_look_at_two_images_agrees_with_measure_attention(model: Path, pictures: list[Path]) -> None:
    looked = look(
        Conversation(
            Asking(model=str(model), system_prompt="Be brief.", device="cpu"), pictures, "Which is larger?", RESPONSE
        )
    )
    assert looked.finish_reason == "given"
    assert "".join(looked.tokens).startswith("One $red$ and\ntwo <think> ")
    assert looked.image_tokens is not None
    for name in ("user", "response"):
        on_tokens = sum(float(tokens.shares[name].sum()) for tokens in looked.image_tokens)
        assert on_tokens == pytest.approx(looked.share("image", name), rel=1e-5)
    from transformers import AutoModelForImageTextToText, AutoProcessor

    content: list[Any] = [{"type": "image", "image": Image.open(path).convert("RGB")} for path in pictures]
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [*content, {"type": "text", "text": "Which is larger?"}]},
    ]
    loaded = AutoModelForImageTextToText.from_pretrained(model).eval()
    record = measure_attention(loaded, AutoProcessor.from_pretrained(model), messages, RESPONSE)
    assert looked.record.visual_attention_score() == pytest.approx(record.visual_attention_score(), rel=1e-5)


def test_json_is_one_object_and_the_pictures_are_pictures(run: Run, model: Path, pictures: list[Path]) -> None:
    images = ("--image", pictures[0], "--image", pictures[1])
    code, out, err = run(
        model, *images, "--prompt", "What $is$ this_{}?", "--max-new-tokens", "6", "--output", "o", "--json"
    )
    assert code == 0, err
    result = json.loads(out)
    assert [image["width"] for image in result["images"]] == [144, 72]
    assert result["finish_reason"] in ("stop", "length")
    assert len(result["along_response"]) == result["queries"]["response"]["tokens"] <= 6
    for seen_from in result["queries"].values():
        assert seen_from["band"] in ("narrow", "wide", "panoramic")
        shares = seen_from["share"]
        assert sum(shares[name] for name in ("system", "image", "user", "response", "template")) == pytest.approx(
            1, 1e-4
        )
    assert [len(image["places"]) for image in result["image_tokens"]] == [
        len(x["share"]["user"]) for x in result["image_tokens"]
    ]
    assert [Path(path).name for path in result["pictures"]] == ["image.png", "layers.png", "response.png"]
    for path in result["pictures"]:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert 900 < picture.width < 3000
            assert 400 < picture.height < 3000
            assert len(set(picture.convert("RGB").resize((64, 64)).getdata())) > 50


def test_the_table_says_it_in_words_and_long_answers_get_more_pages(
    run: Run, model: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_curves, "ROWS_A_PAGE", 1)
    answer = "[bold]one[/bold] two three four five six " * 3
    code, out, err = run(model, "--image", pictures[1], "--prompt", "What?", "--response", answer)
    assert code == 0, err
    assert "[bold]one[/bold]" in out
    for words in ("VAS", "share of attention on", "system turn", "question (user turn)", "answer so far"):
        assert words in out
    folder = Path("avar-runs/look") / model.name
    assert {path.name for path in folder.iterdir()} >= {"image.png", "layers.png", "response.png", "response-2.png"}


def test_a_family_without_a_known_overlay_says_so(run: Run, pictures: list[Path], tmp_path: Path) -> None:
    folder = save(tmp_path / "mllama", "mllama")
    code, out, err = run(folder, "--image", pictures[0], "--prompt", "What?", "--response", "one", "--output", "o")
    assert code == 0, err
    assert "no overlay is known for Llama-3.2-Vision" in out
    assert not Path("o/image.png").exists()
    assert Path("o/layers.png").exists()


def test_what_is_off_is_one_message(run: Run, model: Path, pictures: list[Path], tmp_path: Path) -> None:
    broken, occupied = tmp_path / "broken.png", tmp_path / "occupied"
    broken.write_bytes(pictures[0].read_bytes()[:200])
    occupied.write_text("")
    (tmp_path / "text.png").write_text("not a picture")
    image = ("--image", pictures[0])
    cases: list[tuple[tuple[Any, ...], int, str]] = [
        (("avar-tinny", *image, "--prompt", "What?"), 2, "did you mean avar-tiny"),
        (("./nowhere/model", *image, "--prompt", "What?"), 2, "there is no model folder"),
        ((model, "--prompt", "What?"), 2, "at least one --image"),
        ((model, "--image", "nowhere.png", "--prompt", "What?"), 2, "there is no image file"),
        ((model, "--image", tmp_path, "--prompt", "What?"), 2, "there is no image file"),
        ((model, "--image", broken, "--prompt", "What?"), 2, "cannot be read as an image"),
        ((model, "--image", tmp_path / "text.png", "--prompt", "What?"), 2, "cannot be read as an image"),
        ((model, *image, "--prompt", " "), 2, "--prompt is empty"),
        ((model, *image, "--prompt", "What?", "--response", ""), 2, "--response is empty"),
        ((model, *image, "--prompt", "What is <|image_pad|>?"), 2, "--prompt contains <|image_pad|>"),
        ((model, *image, "--prompt", "What?", "--output", occupied / "deeper"), 2, "cannot be written to"),
        ((model, *image, "--prompt", "What?", "--dtype", "int8"), 2, "--dtype takes"),
        (
            (model, *image, "--prompt", "What?", "--attn-implementation", "spda"),
            2,
            "'spda' cannot be used here: it is no",
        ),
        ((tmp_path, *image, "--prompt", "What?"), 1, "has no config.json"),
    ]
    for arguments, expected, message in cases:
        code, out, err = run(*arguments)
        assert (code, out) == (expected, ""), arguments
        assert message in err
        assert "Traceback" not in err


def test_a_picture_keeps_its_colours_and_lines_go_around_what_is_looked_at(tmp_path: Path) -> None:
    colours = ((217, 38, 41), (36, 92, 222), (46, 163, 46), (240, 200, 28))
    picture = Image.new("RGB", (112, 112), "white")
    for place, colour in enumerate(colours):
        picture.paste(colour, (28 * place + 4, 32, 28 * place + 24, 52))
    picture.save(tmp_path / "scene.png")
    looked = look(Conversation(Asking(model="avar-tiny", device="cpu"), [tmp_path / "scene.png"], "What?", "red"))
    with drawing(), Image.open(draw_overlay(looked, looked.image_tokens or [], tmp_path / "image.png")) as drawn:
        counts = {colour: count for count, colour in drawn.convert("RGB").getcolors(1 << 24) or []}
    for colour in colours:
        assert counts[colour] > 1000, "no veil lies over it"
    edges = _borders(np.array([[False, True, True], [False, False, True]]))
    assert sorted(tuple(sorted(line)) for line in edges) == [
        ((0.5, -0.5), (0.5, 0.5)),
        ((0.5, -0.5), (2.5, -0.5)),
        ((0.5, 0.5), (1.5, 0.5)),
        ((1.5, 0.5), (1.5, 1.5)),
        ((1.5, 1.5), (2.5, 1.5)),
        ((2.5, -0.5), (2.5, 1.5)),
    ]


def test_tokens_are_readable_labels() -> None:
    assert [shown(token) for token in (" red", "\n\n", " ", "a" * 30)] == ["red", "⏎⏎", "␣", "a" * 15 + "…"]
