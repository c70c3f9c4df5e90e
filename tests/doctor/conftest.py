"""One thread is fastest for small models beside other tests."""

import torch

torch.set_num_threads(1)
