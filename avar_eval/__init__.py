"""avar-eval: score vision-language reasoning models and measure where they look."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avar_eval.attention.measure import measure_attention
    from avar_eval.attention.observe import observe
    from avar_eval.attention.record import AttentionRecord
    from avar_eval.attention.steer import steer
    from avar_eval.attention.steering import Steering

__version__ = "0.1.0"
__all__ = ["AttentionRecord", "Steering", "__version__", "measure_attention", "observe", "steer"]

_HOMES = {
    "AttentionRecord": "avar_eval.attention.record",
    "Steering": "avar_eval.attention.steering",
    "measure_attention": "avar_eval.attention.measure",
    "observe": "avar_eval.attention.observe",
    "steer": "avar_eval.attention.steer",
}


def __getattr__(name: str) -> Any:
    """Public names that need torch are imported when they are first used: `import avar_eval` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'avar_eval' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
