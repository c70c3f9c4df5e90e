"""What a worker is asked to do in tests."""

import ctypes
import os
import socket
import subprocess
import time
from typing import Any


def warm_up() -> None:
    """What the functions here need, whose import would take longer than a worker may in these tests."""
    from avar_eval.answers import symbolic

    symbolic.warm_up()


def process() -> int:
    return os.getpid()


def double(number: int) -> int:
    return 2 * number


def compute_for_ever() -> None:
    while True:
        pow(3, 10**6)


def allocate() -> int:
    return len(bytearray(4 * 2**30))


def sleep() -> None:
    time.sleep(600)


def fail() -> float:
    return 1 / 0


def write_file(path: str) -> None:
    with open(path, "w") as file:
        file.write("gone")


def delete_file(path: str) -> None:
    os.remove(path)


def start_program(path: str) -> None:
    subprocess.run(["rm", path], check=True)


def open_socket(_: str) -> None:
    socket.create_connection(("127.0.0.1", 9))


def evaluate(_: str) -> Any:
    return eval("1 + 1")


def parse_expression(path: str) -> None:
    from sympy import sympify

    sympify(f"__import__('os').remove({path!r})")


def use_ctypes(_: str) -> Any:
    return ctypes.CDLL(None).getpid()
