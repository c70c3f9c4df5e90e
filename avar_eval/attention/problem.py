"""What the blocks, layers' kernels and gradient of one attention call share."""

from collections.abc import Sequence
from dataclasses import dataclass

from avar_eval.attention.groups import KeyGroups
from avar_eval.attention.visibility import Visibility


@dataclass(frozen=True)
class AttentionProblem:
    """The arguments of `avar_eval.attention.mass.attention_mass` but for its states. queries: ascending."""

    queries: Sequence[int]
    groups: KeyGroups
    visibility: Visibility
    scaling: float
    softcap: float | None
