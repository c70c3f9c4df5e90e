"""Small random models of the true classes come from the attention room's tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "attention"))
