"""Small random models of the true classes come from the attention room's tests; one thread is fastest for them."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "attention"))
torch.set_num_threads(1)
