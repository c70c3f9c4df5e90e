"""A module for `runs.Server` that counts what a model computes and kills its process in the pass that is named.

CALLS names a file that gets a line for each response that the model has finished, with the key of its record. DIE_AT is
the number of the teacher-forced causal pass, counted from 1, that does not come to its end.
"""

import os
import signal
from typing import Any

from avar_eval.causal import cutoff, measures
from avar_eval.models.transformers_backend import TransformersBackend

passes = 0
final_states = measures.final_states
generate, generate_measured = TransformersBackend.generate, TransformersBackend.generate_measured


def counted_states(*arguments: Any, **options: Any) -> Any:
    global passes
    passes += 1
    if passes == int(os.environ.get("DIE_AT", 0)):
        os.kill(os.getpid(), signal.SIGKILL)
    return final_states(*arguments, **options)


def note(keys: Any) -> None:
    with open(os.environ["CALLS"], "a", encoding="utf-8") as calls:
        calls.write("".join(f"{key}\n" for key in keys))


def noted(backend: Any, inputs: Any, decoding: Any, streams: Any) -> Any:
    found = generate(backend, inputs, decoding, streams)
    note(streams)
    return found


def noted_measured(backend: Any, inputs: Any, decoding: Any, streams: Any, measured: Any) -> Any:
    found = generate_measured(backend, inputs, decoding, streams, measured)
    note(streams)
    return found


measures.final_states = cutoff.final_states = counted_states
TransformersBackend.generate = noted  # type: ignore[method-assign]
TransformersBackend.generate_measured = noted_measured  # type: ignore[method-assign]
