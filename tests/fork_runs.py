"""Imported by the server that forks `avar-eval`: runs of a suite are forked as well, and say which questions they ask.

A new process takes seconds to import what a forked one has. The keys of each batch that is asked are appended to the
file that ASKED names.
"""

import inspect
import multiprocessing
import os
from functools import wraps
from typing import Any

from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.suite import process

process.CONTEXT = multiprocessing.get_context("fork")


def _told(generate: Any) -> Any:
    signature = inspect.signature(generate)

    @wraps(generate)
    def ask(*positional: Any, **named: Any) -> Any:
        keys = signature.bind(*positional, **named).arguments["streams"]
        with open(os.environ["ASKED"], "a", encoding="utf-8") as file:
            file.write("".join(f"{key}\n" for key in keys))
        return generate(*positional, **named)

    return ask


for name in ("generate", "generate_measured"):
    setattr(TransformersBackend, name, _told(getattr(TransformersBackend, name)))
