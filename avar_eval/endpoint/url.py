"""Which endpoints may be named, and the keys for them. Light."""

import os
import re
from urllib.parse import urlsplit

from avar_eval.errors import UsageError
from avar_eval.keys import keep_secret

DEFAULT_KEY_ENV = "OPENAI_API_KEY"


def check_url(url: str) -> None:
    """Raise ValueError for what is no endpoint's URL, and for one that holds a secret: it is written into results."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port above 65535
        known = False
    if not known or not re.fullmatch(r"[!-~]+", url):
        raise ValueError("the URL must begin with http:// or https://, such as http://localhost:8000/v1")
    if "@" in parts.netloc:
        raise ValueError("the URL must not hold a key or a password: name its environment variable instead")
    if "?" in url or "#" in url:
        raise ValueError(
            "the URL must end with its path, such as /v1: what follows a ? or # may be a key, and is written into "
            "results. Put a key into an environment variable and name that"
        )


def token_limit_name(url: str) -> str:
    """What a request's limit of tokens is called: OpenAI's own newer models refuse the name that all others take."""
    return "max_completion_tokens" if urlsplit(url).hostname == "api.openai.com" else "max_tokens"


def key_for(url: str, key_env: str | None, option: str) -> str | None:
    """The key in an environment variable (by default OPENAI_API_KEY, which may be missing), from now on masked.

    Raises UsageError, without what may be the key itself, if a named variable holds none, or if it cannot be sent.
    """
    if key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key_env):
        raise UsageError(f"{option} takes the name of an environment variable that holds the key, not the key itself")
    key = os.environ.get(key_env or DEFAULT_KEY_ENV, "").strip()
    if key_env is not None and not key:
        # Some keys are made of letters and digits alone, hardly any of capitals alone.
        named = key_env if key_env == key_env.upper() else "a variable"
        raise UsageError(f"{option} names {named}, and that environment variable is not set: {named} holds no key")
    if not key:
        return None
    if not re.fullmatch(r"[!-~]+", key):
        raise UsageError(f"${key_env or DEFAULT_KEY_ENV} holds characters that no key has: spaces, line ends or others")
    if len(key) >= 8 and key in url:
        raise UsageError(f"the URL holds the key of ${key_env or DEFAULT_KEY_ENV}: it is written into results")
    keep_secret(key)
    return key
