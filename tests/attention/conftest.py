"""One thread: these models are so small that threads only wait for each other, many times as long on a busy machine."""

import torch

torch.set_num_threads(1)
