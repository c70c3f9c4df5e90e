"""API keys stand in no file and no message, whoever repeats them and however they are written."""

import base64
import re
from typing import Final

MASK: Final = "***"
_SHORTEST: Final = 6
"""Characters of a key from which on it is masked: placeholders for servers without keys (none, EMPTY) are words."""

_secrets: dict[str, re.Pattern[str]] = {}


def keep_secret(key: str) -> None:
    """From now on `masked` hides this key."""
    if len(key) >= _SHORTEST and key not in _secrets:
        _secrets[key] = re.compile("|".join([_written(key), *_in_base64(key), f"(?i:{key.encode().hex()})"]))


def masked(text: str) -> str:
    """The text with *** for every kept key: as it is, in base64 or hexadecimal, in escapes of URLs, JSON and HTML."""
    for pattern in _secrets.values():
        text = pattern.sub(MASK, text)
    return text


def _written(key: str) -> str:
    """A pattern for a key of which any character may be escaped, also twice."""
    return "".join(
        rf"(?:{re.escape(one)}|\\+(?i:u00{ord(one):02x}|x{ord(one):02x})|%(?:25)*(?i:{ord(one):02x})"
        rf"|&(?:amp;)*\#(?:0*{ord(one)}|(?i:x0*{ord(one):x}));?)"
        for one in key
    )


def _in_base64(key: str) -> list[str]:
    """Patterns for what base64 makes of a key wherever it stands in a longer text: three, as three bytes are a group.

    Letters that hold bits of what stands beside the key are not a part of them.
    """
    found = []
    for before in range(3):
        letters = base64.b64encode(bytes(before) + key.encode()).decode()
        own = letters[-(-before * 8 // 6) : (before + len(key.encode())) * 8 // 6]
        found.append(re.escape(own).replace(r"\+", "[+-]").replace("\\/", "/").replace("/", "[/_]"))
    return found
