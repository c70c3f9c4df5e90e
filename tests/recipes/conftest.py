"""Small random models and an endpoint come from other rooms' tests; one thread is fastest for such models."""

import sys
from pathlib import Path

import torch

for room in ("attention", "models"):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))
torch.set_num_threads(1)
