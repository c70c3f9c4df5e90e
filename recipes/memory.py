"""How much memory a training step needs on each GPU, from the shape of a model: an estimate to choose a card by."""

from pydantic import BaseModel, ConfigDict

GIGABYTE = 1e9
_WORKSPACE = 1.5e9  # CUDA context, kernels' workspaces, fragmentation


class VisionTower(BaseModel):
    """A vision tower's published shape; patch: side of a patch in pixels."""

    model_config = ConfigDict(extra="forbid")

    layers: int
    hidden: int
    intermediate: int
    patch: int

    def activation_bytes(self, pixels: int, trained: bool) -> float:
        """Of a step on pictures of so many pixels in all, see `estimate`; a frozen tower keeps no inputs."""
        kept = self.layers if trained else 0
        return _activations(pixels // self.patch**2, self.hidden, self.intermediate, kept)


class Architecture(BaseModel):
    """A decoder's published shape, and its vision tower's; parameters: of the whole model, in numbers."""

    model_config = ConfigDict(extra="forbid")

    parameters: float
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vision: VisionTower | None = None

    def lora_parameters(self, rank: int) -> int:
        """Parameters of adapters on every linear map of the decoder's layers."""
        key_value = self.hidden // self.heads * self.kv_heads
        attention = 2 * (self.hidden + self.hidden) + 2 * (self.hidden + key_value)
        feed_forward = 3 * (self.hidden + self.intermediate)
        return rank * self.layers * (attention + feed_forward)

    def cache_bytes(self, tokens: int) -> float:
        """Keys and values of `tokens` tokens in bfloat16, as generation keeps them."""
        return 2.0 * 2 * tokens * self.layers * self.hidden // self.heads * self.kv_heads


class Memory(BaseModel):
    """Bytes on one GPU. generation: what rollouts take while there are no activations: keys and values, and, where
    weights are sharded, all of them gathered."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    vision: float = 0.0
    generation: float = 0.0
    workspace: float = _WORKSPACE

    @property
    def total(self) -> float:
        """The most that is there at one time."""
        passing = max(self.activations + self.vision, self.generation)
        return self.weights + self.gradients + self.optimizer + passing + self.workspace


def estimate(
    architecture: Architecture,
    tokens: int,
    *,
    lora_rank: int | None,
    shards: int = 1,
    generated: int = 0,
    pixels: int = 0,
) -> Memory:
    """Memory of a training step on `tokens` tokens a GPU with AdamW under bfloat16 autocast, with checkpointing.

    generated: tokens, prompts included, of the rollouts that transformers generates at a time on a GPU (GRPO). pixels:
    of the pictures of a step on a GPU, each patch of which the vision tower carries through its layers.

    All weights trained: they, gradients and the two moments are float32. Adapters of `lora_rank`: these alone are
    float32, and the model's weights are bfloat16. shards: over how many GPUs all that is spread (FSDP2, ZeRO-3).
    Checkpointing keeps each layer's input (2 bytes a number) and one layer's inner activations: 34 bytes a number of
    the hidden size with a feed-forward of 4 times that (Korthikanti et al., arXiv 2205.05198, Eq. 2, without attention
    maps). The workspace holds the losses' tiles, for no logits of the whole sequence are made. In GRPO, vLLM
    comes on top.
    """
    whole = lora_rank is None
    trained = architecture.parameters if lora_rank is None else architecture.lora_parameters(lora_rank)
    gathered = 2.0 * architecture.parameters if generated and shards > 1 else 0.0
    return Memory(
        weights=architecture.parameters * (4 if whole else 2) / shards,
        gradients=trained * 4 / shards,
        optimizer=trained * 8 / shards,
        activations=_activations(tokens, architecture.hidden, architecture.intermediate, architecture.layers),
        vision=architecture.vision.activation_bytes(pixels, whole) if architecture.vision else 0.0,
        generation=architecture.cache_bytes(generated) + gathered,
    )


def _activations(tokens: int, hidden: int, intermediate: int, layers: int) -> float:
    """Bytes of each layer's kept input, and of the inner activations of one layer."""
    return 2.0 * tokens * hidden * layers + tokens * hidden * (18 + 4 * intermediate / hidden)
