"""What Triton looks for as a backend's driver."""

from triton.backends.driver import DriverBase


class InterpreterDriver(DriverBase):
    """Drives nothing, and says so: vLLM takes it all the same, and torch's compiler finds no GPU."""

    @staticmethod
    def is_active() -> bool:
        """Never."""
        return False


InterpreterDriver.__abstractmethods__ = frozenset()  # Triton only lists concrete classes
