"""One thread, and the families' small models, as for attention."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "attention"))

from family_models import FAMILIES, family_backend

if TYPE_CHECKING:
    from avar_eval.models.transformers_backend import TransformersBackend

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=FAMILIES)
def backend(request: Any, tmp_path_factory: Any) -> "TransformersBackend":
    """The family's model and processor, saved and loaded as a checkpoint is."""
    return family_backend(request.param, tmp_path_factory.mktemp(request.param))
