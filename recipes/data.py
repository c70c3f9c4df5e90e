"""Training rows: TRL's conversational vision format, sharegpt with `<image>` (LLaMA-Factory), and others as `sources`.

Every source becomes the same table: `images`, `prompt` (messages with an `{"type": "image"}` part for each image) and
either `completion` (fine-tuning) or what a response is judged by (reinforcement learning): `answer`, `answer_type`,
`choices` (of a choice, where the row has none, those of its question's text) and `precision`, and where a row is from:
`source` and `id`.

Accepted rows of a file, folder or hub data set:

    {"conversations": [{"from": "human", "value": "<image>How many?"}, {"from": "gpt", "value": "Two."}],
     "images": ["scenes/1.png"]}                                   sharegpt; "messages" with role and content as well
    {"conversations": [{"from": "human", "value": "Is <image2> as <image1>?"}, ...], "images": [...]}       numbered
    {"prompt": [{"role": "user", "content": "How many?"}], "completion": [...], "images": [...]}     TRL, fine-tuning
    {"prompt": [...] or "<image>How many?", "answer": "2", "answer_type": "integer", "images": [...]}       TRL, GRPO
    {"prompt": "<image>How long?", "answer": "3.14", "answer_type": "float", "precision": 2, "images": [...]}   rounded

A conversation of several turns becomes one row for each answer, with what precedes it as the prompt. Rows go to a
temporary file as they are read: a data set may be larger than memory. Processes that are given the same folder for it
read and check the rows once.
"""

import atexit
import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, Literal

from PIL import Image

from avar_eval.errors import AvarError
from avar_eval.in_words import fault_in_words
from avar_eval.names import listed_names
from avar_eval.pictures import (
    UNREADABLE,
    OutsideError,
    allowed_outside,
    as_rgb,
    is_plain_rgb,
    open_picture,
    picture_fault,
    picture_path,
    read_rgb,
    whole_pictures_only,
)
from avar_eval.recipes.contamination import benchmarks_at_hand
from avar_eval.recipes.judged_rows import judged_by, why_unjudgeable
from avar_eval.recipes.sources import Thoughts, TrainingDataError, published_rows
from avar_eval.terminal import note, say

Method = Literal["sft", "grpo"]
Message = dict[str, Any]

_EXAMPLES: Final = 3
_PLACE = re.compile(r"<image[ _]?(\d{0,4})>", re.IGNORECASE)
_SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def load(
    sources: str,
    method: Method,
    *,
    system_prompt: str | None,
    limit: int | None = None,
    split: str = "train",
    thoughts: Thoughts = "anchored",
    seed: int = 0,
    folder: Path | None = None,
    allow_outside: bool = False,
) -> Any:
    """A `datasets.Dataset` of the rows of one source or several (see `sources`).

    limit: the first so many rows of each (of the embedded world, which has no end, 5,000 by default). system_prompt:
    put before conversations that have none. thoughts, seed: of the embedded world. folder: for these rows alone, where
    they lie meanwhile or have been put by another process; by default a temporary one. allow_outside: whether rows may
    name images outside of their own folder.
    Rows that show a picture or ask a question of a benchmark that lies at hand (AVAR_DATA_DIR) are refused.
    Rows for reinforcement learning whose own answer would be judged wrong teach nothing: they are left out and said.
    Raises TrainingDataError, naming the row, for one that cannot be read or whose images do not match.
    """
    from datasets import Dataset
    from datasets.exceptions import DatasetGenerationError

    refused: list[str] = []
    of_benchmarks: list[str] = []
    count = 0

    known = benchmarks_at_hand() if split == "train" else None

    def table() -> Iterator[Message]:
        nonlocal count
        for source in listed_names(sources):
            found = published_rows(source, split, limit, thoughts, seed)
            for row in _load_source(source, found, limit, method, system_prompt, allow_outside or allowed_outside()):
                count += 1
                if known is not None and (named := known.found(row)):
                    of_benchmarks.append(f"row {count - 1} has {named}")
                if method == "grpo" and (reason := why_unjudgeable(row)):
                    refused.append(f"row {row['id']} of {row['source']}: {reason}")
                else:
                    yield row
        if of_benchmarks:
            raise TrainingDataError(
                f"{len(of_benchmarks)} of {count} rows are a benchmark's, and scores on it would mean nothing: "
                f"{'; '.join(of_benchmarks[:_EXAMPLES])} (of {sources}, from 0): leave them out"
            )
        if count == len(refused):
            raise TrainingDataError(f"no answer of {sources} can be judged, such as that of {refused[0]}")

    folder = temporary_folder(f"avar-train-rows-{token_hex(8)}") if folder is None else folder
    try:
        made = Dataset.from_generator(
            table,
            features=_features(method),
            cache_dir=str(folder),
            fingerprint=f"{folder.parent.name}-{folder.name}"[-64:],
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, AvarError):
            raise error.__cause__ from None
        raise
    if refused:
        said = f"warning: {len(refused)} of {count} rows are left out, for their own answer would be judged wrong"
        note(f"{said}: {'; '.join(refused[:_EXAMPLES])}")
    return made


