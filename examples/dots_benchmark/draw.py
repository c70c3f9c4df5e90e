"""Draw three rows of the benchmark into DATA_DIR/dots_benchmark.

python examples/dots_benchmark/draw.py DATA_DIR
"""

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw


def main(data: Path) -> None:
    folder = data / "dots_benchmark"
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for count in (1, 2, 3):
        picture = Image.new("RGB", (112, 112), "white")
        for dot in range(count):
            ImageDraw.Draw(picture).ellipse((8 + 36 * dot, 40, 28 + 36 * dot, 60), fill="red")
        picture.save(folder / f"{count}.png")
        row = {"id": str(count), "question": "How many dots are there?", "image": f"{count}.png", "answer": str(count)}
        lines.append(json.dumps(row) + "\n")
    (folder / "rows.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
