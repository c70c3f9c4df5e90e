"""A picture as a model is given it: drawings on clear grounds and wide greys are seen, and by everybody the same."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

from avar_eval.errors import UsageError
from avar_eval.look.conversation import read_picture
from avar_eval.pictures import as_rgb, is_plain_rgb
from avar_eval.recipes.data import TrainingDataError, decoded_picture, load
from avar_eval.tasks.catalog import catalog
from avar_eval.tasks.files import DataError, check_picture
from avar_eval.tasks.rows import rows_from_folder
from avar_eval.tasks.visuals import rgb_picture

SIZE = (40, 24)
INK = [(20, 12), (2, 2)]
"""A point of the drawing, and one of the ground."""


def drawn(mode: str, ground: object, ink: object) -> Image.Image:
    picture = Image.new(mode, SIZE, ground)  # type: ignore[arg-type]
    ImageDraw.Draw(picture).rectangle((10, 6, 30, 18), fill=ink)  # type: ignore[arg-type]
    return picture


def wide(dtype: str, ground: float, ink: float) -> Image.Image:
    values = np.full(SIZE[::-1], ground, dtype=dtype)
    values[6:19, 10:31] = ink
    return Image.fromarray(values)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def palette() -> Image.Image:
    picture = Image.new("P", SIZE, 0)
    picture.putpalette([0, 0, 0, 0, 0, 0, 200, 30, 30])
    ImageDraw.Draw(picture).rectangle((10, 6, 30, 18), fill=1)
    return picture


def animated() -> bytes:
    frames = [drawn("L", 255, 0), drawn("L", 255, 128)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    return saved(drawn("RGB", "white", "black"), "PNG", exif=exif)


BLACK, WHITE = (0, 0, 0), (255, 255, 255)
# name of the file, how it is made, colour of the drawing, colour of the ground
CASES: list[tuple[str, Callable[[], bytes], tuple[int, ...], tuple[int, ...]]] = [
    ("rgba.png", lambda: saved(drawn("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)), "PNG"), BLACK, WHITE),
    ("half.png", lambda: saved(drawn("RGBA", (0, 0, 0, 0), (0, 0, 0, 128)), "PNG"), (127, 127, 127), WHITE),
    ("la.png", lambda: saved(drawn("LA", (0, 0), (0, 255)), "PNG"), BLACK, WHITE),
    ("rgba.webp", lambda: saved(drawn("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)), "WEBP", lossless=True), BLACK, WHITE),
    ("clear.gif", lambda: saved(palette(), "GIF", transparency=0), BLACK, WHITE),
    ("palette.png", lambda: saved(palette(), "PNG", transparency=0), BLACK, WHITE),
    ("alphas.png", lambda: saved(palette(), "PNG", transparency=b"\x00\xff\xff"), BLACK, WHITE),
    ("opaque_palette.png", lambda: saved(palette(), "PNG"), BLACK, BLACK),
    ("trns.png", lambda: saved(drawn("RGB", (9, 9, 9), BLACK), "PNG", transparency=(9, 9, 9)), BLACK, WHITE),
    ("grey_trns.png", lambda: saved(drawn("L", 9, 0), "PNG", transparency=9), BLACK, WHITE),
    ("bit.png", lambda: saved(drawn("1", 1, 0), "PNG"), BLACK, WHITE),
    ("sixteen.png", lambda: saved(wide("uint16", 65535, 257 * 100), "PNG"), (100, 100, 100), WHITE),
    ("dark_sixteen.png", lambda: saved(wide("uint16", 30000, 0), "PNG"), BLACK, (117, 117, 117)),
    ("twelve.png", lambda: saved(wide("uint16", 4095, 0), "PNG"), BLACK, WHITE),
    ("big_endian.tiff", lambda: saved(wide(">u2", 65535, 0), "TIFF"), BLACK, WHITE),
    ("int.tiff", lambda: saved(wide("int32", 65535, 257 * 100), "TIFF"), (100, 100, 100), WHITE),
    ("signed.tiff", lambda: saved(wide("int32", 900, -100), "TIFF"), BLACK, WHITE),
    ("float.tiff", lambda: saved(wide("float32", 1.0, 0.2), "TIFF"), (51, 51, 51), WHITE),
    ("float_255.tiff", lambda: saved(wide("float32", 255.0, 0.0), "TIFF"), BLACK, WHITE),
    ("not_a_number.tiff", lambda: saved(wide("float32", 1.0, float("nan")), "TIFF"), BLACK, WHITE),
    ("cmyk.jpg", lambda: saved(drawn("CMYK", (0, 0, 0, 0), (0, 0, 0, 255)), "JPEG", quality=100), BLACK, WHITE),
    ("animated.gif", animated, BLACK, WHITE),
    ("grey.png", lambda: saved(drawn("L", 200, 7), "PNG"), (7, 7, 7), (200, 200, 200)),
    ("turned.png", turned, BLACK, WHITE),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data") / "mmstar"
    made.mkdir()
    for name, make, _, _ in CASES:
        (made / name).write_bytes(make())
    return made


@pytest.mark.parametrize(("name", "ink", "ground"), [(name, ink, ground) for name, _, ink, ground in CASES])
def test_what_is_drawn_is_seen(name: str, ink: tuple[int, ...], ground: tuple[int, ...], folder: Path) -> None:
    seen = read_picture(folder / name)
    assert seen.mode == "RGB"
    assert seen.size == (SIZE[::-1] if name == "turned.png" else SIZE)
    inside, outside = (seen.width // 2, seen.height // 2), (2, 2)
    assert seen.getpixel(inside) == pytest.approx(ink, abs=2)
    assert seen.getpixel(outside) == pytest.approx(ground, abs=2)
    assert is_plain_rgb(seen)
    assert as_rgb(seen).tobytes() == seen.tobytes()


def test_evaluation_look_and_training_are_given_the_same(folder: Path) -> None:
    names = [name for name, *_ in CASES]
    (folder / "rows.jsonl").write_text("".join(mmstar_line(number, name) for number, name in enumerate(names)))
    evaluated, left_out = rows_from_folder(folder.parent, catalog()["mmstar"])
    trained = load(training_file(folder, names), "sft", system_prompt=None)
    assert left_out == {}
    for name, asked, row in zip(names, evaluated, trained, strict=True):
        looked = read_picture(folder / name)
        (picture,) = row["images"]
        assert rgb_picture(asked["image"], "missing").tobytes() == looked.tobytes(), name
        assert picture.mode == "RGB", name
        assert picture.tobytes() == looked.tobytes(), name
        assert rgb_picture(Image.open(folder / name), "missing").tobytes() == looked.tobytes(), name


def mmstar_line(number: int, picture: str) -> str:
    question = "What is drawn?\nOptions: A: a box, B: a disc"
    row = {"index": number, "question": question, "answer": "A", "category": "math", "l2_category": "geometry"}
    return json.dumps(row | {"image": picture, "meta_info": {}}) + "\n"


def training_file(folder: Path, names: list[str]) -> str:
    said = [{"from": "human", "value": "<image>What is drawn?"}, {"from": "gpt", "value": "A box."}]
    lines = [json.dumps({"conversations": said, "images": [name]}) + "\n" for name in names]
    (folder / "train.jsonl").write_text("".join(lines))
    return str(folder / "train.jsonl")


def test_pictures_of_a_colour_space_of_its_own() -> None:
    lab = ImageCms.profileToProfile(
        drawn("RGB", "white", "red"), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    seen = as_rgb(lab)
    assert seen.getpixel((20, 12)) == pytest.approx((255, 0, 0), abs=8)
    assert seen.getpixel((2, 2)) == pytest.approx((255, 255, 255), abs=4)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG that says how large it is, and holds these."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + b"".join(chunks)


def half(picture: bytes) -> bytes:
    return picture[: len(picture) // 2]


def with_damaged_orientation() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a text"
    picture = saved(drawn("RGB", "white", "black"), "JPEG", exif=exif)
    return picture.replace(b"\x01\x0e\x00\x02", b"\x01\x01\x00\x02")  # the text is of a tag that has numbers


NO_PICTURE = "it is no picture of a kind that is read: PNG, JPEG, WEBP, GIF, BMP, TIFF"
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", NO_PICTURE),
    "HTML": (b"<!DOCTYPE html><html>not found</html>", NO_PICTURE),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', NO_PICTURE),
    "PNG that breaks off": (half(saved(wide("uint8", 0, 255).effect_spread(9), "PNG")), "it breaks off"),
    "JPEG that breaks off": (half(saved(wide("uint8", 0, 255).effect_spread(9), "JPEG", quality=100)), "it breaks off"),
    "20,000 x 20,000": (
        png(20_000, 20_000, chunk(b"IDAT", b"")),
        "it has more than 178,956,970 pixels: make it smaller",
    ),
    "other bytes": (png(8, 8, chunk(b"IDAT", b"no pixels"), chunk(b"IEND", b"")), "it is damaged"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_no_picture_is_told_in_words_everywhere(name: str, folder: Path) -> None:
    content, words = DAMAGED[name]
    path = folder / "damaged.png"
    path.write_bytes(content)
    with pytest.raises(UsageError) as looked:
        read_picture(path)
    assert str(looked.value).endswith(f"cannot be read as an image: {words}")
    with pytest.raises(DataError) as checked:
        check_picture(path)
    assert f"is broken ({words})" in str(checked.value)
    with pytest.raises(TrainingDataError) as trained:
        decoded_picture({"path": str(path), "bytes": None})
    assert f"cannot be read: {words}" in str(trained.value)


def test_a_damaged_orientation_is_one_message(folder: Path) -> None:
    path = folder / "damaged.jpeg"
    path.write_bytes(with_damaged_orientation())
    with pytest.raises(UsageError, match="cannot be read as an image: it is damaged"):
        read_picture(path)