def first_row(source: str, method: Method, *, allow_outside: bool = False) -> Message:
    """The first row of a source, as `load` would make it. Raises TrainingDataError where it cannot be read or used."""
    found = published_rows(source, "train", 1, "anchored", 0)
    for row in _load_source(source, found, 1, method, None, allow_outside or allowed_outside()):
        return row
    raise TrainingDataError(f"{source} holds no rows")


def temporary_folder(name: str) -> Path:
    """A folder of that name among temporary files, there or new, that is gone when this process ends."""
    folder = Path(tempfile.gettempdir(), name)
    folder.mkdir(mode=0o700, exist_ok=True)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _load_source(
    source: str,
    found: Iterator[tuple[Mapping[str, Any], Path | None]],
    limit: int | None,
    method: Method,
    system_prompt: str | None,
    allow_outside: bool,
) -> Iterator[Message]:
    number = -1
    for number, (row, folder) in enumerate(found):
        if number == limit:
            return
        try:
            for made in training_rows(row, folder, method, system_prompt, allow_outside):
                yield made if method == "sft" else {"source": source, "id": str(number)} | made
        except (TrainingDataError, OutsideError) as error:
            raise TrainingDataError(f"row {number} of {source}: {error}") from error
    if number < 0:
        raise TrainingDataError(f"{source} holds no rows")


def drop_too_long(
    dataset: Any, processor: Any, max_length: int | None, processes: int | None = None, folder: Path | None = None
) -> Any:
    """The rows that fit into `max_length` tokens (None: all of them), image tokens counted by the processor itself.

    A longer row is left out whole: cut, it would lose image tokens or its answer. folder: as in `load`, for which rows
    these are. Print how many are left out; raise TrainingDataError if all are, or for a row whose images cannot be read
    or have not as many tokens as features.
    """

    from datasets import Image, List

    def fits(row: Mapping[str, Any], number: int) -> bool:
        try:
            length, _ = token_count({**row, "images": [decoded_picture(one) for one in row["images"]]}, processor)
        except (IndexError, OSError, ValueError, TrainingDataError) as error:
            raise TrainingDataError(
                f"row {number} (from 0, of all sources) cannot be prepared for the model: {fault_in_words(error)}"
            ) from error
        return max_length is None or length <= max_length

    doing = "Checking rows" if max_length is None else f"Rows of at most {max_length} tokens"
    pictures = dataset.features["images"]
    files = dataset.cast_column("images", List(Image(decode=False)))  # else a broken one fails without its row
    known = {} if folder is None else {"cache_file_name": str(folder / "kept.arrow"), "new_fingerprint": "kept"}
    kept = files.filter(fits, with_indices=True, num_proc=processes, desc=doing, **known)
    kept = kept.cast_column("images", pictures)
    if max_length is None:
        return kept
    if not len(kept):
        raise TrainingDataError(f"all {len(dataset)} rows have more than {max_length} tokens: raise max_length")
    say(f"{len(dataset) - len(kept)} of {len(dataset)} rows have more than {max_length} tokens and are left out")
    return kept


def decoded_picture(image: Mapping[str, Any]) -> Any:
    """A picture of a row that holds its bytes or path. Raises TrainingDataError if it cannot be read."""
    from datasets import Image

    try:
        with whole_pictures_only():
            return Image().decode_example(image)
    except UNREADABLE as error:
        raise TrainingDataError(f"its image {image['path'] or ''} cannot be read: {picture_fault(error)}") from error


