"""A new user's way, timed: from a clone to the first table, to the wrong answers, to a benchmark of one's own.

python tests/benchmarks/new_user.py

Every command is read from docs/index.md, docs/answers.md and docs/own-benchmark.md, and typed into one shell in a fresh
clone of what is committed, with an empty cache of pip. Needs a package index, and 10 GB of disk.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from documented import documented  # noqa: E402


def commands(page: str) -> list[str]:
    """Of a page, those that need nothing and are not meant to fail."""
    lines = [one for one in documented(ROOT / "docs" / page) if not one.needs and "avar-eval: " not in one.output]
    return [one.line for one in lines]


def main() -> None:
    install = re.findall(r"^```bash\n(.*?)^```$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE | re.DOTALL)[0]
    set_up, _, first = install.strip().rpartition(" && ")
    view = next(line for line in commands("answers.md") if "--output" in line).replace(" avar-runs/steered", "")
    steps = [
        ("clone", [f"git clone -q {ROOT} clone"]),
        ("install, all dependencies downloaded", [f"cd clone && {set_up}"]),
        ("first table: 500 questions", [first]),
        ("wrong answers, as a page", [view]),
        ("a benchmark of one's own: drawn and scored", commands("own-benchmark.md")[:2]),
    ]
    with tempfile.TemporaryDirectory() as folder:
        own = {"AVAR_LEADERBOARD": f"{folder}/leaderboard", "PIP_CACHE_DIR": f"{folder}/pip"}
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = inherited | {name: of for name, of in os.environ.items() if name.startswith("PIP_")} | own
        shell = subprocess.Popen(
            ["bash"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert shell.stdin is not None
        assert shell.stdout is not None
        print("| step | commands | seconds | from the clone on |\n|---|---|---|---|")
        begin = time.monotonic()
        for name, lines in steps:
            started = time.monotonic()
            for line in lines:
                shell.stdin.write(f"{line} >&2 || exit 1\n")
            shell.stdin.write("echo done\n")
            shell.stdin.flush()
            if not shell.stdout.readline():
                sys.exit(f"failed: {lines}")
            now = time.monotonic()
            typed = "; ".join(f"`{line}`" for line in lines if "git clone" not in line)
            print(f"| {name} | {typed} | {now - started:.0f} | {now - begin:.0f} |", flush=True)


if __name__ == "__main__":
    main()
