"""One look at every file."""

import numpy as np
from PIL import Image

from odd_images import encoded, picture, png_16_bit, with_orientation
from regraft.data.manifest import Item, sha256_of
from regraft.data.survey import TURNED, survey


def test_what_files_are_like(tmp_path):
    files = {
        "photo.jpg": encoded(picture(0, 0, (300, 200)), "JPEG"),
        "turned.jpg": with_orientation(picture(1, 0, (300, 200)), 6),
        "grey.png": encoded(picture(2, 0).convert("L"), "PNG"),
        "deep.png": png_16_bit(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16),
        "white.png": encoded(Image.new("RGB", (40, 30), "white"), "PNG"),
        "broken.jpg": encoded(picture(0, 1), "JPEG")[:300],
        "text.jpg": b"hello",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    items = [Item(str(tmp_path / name), "a") for name in [*files, "absent.jpg"]]
    told = []
    seen = survey(items, threads=2, on_progress=lambda done, total: told.append((done, total)))
    looks = {item.path.rpartition("/")[2]: look for item, look in zip(seen.items, seen.looks, strict=True)}
    assert list(looks) == ["photo.jpg", "turned.jpg", "grey.png", "deep.png", "white.png"]
    assert (looks["photo.jpg"].width, looks["photo.jpg"].height, looks["photo.jpg"].format) == (300, 200, "JPEG")
    assert looks["photo.jpg"].notes == ()
    assert looks["turned.jpg"].notes == (TURNED,)
    assert "16-bit" in looks["deep.png"].notes[0]
    assert [name for name, look in looks.items() if look.colourless] == ["grey.png", "deep.png", "white.png"]
    assert [name for name, look in looks.items() if look.plain] == ["white.png"]
    assert [item.key for item in seen.items] == [sha256_of(files[name]) for name in looks]
    assert seen.sketches.grey.shape == (5, 64, 64)
    assert {s.path.rpartition("/")[2] for s in seen.rejected} == {"broken.jpg", "text.jpg", "absent.jpg"}
    assert told[-1] == (8, 8)


def test_order_and_threads_change_nothing(tmp_path):
    items = []
    for n in range(150):
        path = tmp_path / f"{n}.jpg"
        picture(n % 3, n, (40, 30)).save(path)
        items.append(Item(str(path)))
    one, two = survey(items, threads=1), survey(items[::-1], threads=4)
    assert [i.path for i in one.items] == [i.path for i in items]
    np.testing.assert_array_equal(one.sketches.grey, two.sketches.grey[::-1])
    np.testing.assert_array_equal(one.sketches.colour, two.sketches.colour[::-1])
