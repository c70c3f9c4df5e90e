"""Which keys are known, and as which number: an index that stays small beside many lines."""

import hashlib
from array import array
from typing import Final

_DIGEST: Final = 16
"""Bytes that are kept of a key: among a billion keys two have the same with a probability of 10^-21."""
_FREE: Final = -1


class KeyNumbers:
    """Keys in the order in which they came, numbered from 0.

    A dict of 64-letter keys takes some 250 bytes a key; this takes 16 of each one's BLAKE2b digest, and 6 to 12 for an
    open-addressing table of numbers, at most two thirds full.
    """

    def __init__(self) -> None:
        self._digests = bytearray()
        self._table = array("i", [_FREE]) * 8

    def __len__(self) -> int:
        return len(self._digests) // _DIGEST

    def get(self, key: str) -> int | None:
        """The key's number; None for one that was never added."""
        number = self._table[self._slot(_digest(key))]
        return None if number == _FREE else number

    def add(self, key: str) -> int:
        """The key's number, which is the next one for a new key."""
        digest = _digest(key)
        slot = self._slot(digest)
        if self._table[slot] != _FREE:
            return self._table[slot]
        number = len(self)
        self._table[slot] = number
        self._digests += digest
        if 3 * len(self) > 2 * len(self._table):
            self._table = array("i", [_FREE]) * (2 * len(self._table))
            for known in range(len(self)):
                self._table[self._slot(self._digest_of(known))] = known
        return number

    def _digest_of(self, number: int) -> bytes:
        return bytes(self._digests[_DIGEST * number : _DIGEST * (number + 1)])

    def _slot(self, digest: bytes) -> int:
        """Where in the table the digest's number stands, or would stand: the first place from its own on."""
        mask = len(self._table) - 1
        slot = int.from_bytes(digest[:8]) & mask
        while (number := self._table[slot]) != _FREE and self._digest_of(number) != digest:
            slot = (slot + 1) & mask
        return slot


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()
