"""What Triton looks for as a backend's compiler."""

from triton.backends.compiler import BaseBackend


class InterpreterBackend(BaseBackend):
    """Compiles nothing."""


InterpreterBackend.__abstractmethods__ = frozenset()  # Triton only lists concrete classes
