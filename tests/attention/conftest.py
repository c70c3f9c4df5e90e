"""One thread: these models are so small that threads only wait for each other, many times as long on a busy machine."""

from typing import Any

import pytest
import torch
from family_models import FAMILIES, family_backend

from avar_eval.models.transformers_backend import TransformersBackend

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=FAMILIES)
def backend(request: Any, tmp_path_factory: Any) -> TransformersBackend:
    """The family's model and processor, saved and loaded as a checkpoint is."""
    return family_backend(request.param, tmp_path_factory.mktemp(request.param))
