"""The options of AVAR's cold-start fine-tuning: TRL's, and those of AGTO."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from trl import SFTConfig

from avar_eval.attention.objectives import EPSILON
from avar_eval.attention.observe import QuerySet
from avar_eval.errors import UsageError


@dataclass
class AvarSFTConfig(SFTConfig):  # type: ignore[misc] # TRL is untyped here
    """TRL's SFTConfig with the weights of Eq. 4 and what the losses of Eq. 5-6 are computed over."""

    alpha: float = field(default=0.15, metadata={"help": "Weight of L_enhance-img (Eq. 4)."})
    beta: float = field(default=0.15, metadata={"help": "Weight of L_suppress-sys (Eq. 4)."})
    attention_queries: Literal["user", "response", "both"] = field(
        default="user", metadata={"help": "Q of Eq. 5-6: the tokens whose attention is trained."}
    )
    late_queries: float = field(
        default=0.0,
        metadata={
            "help": "Weight in Q of a response's token: its place over the response's length to this power. 0 weighs "
            "all alike (Eq. 5-6), larger numbers the end."
        },
    )
    attention_layers: list[int] | None = field(
        default=None, metadata={"help": "Decoder layers whose attention is trained, counted from 0; all by default."}
    )
    attention_epsilon: float = field(default=EPSILON, metadata={"help": "The epsilon of Eq. 6."})

    normalize_over_step: bool | None = field(
        default=None,
        metadata={
            "help": "Divide the language loss by the tokens of the whole step. Without it transformers averages the "
            "means of micro-batches for most vision-language models. By default on if alpha or beta is not 0."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha < 0 or self.beta < 0:
            raise UsageError(f"alpha and beta (Eq. 4) must not be negative, got {self.alpha} and {self.beta}")
        if self.attention_queries not in get_args(QuerySet):  # TRL's parser lets any word through
            raise UsageError(
                f"attention_queries must be one of {', '.join(get_args(QuerySet))}, not {self.attention_queries!r}"
            )
        if self.late_queries < 0:
            raise UsageError(f"late_queries must not be negative, got {self.late_queries}")
        if self.late_queries and self.attention_queries == "user":
            raise UsageError("late_queries weighs tokens of the response: set attention_queries to response or both")
        if self.attention_epsilon <= 0:
            raise UsageError(f"attention_epsilon (Eq. 6) must be above 0, got {self.attention_epsilon}")
        if self.load_best_model_at_end:
            raise UsageError("load_best_model_at_end is not supported: score the checkpoints and keep the best")
        if not self.trains_attention:
            return
        for option in ("packing", "padding_free", "label_smoothing_factor"):
            if getattr(self, option):
                raise UsageError(f"{option} cannot be combined with attention losses: turn it off, or set alpha=beta=0")
        if (self.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise UsageError(
                "reentrant gradient checkpointing hides attention from the gradient: set "
                "gradient_checkpointing_kwargs to {use_reentrant: false}"
            )

    @property
    def trains_attention(self) -> bool:
        """Whether attention is measured at all."""
        return bool(self.alpha or self.beta)
