"""What a judge model has replied, kept in a journal, one line a reply, so that nothing is asked twice.

A line is {"key": SHA-256 of model and prompt, "reply": text}, with `changed` where the judge did not take a parameter:
what became of it. Lines are in ASCII: a reply may hold half of a surrogate pair, which UTF-8 does not know.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from avar_eval.folder_lock import FolderLock
from avar_eval.records.journal import Journal, JournalError, LineForm
from avar_eval.user_files import parse_json


class RepliesError(JournalError):
    """The file of replies cannot be read or written.

    What to do: Mend or delete the line that the message names: deleted replies are asked for again.
    """


@dataclass(frozen=True)
class _Reply:
    key: str
    reply: str
    changed: Mapping[str, str] = field(default_factory=dict)


def _encode(line: _Reply) -> bytes:
    return json.dumps(
        {"key": line.key, "reply": line.reply} | ({"changed": dict(line.changed)} if line.changed else {})
    ).encode()


def _decode(text: bytes) -> _Reply:
    line = parse_json(text)
    try:
        return _Reply(str(line["key"]), str(line["reply"]), dict(line.get("changed", {})))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("it is not {key, reply}") from error


_REPLIES: Final = LineForm(
    encode=_encode,
    decode=_decode,
    key=lambda line: line.key,
    one="a judge's reply",
    many="replies of the judge",
    remedy="delete that line, or the file to ask anew",
    error=RepliesError,
)


class JudgeReplies:
    """The replies of one judge in the file `path`. lock: of its folder, where the caller holds that.

    changed: what became of parameters that the judge did not take, of all replies that were used. Raises RepliesError.
    """

    def __init__(self, path: Path, model: str, lock: FolderLock | None = None) -> None:
        self._model = model
        # A reply that a power cut takes is asked for again: not worth waiting for the disk at each one.
        self._journal = Journal(path, _REPLIES, lock=lock, fsync=False)
        self.changed: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def get(self, prompt: str) -> str | None:
        """The reply to a prompt, None if it was never asked."""
        line = self._journal.get(self._key(prompt))
        if line is None:
            return None
        self.changed |= line.changed
        return line.reply

    def add(self, prompt: str, reply: str, changed: Mapping[str, str]) -> None:
        """Keep a reply. Raises RepliesError if it cannot be written; the file is then as it was before."""
        self._journal.append([_Reply(self._key(prompt), reply, changed)])
        self.changed |= changed

    def _key(self, prompt: str) -> str:
        return hashlib.sha256(json.dumps([self._model, prompt]).encode()).hexdigest()
