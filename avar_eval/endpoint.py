"""What all OpenAI-compatible endpoints have in common, whether a model answers there or a judge. Light."""

from urllib.parse import urlsplit


def check_url(url: str) -> None:
    """Raise ValueError for what is no endpoint's URL, and for one that holds a secret: it is written into results."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the URL must begin with http:// or https://, such as http://localhost:8000/v1")
    if parts.username or parts.password:
        raise ValueError("the URL must not hold a key or a password: name its environment variable instead")


def requested_wait(error: BaseException | None) -> float:
    """Seconds that a busy server asks to be left alone for; 0 where it does not say, or gives a date."""
    import openai

    if not isinstance(error, openai.APIStatusError):
        return 0.0
    asked = error.response.headers.get("retry-after", "")
    return float(asked) if asked.replace(".", "", 1).isdecimal() else 0.0
