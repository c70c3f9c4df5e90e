"""Ask a model through transformers: batched generation under one decoding specification, and where it looked."""

import bisect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Int
from PIL.Image import Image
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    EosTokenCriteria,
    GenerationConfig,
    StoppingCriteriaList,
    StopStringCriteria,
)

from avar_eval.attention.implementations import resolve_kernel_name, unavailable_reason
from avar_eval.attention.measure import measure_batch
from avar_eval.attention.observe import RECORDED, observe
from avar_eval.attention.record import AttentionRecord, records_of
from avar_eval.attention.roles import ChatMarkup, ChatTemplateError, TokenRoles, batch_roles
from avar_eval.attention.steer import check_steering, steer
from avar_eval.attention.steering import UNSTEERED, Steering
from avar_eval.errors import UsageError
from avar_eval.models.adapter import with_adapter
from avar_eval.models.assembled import how_to_mend
from avar_eval.models.backend import BackendError, Generation
from avar_eval.models.bars import without_bars
from avar_eval.models.checkpoint import INTERNVL_CHAT, Checkpoint, read_architecture
from avar_eval.models.damage import processor_fault, weights_fault
from avar_eval.models.decoding import Decoding
from avar_eval.models.image_limits import AppliedLimits, ImageLimits, apply_limits
from avar_eval.models.internvl_chat import load as load_internvl_chat
from avar_eval.models.sampling import OneTokenLater, OnToken, TokenCount, logits_processors
from avar_eval.time_limit import time_limit

