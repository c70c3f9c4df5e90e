"""What `--steer` reads and refuses, the identity of a steering, and the presets against their published formulas."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from avar_eval.attention.steer import first_steered
from avar_eval.attention.steered_attention import scaled
from avar_eval.attention.steering import PRESETS, Steering, parse_steering
from avar_eval.errors import UsageError

numbers = st.none() | st.sets(st.integers(0, 999), min_size=1, max_size=6)
steerings = st.builds(
    Steering,
    image=st.floats(-0.99, 100),
    system=st.floats(-100, 0.99),
    mode=st.sampled_from(["logit", "log", "prob", "abs"]),
    rows=st.sampled_from(["after-image", "all", "last"]),
    layers=numbers,
    heads=numbers,
)


@given(steerings)
def test_the_text_and_the_identity_of_a_steering_read_back_as_itself(steering: Steering) -> None:
    assert parse_steering(str(steering)) == steering
    assert Steering(**steering.identity()) == steering


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("image=0.15,system=0.4", {"image": 0.15, "system": 0.4}),
        (" system = 0.4 , image = 1e-1 ", {"image": 0.1, "system": 0.4}),
        ("image=0.1,layers=8-10+2,heads=3", {"image": 0.1, "layers": (2, 8, 9, 10), "heads": (3,)}),
        ("avar,system=0.05,mode=prob", {"image": 0.15, "system": 0.05, "mode": "prob"}),
        ("AVAR", {"image": 0.15, "system": 0.4}),
        ("pai,layers=0-3", {"image": 0.2, "mode": "abs", "rows": "last", "layers": (0, 1, 2, 3)}),
        ("image=-0.0", {}),
    ],
)
def test_texts_are_read(text: str, fields: dict[str, Any]) -> None:
    assert parse_steering(text) == Steering(**fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--steer is empty: name one of avar, vaf, pai, or give strengths"),
        ("avr", "unknown steering 'avr': did you mean avar"),
        ("imag", "unknown steering 'imag'"),
        ("image", "image needs one value, as in image=0.15"),
        (" , ", "--steer is empty"),
        ("mode=log,layers=3", "--steer mode=log,layers=3 has no strength: name one of avar, vaf, pai first"),
        ("image=0,15", "15 is none: a decimal point is written as in system=0.4"),
        ("avar,layers=8-9,12-14", "12-14 is none: "),
        ("sytem=0.4", "unknown part of --steer 'sytem': did you mean system"),
        ("avar,vaf", "unknown part of --steer 'vaf'"),
        ("image=0.1,", "--steer image=0.1, has a comma too many"),
        ("avar,image", "image needs one value, as in image=0.15"),
        ("image=0.1,image=0.2", "image needs one value"),
        ("image=much", "image takes a number, such as 0.15, not 'much'"),
        ("image=nan", "image takes a number from -1 to 100, not nan"),
        ("image=-1.5", "image takes a number from -1 to 100, not -1.5"),
        ("system=1.01", "system takes a number from -100 to 1, not 1.01"),
        ("avar,mode=Logit", "mode takes logit, log, prob, abs, not 'Logit'"),
        ("avar,rows=first", "rows takes after-image, all, last, not 'first'"),
        ("avar,layers=", "layers takes numbers and ascending ranges"),
        ("avar,layers=9-3", "layers takes numbers and ascending ranges"),
        ("avar,heads=1;2", "heads takes numbers and ascending ranges"),
        ("avar,layers=5000", "layers takes numbers below 1000"),
        ("system=1,mode=log", "mode log cannot take"),
    ],
)
def test_a_wrong_text_gets_one_message(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_steering(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields", [{"image": 101}, {"layers": []}, {"layers": [-1]}, {"mode": "sqrt"}, {"strength": 1}]
)
def test_fields_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Steering(**fields)


def test_every_field_is_part_of_the_identity() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"image": 0.1},
        {"system": 0.1},
        {"image": 0.1, "mode": "log"},
        {"image": 0.1, "rows": "all"},
        {"image": 0.1, "layers": [1]},
        {"image": 0.1, "heads": [1]},
    ]
    assert len({str(Steering(**change).identity()) for change in changes}) == len(changes)
    assert Steering(layers=[3, 1, 3]) == Steering(layers=range(1, 4, 2))


def test_reading_needs_no_torch() -> None:
    code = "import sys, avar_eval.attention.steering as s; s.parse_steering('vaf'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


QUERIES, KEYS, SYSTEM, IMAGE = 9, 12, slice(0, 3), slice(3, 8)


def formula(steering: Steering, query: Tensor, key: Tensor) -> Tensor:
    """The preset's scores as this project computes them, from scaled keys or magnified scores."""
    strengths = torch.zeros(1, KEYS)
    strengths[:, IMAGE], strengths[:, SYSTEM] = steering.image, -steering.system
    if steering.mode == "logit":
        return query @ scaled(key, strengths).transpose(-1, -2)
    scores = query @ key.transpose(-1, -2)
    return scores + strengths * scores.abs()


def states() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 2, QUERIES, 4, generator=generator), torch.randn(1, 2, KEYS, 4, generator=generator)


def test_avar_is_equation_3() -> None:
    query, key = states()
    z = query @ key.transpose(-1, -2)
    enhance, suppress = torch.zeros(KEYS), torch.zeros(KEYS)
    enhance[IMAGE], suppress[SYSTEM] = 1, 1
    expected = z + 0.15 * enhance * z - 0.4 * suppress * z
    assert torch.allclose(formula(PRESETS["avar"], query, key), expected, atol=1e-6)
    assert (PRESETS["avar"].rows, PRESETS["avar"].layers) == ("after-image", None)


def test_vaf_is_clearsights_formula_in_its_layers() -> None:
    query, key = states()
    expected = query @ key.transpose(-1, -2)
    expected[..., IMAGE] *= 1.15
    expected[..., SYSTEM] *= 0.95
    assert torch.allclose(formula(PRESETS["vaf"], query, key), expected, atol=1e-6)
    assert PRESETS["vaf"].layers == tuple(layer for layer in range(32) if 8 < layer < 15)
    assert PRESETS["vaf"].rows == "after-image"


def test_pai_adds_a_fifth_of_the_magnitude_to_the_last_query() -> None:
    query, key = states()
    expected = query @ key.transpose(-1, -2)
    expected[..., IMAGE] += 0.2 * expected[..., IMAGE].abs()
    assert torch.allclose(formula(PRESETS["pai"], query, key), expected, atol=1e-6)
    assert PRESETS["pai"].layers == tuple(range(2, 32))
    prompt = torch.tensor([[0, 1, 1, 2, 2, 3, 5]])
    assert first_steered(PRESETS["pai"].rows, prompt).tolist() == [6]
