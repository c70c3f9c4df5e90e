"""What a judge model has replied: append-only, one line a reply, so that nothing is asked twice."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from avar_eval.errors import AvarError


class RepliesError(AvarError):
    """The file of replies cannot be read or written."""


class JudgeReplies:
    """The replies of one judge, kept in a file: {"key": SHA-256 of model and prompt, "reply": text} a line.

    `changed`, also of a line: what became of parameters that the judge did not take, of all replies that were used.

    A torn last line is cut off; any other line that is not a reply stops the run and is left as it is.
    """

    def __init__(self, path: Path, model: str) -> None:
        self._path, self._model = path, model
        self._replies: dict[str, tuple[str, dict[str, str]]] = {}
        self.changed: dict[str, str] = {}
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise RepliesError(f"cannot open {path}: {error.strerror}") from error
        try:
            self._load()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "JudgeReplies":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def get(self, prompt: str) -> str | None:
        """The reply to a prompt, None if it was never asked."""
        reply, changed = self._replies.get(self._key(prompt), (None, {}))
        self.changed |= changed
        return reply

    def add(self, prompt: str, reply: str, changed: Mapping[str, str]) -> None:
        """Keep a reply. Raises RepliesError if it cannot be written; the file is then as it was before."""
        key = self._key(prompt)
        # ASCII: a reply may hold half of a surrogate pair, which UTF-8 does not know.
        entry = {"key": key, "reply": reply} | ({"changed": dict(changed)} if changed else {})
        line = json.dumps(entry).encode() + b"\n"
        before = os.fstat(self._file).st_size
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except OSError as error:
            os.ftruncate(self._file, before)
            raise RepliesError(
                f"cannot append to {self._path}: {error.strerror}; the judge's replies so far are intact, run the "
                "same command again to go on"
            ) from error
        self._replies[key] = reply, dict(changed)
        self.changed |= changed

    def _key(self, prompt: str) -> str:
        return hashlib.sha256(json.dumps([self._model, prompt]).encode()).hexdigest()

    def _load(self) -> None:
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                entry = json.loads(line)
                self._replies[entry["key"]] = str(entry["reply"]), dict(entry.get("changed", {}))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise RepliesError(
                    f"{self._path}, line {number} is not a judge's reply: delete that line, or the file to ask anew"
                ) from error
        if whole < len(data):
            os.ftruncate(self._file, whole)
