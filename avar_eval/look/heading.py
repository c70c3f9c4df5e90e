"""What stands over the pictures of a look: which model was asked what."""

from avar_eval.look.conversation import Look

_LONGEST = 120


def asked(look: Look) -> str:
    """In one sentence, the question cut where it is too long."""
    return f"{look.model} was asked: {quoted(look.question, _LONGEST)}"


def quoted(text: str, limit: int) -> str:
    """One line of text in quotation marks, cut where it is too long."""
    line = " ".join(text.split())
    return f"“{line if len(line) <= limit else line[: limit - 1] + '…'}”"
