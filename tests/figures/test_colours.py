"""Colours of roles and of models can be told apart, also by the colour-blind and in grey print."""

from itertools import combinations

import numpy as np
import pytest
from jaxtyping import Float

from avar_eval.figures.style import COLOURS, ROLES, SERIES

# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
EYES = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour: str, eye: str) -> Float[np.ndarray, " 3"]:
    """CIE L*a*b* of a colour as this eye sees it."""
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    x, y, z = XYZ @ np.clip(np.array(EYES[eye]) @ linear, 0, 1) / np.array([0.9505, 1, 1.089])
    fx, fy, fz = (np.cbrt(v) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("colours", [[COLOURS[role] for role in ROLES], SERIES], ids=["roles", "models"])
def test_every_eye_tells_any_two_apart(colours: list[str], eye: str) -> None:
    differences = {(a, b): np.linalg.norm(lab(a, eye) - lab(b, eye)) for a, b in combinations(colours, 2)}
    assert min(differences.values()) > 19, differences  # a just noticeable difference is 2.3


def test_no_model_has_a_roles_colour() -> None:
    for model in SERIES:
        assert min(np.linalg.norm(lab(model, "normal") - lab(COLOURS[role], "normal")) for role in ROLES) > 19
