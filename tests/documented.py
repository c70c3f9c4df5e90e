"""The commands of README and docs/, what they need, and what the pages say that they print."""

import fcntl
import os
import pty
import re
import shlex
import signal
import struct
import termios
import threading
from dataclasses import dataclass
from pathlib import Path

from runs import Server

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDS = {"GPU", "network", "key", "vLLM", "browser", "minutes"}
COLUMNS = 100
LIMIT = 1800
"""Seconds after which a command is killed, more than any takes on a slow machine: it waits for somebody."""
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w./-]+)`:\n\n```(?:yaml|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VARIABLE = re.compile(r"([A-Z_]+)=(.*)")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
_HASH = re.compile(r"(?<![0-9a-z])[0-9a-f]{8}(?![0-9a-z])")
_NUMBER = re.compile(r"(?<![A-Za-z0-9-])-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Documented:
    """One command of a page. line: as written, its comment left out. output: what the page says that it prints."""

    page: str
    line: str
    needs: frozenset[str]
    output: str

    @property
    def words(self) -> list[str]:
        """As a shell takes them apart, without the variables that stand before a command."""
        return [word for word in shlex.split(self.line) if not _VARIABLE.match(word)]

    @property
    def variables(self) -> dict[str, str]:
        """Those."""
        return {found[1]: found[2] for word in shlex.split(self.line) if (found := _VARIABLE.match(word))}


def documented(page: Path) -> list[Documented]:
    """The commands of a page, in order. A comment that ends in `[GPU, network]` says what a command needs."""
    found = []
    for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        for line, output in _commands(block):
            command, _, comment = line.partition(" # ")
            marked = re.search(r"\[([^\]]+)\]\s*$", comment)
            needs = frozenset(marked[1].split(", ")) if marked else frozenset()
            assert needs <= NEEDS, f"{page.name}: {line}"
            found.append(Documented(page.name, command.strip(), needs, output))
    return found


def documented_files(page: Path) -> dict[str, str]:
    """The files that a page shows, by name: blocks of YAML or JSON below a line that ends in `NAME`: ."""
    return dict(_FILE.findall(page.read_text(encoding="utf-8")))


def _commands(block: str) -> list[tuple[str, str]]:
    """Each line after a `$`, joined with its continuations, and what stands below it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return [(line, "\n".join(output).strip("\n")) for line, output in found]


def printed(server: Server, words: list[str], folder: Path, **environment: str) -> tuple[int, str, str]:
    """Exit code, what a terminal of COLUMNS columns shows of standard output, and standard error."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # nobody holds the other end any more
                return
            shown.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    terminal = {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(COLUMNS)}
    running = server.start(
        *words[1:], program=words[0], within=folder, terminal=Path(os.ttyname(slave)), **terminal | environment
    )
    ends = threading.Timer(LIMIT, os.killpg, (running.pid, signal.SIGKILL))
    ends.start()
    ended = running.wait()
    ends.cancel()
    os.close(slave)
    reader.join()
    os.close(master)
    lines = _ESCAPE.sub("", b"".join(shown).decode()).splitlines()
    return ended.code, "\n".join(line.rstrip() for line in lines).strip("\n"), ended.stderr


def abridged(output: str, like: str) -> str:
    """A new output with as many lines before and after `…` as the page shows of the old one."""
    head, elided, tail = f"\n{like}\n".partition("\n…\n")
    if not elided:
        return output
    lines, first, last = output.splitlines(), len(head.splitlines()[1:]), len(tail.splitlines())
    return "\n".join([*lines[:first], "…", *(lines[-last:] if last else [])])


def agree(shown: str, now: str) -> bool:
    """Whether two outputs say the same: words to the letter, spaces as one, numbers within what machines differ.

    Names that are hashes (of versions, places, settings) differ.
    """
    shown, now = ("\n".join(" ".join(line.split()) for line in text.splitlines()) for text in (shown, now))
    shown, now = _HASH.sub("HASH", shown), _HASH.sub("HASH", now)
    if _NUMBER.sub("#", shown) != _NUMBER.sub("#", now):
        return False
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(now), strict=True)
    return all(_close(float(old), float(new), len(old.partition(".")[2])) for old, new in pairs)


def _close(old: float, new: float, decimals: int) -> bool:
    return abs(old - new) <= 0.1 * max(abs(old), abs(new)) + 2 * 10.0**-decimals