TEMPLATE_SECONDS = 30.0
"""What a chat template may take: its loops have ends of 100,000 each, and one in another never ends."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Placement(NamedTuple):
    """Where and how a model computes. attn_implementation: what transformers loads by the name that was given."""

    device: torch.device
    dtype: str
    attn_implementation: str

    @classmethod
    def of(cls, device: str | None, dtype: str | None, attn_implementation: str | None) -> "Placement":
        """What was not given is chosen for this machine. Raises UsageError for what cannot be used on it."""
        where = _device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        how, name = dtype or ("bfloat16" if where.type == "cuda" else "float32"), attn_implementation or "sdpa"
        if how not in DTYPES:
            raise UsageError(f"--dtype takes {', '.join(DTYPES)}, not {how!r}")
        if reason := unavailable_reason(name, where, DTYPES[how]):
            raise UsageError(f"--attn-implementation {name!r} cannot be used here: {reason}")
        return cls(where, how, resolve_kernel_name(name))


class TransformersBackend:
    """A processor and a model. The model is loaded when it is first needed: rendering prompts does not need it.

    steering: what the model is steered by when it answers and when it is measured; it may be set anew at any time.
    attn_implementation: the attention kernel, by transformers' name; None is SDPA. image_limits: of the pixels of a
    picture (None: the processor's own). on_token: told at each token how far a batch is, if it is set. Raises
    UsageError for a device, dtype or kernel that cannot be used here, and for limits that the model's family cannot
    keep.
    """

    name: Literal["transformers"] = "transformers"

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str | None = None,
        dtype: str | None = None,
        steering: Steering | None = None,
        attn_implementation: str | None = None,
        image_limits: ImageLimits | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.steering = steering
        self.device, self.dtype, self.attn_implementation = Placement.of(device, dtype, attn_implementation)
        try:
            self.processor: Any = AutoProcessor.from_pretrained(checkpoint.processor_path)
            self.processor.tokenizer.padding_side = "left"
        except Exception as error:  # a damaged file makes the libraries below raise anything, KeyError and their own
            fault = processor_fault(error, checkpoint.processor_path)
            raise BackendError(f"the processor of {checkpoint.name} cannot be loaded: {fault}") from error
        if not self.processor.chat_template:
            raise BackendError(
                f"{checkpoint.name} has no chat template: add its chat_template.jinja to {checkpoint.processor_path}"
            )
        try:
            with time_limit(TEMPLATE_SECONDS):
                self.markup = ChatMarkup(self.processor)
        except Exception as error:  # a template is a program of others: it raises anything, and may have no end
            raise BackendError(f"the chat template of {checkpoint.name} cannot be used: {error}") from error
        self.image_limits = image_limits or ImageLimits()
        self.applied_limits = self._apply_limits()
        self.on_token: OnToken | None = None
        self._model: Any = None
        published = published_defaults(checkpoint)
        named = end_tokens(published) or {self.processor.tokenizer.eos_token_id}
        self._joined = sorted(end_tokens(self.terminators(published)) - named)

    def identity(self) -> dict[str, str]:
        """What decides a response beside the weights, if anything does.

        The ends of a turn that the checkpoint's generation defaults lack, an attention kernel that is not SDPA, and
        limits of pictures' pixels.
        """
        joined = self.processor.tokenizer.convert_ids_to_tokens(self._joined)
        ends = {"also_ends": " ".join(joined)} if joined else {}
        kernel = {} if self.attn_implementation == "sdpa" else {"attn_implementation": self.attn_implementation}
        return ends | kernel | self.image_limits.identity()

    def _apply_limits(self) -> AppliedLimits:
        """Set the limits on the processor, or what of them is kept before it. Raises UsageError."""
        return apply_limits(self.image_limits, self.processor, self.markup.format.family, self.checkpoint.name)

    def load(self) -> None:
        """Load the weights, if they are not yet; the checkpoint's generation defaults give way to ours."""
        if self._model is not None:
            return
        try:
            with without_bars():
                model, info = self._pretrained()
            if self.checkpoint.base is not None:
                model = with_adapter(model, self.checkpoint)
            model = model.to(self.device).eval()
        except BackendError:
            raise
        except Exception as error:  # see above
            under = (
                "" if self.attn_implementation == "sdpa" else f" with --attn-implementation {self.attn_implementation}"
            )
            base = [] if self.checkpoint.base is None else [self.checkpoint.base.path]
            fault = weights_fault(error, [self.checkpoint.path, *base])
            mend = how_to_mend(self.checkpoint.path)
            raise BackendError(
                f"the weights of {self.checkpoint.name} cannot be loaded{under}: {fault}{mend}"
            ) from error
        missing = sorted(info["missing_keys"])
        if missing:  # transformers would go on with random numbers in their place
            raise BackendError(
                f"the weights of {self.checkpoint.name} are not complete: {len(missing)} tensors are missing, such as "
                f"{missing[0]}; fetch the files in {self.checkpoint.path} again"
            )
        check_steering(model.config.get_text_config(), self.steering or UNSTEERED)
        model.generation_config = self.terminators(model.generation_config)
        self._model = model

    def _pretrained(self) -> tuple[Any, Mapping[str, Any]]:
        """The model of the checkpoint, or of its base, and what transformers says of loading it."""
        path = self.checkpoint.model_path
        how: dict[str, Any] = {
            "dtype": DTYPES[self.dtype],
            "attn_implementation": self.attn_implementation,
            "output_loading_info": True,
        }
        if read_architecture(path) == INTERNVL_CHAT:
            return load_internvl_chat(path, self.processor.image_token_id, how)
        loaded: tuple[Any, Mapping[str, Any]] = AutoModelForImageTextToText.from_pretrained(path, **how)
        return loaded

    @property
    def model(self) -> Any:
        """The loaded model, in evaluation mode."""
        self.load()
        return self._model

    def terminators(self, published: GenerationConfig) -> GenerationConfig:
        """Of a checkpoint's generation defaults keep what ends and pads a response, nothing that changes its text.

        What ends a turn in the chat template ends a response as well, whether or not those defaults name it: a model
        that goes on after it speaks for the user.
        """
        tokenizer = self.processor.tokenizer
        ends = end_tokens(published) | {self.markup.turn_end, tokenizer.eos_token_id} - {None}
        pad = published.pad_token_id if published.pad_token_id is not None else tokenizer.pad_token_id
        # A generated placeholder would stand for an image that is not there: no pass over the response could follow.
        placeholders = list(self.markup.placeholders)
        return GenerationConfig(eos_token_id=sorted(ends), pad_token_id=pad, suppress_tokens=placeholders)

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        """The prompt's text after the chat template, one placeholder an image, up to the assistant's header.

        Raises BackendError where the template refuses it, or where a text holds what marks turns or images: to the
        model it would be markup.
        """
        for message in messages:
            for text in _texts(message):
                if tokens := [token for token in self.markup.format.tokens() if token in text]:
                    first = min(tokens, key=text.index)
                    raise BackendError(f"its text holds {first!r}, which is markup to {self.checkpoint.name}")
        written = [self._plain(message) for message in messages]
        try:
            with time_limit(TEMPLATE_SECONDS):
                prompt: str = self.processor.apply_chat_template(written, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # see above
            raise BackendError(f"the chat template of {self.checkpoint.name} refuses a prompt: {error}") from error
        return prompt

    def _plain(self, message: dict[str, Any]) -> dict[str, Any]:
        """A system message as the string that some templates need: they would print a list as Python does."""
        if message["role"] != "system" or not self.markup.format.plain_system or isinstance(message["content"], str):
            return message
        return message | {"content": "".join(part["text"] for part in message["content"])}

    def encode(self, prompts: Sequence[str], images: Sequence[Sequence[Image]]) -> Any:
        """Left-padded model inputs of rendered prompts and their images.

        Raises BackendError if a prompt cannot be read, or if a model with cross-attention (Llama-3.2-Vision) gets
        unequal numbers of images: what stands before an image would change with the batch (transformers averages over
        the filling there).
        """
        nested = [[self.applied_limits.before.resized(image) for image in several] for several in images]
        if self.markup.format.cross_attention and len({len(several) for several in nested}) > 1:
            raise BackendError(f"{self.checkpoint.name} needs batches of prompts with equal numbers of images")
        try:
            inputs = self.processor(
                text=list(prompts),
                images=nested if any(nested) else None,
                padding=True,
                add_special_tokens=self.markup.needs_beginning(prompts[0]),
                return_tensors="pt",
            )
            self.markup.roles(inputs["input_ids"], inputs["attention_mask"])
        except (ValueError, ArithmeticError, LookupError, TypeError, RuntimeError, ChatTemplateError) as error:
            # such as a picture of an absurd shape, in whatever class the processors find it
            raise BackendError(f"{self.checkpoint.name} cannot read a question: {error}") from error
        return inputs.to(self.device)

    @torch.inference_mode()
    def generate(self, inputs: Any, decoding: Decoding, streams: Sequence[str]) -> list[Generation]:
        """One response to each encoded prompt. streams: a hex key a prompt, which seeds its sampling."""
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=decoding.max_new_tokens,
            stop_strings=list(decoding.stop) or None,
            use_cache=True,
        )
        tokenizer = self.processor.tokenizer if decoding.stop else None
        roles = self.markup.roles(inputs["input_ids"], inputs["attention_mask"])
        sequences = self._sequences(inputs, decoding, streams, roles, generation_config=config, tokenizer=tokenizer)
        return self._generations(inputs, decoding, sequences)

    @torch.inference_mode()
    def generate_measured(
        self, inputs: Any, decoding: Decoding, streams: Sequence[str], measured: Sequence[int]
    ) -> tuple[list[Generation], list[AttentionRecord]]:
        """The responses that `generate` gives, and where the model looked in those that are `measured` (their indices).

        Attention is captured on the way, which costs a few per cent; it is what `measure` finds in one pass afterwards.
        """
        width = inputs["input_ids"].shape[1]
        ends = StoppingCriteriaList([EosTokenCriteria(torch.tensor(sorted(end_tokens(self.model.generation_config))))])
        if decoding.stop:
            ends.append(StopStringCriteria(self.processor.tokenizer, list(decoding.stop)))
        # the token after the last one is thrown away; no ends of transformers' own, for they would come first
        config = GenerationConfig(
            do_sample=False, max_new_tokens=decoding.max_new_tokens + 1, eos_token_id=[], use_cache=True
        )
        stopping = StoppingCriteriaList([OneTokenLater(ends, width)])
        roles = self.markup.roles(inputs["input_ids"], inputs["attention_mask"])
        with observe(self.model, roles, groups=RECORDED, sequences=measured) as observation:
            sequences = self._sequences(
                inputs, decoding, streams, roles, generation_config=config, stopping_criteria=stopping
            )
        generations = self._generations(inputs, decoding, sequences)
        prompts = [generations[index].prompt_token_ids for index in measured]
        responses = [generations[index].token_ids for index in measured]
        whole = batch_roles(self.markup, prompts, responses, width, sequences.shape[1] - 1)
        return generations, self._finite(records_of(observation, whole))

    def _sequences(
        self, inputs: Any, decoding: Decoding, streams: Sequence[str], roles: TokenRoles, **how: Any
    ) -> Int[Tensor, "batch length"]:
        """The prompts, each followed by what the model makes of it under this decoding and the steering."""
        processors = logits_processors(decoding, streams, inputs["attention_mask"])
        if self.on_token is not None:
            processors.append(TokenCount(self.on_token, decoding.max_new_tokens))
        with steer(self.model, self.steering or UNSTEERED, roles):
            sequences: Tensor = self.model.generate(**inputs, **how, logits_processor=processors)
        return sequences

    def _generations(self, inputs: Any, decoding: Decoding, sequences: Int[Tensor, "batch length"]) -> list[Generation]:
        width = inputs["input_ids"].shape[1]
        responses = sequences[:, width : width + decoding.max_new_tokens].tolist()
        prompts = _without_padding(inputs["input_ids"], inputs["attention_mask"])
        ends = end_tokens(self.model.generation_config)
        return [
            self.finished(prompt, response, decoding, ends) for prompt, response in zip(prompts, responses, strict=True)
        ]

    def finished(self, prompt: list[int], response: list[int], decoding: Decoding, ends: set[int]) -> Generation:
        """The response that token ids make: cut after the first of `ends` or stop string, and why it ended."""
        response = response[: self._stop_string_end(response, decoding.stop)]
        stop = next((i for i, token in enumerate(response) if token in ends), None)
        token_ids = response if stop is None else response[: stop + 1]
        # Special tokens are kept: some checkpoints declare <think> or <answer> special, and judging needs them.
        text: str = self.processor.tokenizer.decode(
            response[:stop], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        stopped = stop is not None or any(string in text for string in decoding.stop)
        return Generation(prompt, token_ids, text, "stop" if stopped else "length")

    def _stop_string_end(self, response: list[int], strings: Sequence[str]) -> int:
        """How many tokens there are up to the end of the first stop string: padding of the batch follows it."""
        decode = self.processor.tokenizer.decode

        def is_held(tokens: int) -> bool:
            text = decode(response[:tokens], skip_special_tokens=False, clean_up_tokenization_spaces=False)
            return any(string in text for string in strings)

        return bisect.bisect_left(range(len(response)), True, key=is_held) if strings else len(response)

    def measure(self, inputs: Any, responses: Sequence[Sequence[int]]) -> list[AttentionRecord]:
        """Where the model looked: one teacher-forced pass over each encoded prompt with its response's token ids."""
        return self._finite(measure_batch(self.model, self.markup, inputs, responses, self.steering or UNSTEERED))

    def _finite(self, records: list[AttentionRecord]) -> list[AttentionRecord]:
        """The records as they are. Raises BackendError if they hold what is not a number."""
        if not all(bool(mass.isfinite().all()) for record in records for mass in record.mass.values()):
            raise BackendError(
                f"{self.checkpoint.name} computes values that are not numbers: its weights are damaged, or they "
                f"overflow in {self.dtype} (try --dtype float32)"
            )
        return records


def _texts(message: Mapping[str, Any]) -> list[str]:
    content = message["content"]
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


def _device(name: str) -> torch.device:
    """The device of that name. Raises UsageError if it is unknown, absent, or computes nothing (`meta`)."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # a torch built without CUDA asserts
        reason = str(error).partition("\n")[0]
        raise UsageError(f"--device {name!r} cannot be used here: {reason}") from error
    return device


def published_defaults(checkpoint: Checkpoint) -> GenerationConfig:
    """The checkpoint's generation defaults, as transformers finds them when it loads the weights.

    Raises BackendError where they are not what transformers can use.
    """
    path = checkpoint.model_path
    try:
        if (path / "generation_config.json").is_file():
            found = GenerationConfig.from_pretrained(path)
        else:
            found = GenerationConfig.from_model_config(AutoConfig.from_pretrained(path))
    except Exception as error:  # of values that it does not know, in anyone's words
        raise BackendError(f"the generation defaults of {checkpoint.name} cannot be used: {error}") from error
    if not all(isinstance(token, int) for token in end_tokens(found)):
        raise BackendError(
            f"the generation defaults of {checkpoint.name} cannot be used: eos_token_id is {found.eos_token_id!r}, and "
            f"must be a token's number or a list of them; mend {path / 'generation_config.json'}"
        )
    return found


def end_tokens(config: GenerationConfig) -> set[int]:
    """The tokens that end a response; none where the defaults name none."""
    end = config.eos_token_id
    return {end} if isinstance(end, int) else set(end or ())


def check_prompts(inputs: Any, token_ids: Sequence[Sequence[int]]) -> None:
    """Raise BackendError if encoded prompts are others than those that were answered, of which these are the ids."""
    for ours, answered in zip(_without_padding(inputs["input_ids"], inputs["attention_mask"]), token_ids, strict=True):
        if ours != list(answered):
            first = next((i for i, (a, b) in enumerate(zip(ours, answered, strict=False)) if a != b), len(ours))
            raise BackendError(
                f"a prompt that was answered is not what this checkpoint's processor makes of it: {len(answered)} "
                f"tokens against {len(ours)} here, the first difference at {first}. Attention is measured with the "
                "chat template and the picture sizes (min_pixels, max_pixels) that the server has"
            )


def _without_padding(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    return [row[present.bool()].tolist() for row, present in zip(ids, mask, strict=True)]