def token_count(row: Mapping[str, Any], processor: Any) -> tuple[int, int]:
    """Tokens of a row, and how many of them are its images'."""
    from trl.data_utils import prepare_multimodal_messages

    messages = prepare_multimodal_messages(row["prompt"] + row.get("completion", []), images=row["images"])
    if any(processor.image_token in (part.get("text") or "") for turn in messages for part in turn["content"]):
        raise TrainingDataError(f"a text of it holds {processor.image_token!r}, which would stand for no image")
    inputs = processor.apply_chat_template([messages], tokenize=True, return_dict=True)
    ids = inputs["input_ids"][0]
    tokens = list(ids).count(processor.tokenizer.convert_tokens_to_ids(processor.image_token))
    grids = inputs.get("image_grid_thw")  # of the Qwen family; other models compare for themselves
    if grids is not None:
        features = sum(math.prod(map(int, grid)) for grid in grids) // processor.image_processor.merge_size**2
        if tokens != features:
            raise TrainingDataError(f"it has {tokens} image tokens for {features} image features")
    return len(ids), tokens


def training_rows(
    row: Mapping[str, Any], folder: Path | None, method: Method, system_prompt: str | None, allow_outside: bool
) -> list[Message]:
    if not isinstance(row, dict):
        raise TrainingDataError("it is no JSON object")
    images = [_image(image, folder, allow_outside) for image in _images(row)]
    turns, places = _conversation(row, len(images), system_prompt)
    _check_images(turns, len(images), places)
    images = [images[place] for place in places]
    if method == "grpo":
        if row.get("answer") is None or not str(row["answer"]).strip():
            raise TrainingDataError("it has no `answer` to judge a response against")
        while turns and turns[-1]["role"] == "assistant":
            turns.pop()
        of_row = {name: str(row[name]) for name in ("source", "id") if row.get(name) not in (None, "")}
        return [{"images": images, "prompt": turns} | judged_by(row, turns) | of_row]
    answers = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not answers:
        raise TrainingDataError("there is no turn of the assistant to train on")
    if any(not "".join(part["text"] or "" for part in turns[place]["content"]).strip() for place in answers):
        raise TrainingDataError("an answer of the assistant is empty: it would be trained on")
    return [_example(turns[:place], turns[place], images) for place in answers]


def _example(prompt: list[Message], answer: Message, images: list[Any]) -> Message:
    shown = sum(part["type"] == "image" for turn in prompt for part in turn["content"])
    return {"images": images[:shown], "prompt": prompt, "completion": [answer]}


def _images(row: Mapping[str, Any]) -> list[Any]:
    images = row.get("images")
    if images is None:
        images = row.get("image")
    several = list(images) if isinstance(images, (list, tuple)) else [images]
    return [image for image in several if image not in (None, "")]


def _image(image: Any, folder: Path | None, allow_outside: bool) -> Any:
    """A picture that every reader shows in the same colours: the file as it is, or else what `as_rgb` makes of it.

    image: a path, a picture, or the bytes or path of `datasets`. Of a file only the header is read.
    """
    if isinstance(image, Image.Image):
        return as_rgb(image)
    named, content = (image.get("path"), image.get("bytes")) if isinstance(image, dict) else (image, None)
    if content is not None:
        return _shown({"path": None, "bytes": content}, BytesIO(content))
    if not isinstance(named, str):
        raise TrainingDataError(f"its image is no picture, path or bytes: {str(image)[:80]}")
    path = picture_path(folder or _downloads(), named, allow_outside)
    if not path.is_file():
        raise TrainingDataError(f"its image {path} does not exist")
    return _shown(str(path), path)


def _downloads() -> Path:
    """Where the hub's client puts files: what the rows of a hub data set may name."""
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME)


def _shown(image: Any, source: Path | BytesIO) -> Any:
    """An image as it is, if every reader shows it in the same colours, else what `as_rgb` makes of it."""
    try:
        with open_picture(source) as opened:
            plain = is_plain_rgb(opened)
        if not plain:
            return read_rgb(source)
    except UNREADABLE as error:
        name = source if isinstance(source, Path) else ""
        raise TrainingDataError(f"its image {name} cannot be read: {picture_fault(error)}") from error
    return image


