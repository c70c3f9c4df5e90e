"""Where a run looked, by layer and along the answers, from its attention.jsonl with numpy alone.

python examples/read_attention.py RUN_DIR
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np


def array(written: dict) -> np.ndarray:
    """Little-endian float16, as the file has it."""
    return np.frombuffer(base64.b64decode(written["float16"]), "<f2").reshape(written["shape"])


def main(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "attention.jsonl").read_text().splitlines()]
    latest = {line["key"]: line for line in lines}.values()  # a later line of a key supersedes an earlier one
    image = [array(line["share_by_layer_user"])[line["groups"].index("image")] for line in latest]
    print(f"{len(image)} responses; attention of question tokens on the image, by layer:")
    for layer, share in zip(next(iter(latest))["layers"], np.mean(image, axis=0), strict=True):
        print(f"  layer {layer}: {share:6.1%} {'#' * int(40 * share)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