def _conversation(
    row: Mapping[str, Any], images: int, system_prompt: str | None
) -> tuple[list[Message], Sequence[int]]:
    """All turns, content as parts, and which image stands at each of their places, in the order of the places.

    Where no turn says where the images stand, they begin the first user turn.
    """
    said = row.get("conversations") or row.get("messages") or _turns(row.get("prompt"), "user")
    said = [*said, *_turns(row.get("completion"), "assistant")]
    if not said:
        raise TrainingDataError("it has none of `conversations`, `messages` and `prompt`")
    turns, places = _placed([_message(turn) for turn in said])
    system = row.get("system") or system_prompt
    if system and turns[0]["role"] != "system":
        turns.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    if not any(part["type"] == "image" for turn in turns for part in turn["content"]):
        first = next((turn for turn in turns if turn["role"] == "user"), None)
        if first is None:
            raise TrainingDataError("it has no turn of the user")
        first["content"] = [{"type": "image", "text": None}] * images + first["content"]
        places = list(range(images))
    return turns, places


def _turns(content: Any, role: str) -> Sequence[Any]:
    if content is None:
        return []
    return [{"role": role, "content": content}] if isinstance(content, str) else list(content)


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise TrainingDataError(f"a turn is no object: {turn!r}")
    speaker, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if speaker not in _SPEAKERS:
        raise TrainingDataError(f"a turn's speaker must be one of {', '.join(_SPEAKERS)}, not {speaker!r}")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}] if content else []
    if not isinstance(content, list) or not all(map(_is_part, content)):
        raise TrainingDataError(f"a turn's content must be text, or parts of type text and image, not {content!r}")
    return {
        "role": _SPEAKERS[speaker],
        "content": [{"type": part["type"], "text": part.get("text")} for part in content],
    }


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    return part.get("type") == "image" or (part.get("type") == "text" and isinstance(part.get("text"), str))


def _placed(turns: list[Message]) -> tuple[list[Message], list[int]]:
    """The turns with an image part at every place that a text names, and the number, from 0, of each place's image.

    A place is `<image>`, the next image, or `<image2>`, the second one. Raises TrainingDataError for a row that says
    in two ways where its images stand.
    """
    parts = [part for turn in turns for part in turn["content"]]
    named = [number for part in parts if part["type"] == "text" for number in _PLACE.findall(part["text"])]
    given = sum(part["type"] == "image" for part in parts)
    if (given and named) or 0 < sum(number == "" for number in named) < len(named):
        raise TrainingDataError(
            "its text names places of images in two ways: use `<image>`, `<image1>`, … or image parts, one of them"
        )
    for turn in turns:
        turn["content"] = [piece for part in turn["content"] for piece in _pieces(part)]
    if named and named[0]:
        return turns, [int(number) - 1 for number in named]
    return turns, list(range(given or len(named)))


def _pieces(part: Message) -> list[Message]:
    """A text part, cut at the places that it names."""
    if part["type"] == "image":
        return [part]
    # re.split with one group: text, number, text, number, …, text
    found = enumerate(_PLACE.split(part["text"]))
    return [
        {"type": "image", "text": None} if at % 2 else {"type": "text", "text": text}
        for at, text in found
        if at % 2 or text
    ]


def _check_images(turns: Sequence[Message], images: int, places: Sequence[int]) -> None:
    if set(places) != set(range(images)):
        numbers = ", ".join(str(place + 1) for place in sorted(set(places)))
        which = f", numbered {numbers}," if len(set(places)) == images else ""
        raise TrainingDataError(
            f"it has {images} images and {len(set(places))} places for them{which} (`<image>` or an image part)"
        )
    if any(part["type"] == "image" for turn in turns if turn["role"] != "user" for part in turn["content"]):
        raise TrainingDataError("an image stands in a turn that is not the user's")


def _features(method: Method) -> Any:
    from datasets import Features, Image, List, Value

    text = Value("string")
    messages = List({"role": text, "content": List({"type": text, "text": text})})
    features = {"images": List(Image()), "prompt": messages}
    if method == "sft":
        features["completion"] = messages
    else:
        features |= {"answer": text, "answer_type": text, "choices": List(text), "precision": Value("int32")}
        features |= {"source": text, "id": text}
    return Features(features)
