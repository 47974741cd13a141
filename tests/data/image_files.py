"""Image files of all kinds, good and bad."""

import io

import numpy as np
import PIL.Image
import tensorflow as tf

COLOR = (200, 40, 90)


def encode(kind, size=(90, 80), mode="RGB", color=COLOR):
    image = PIL.Image.new(mode, size, color)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def sixteen_bits():
    """A PNG file with 16 bits per channel."""
    pixels = np.full((80, 90, 3), COLOR, np.uint16) * 257
    return tf.io.encode_png(pixels).numpy()


# Files of one color, by their names as .jpg files.
GOOD = {
    "rgb": encode("JPEG"),
    "png": encode("PNG"),
    "bmp": encode("BMP"),
    "gif": encode("GIF"),
    "webp": encode("WEBP"),
    "16_bit": sixteen_bits(),
    "rgba": encode("PNG", mode="RGBA", color=(*COLOR, 255)),
    "tiny": encode("JPEG", size=(1, 1)),
    "long": encode("JPEG", size=(1, 5000)),
    "huge": encode("JPEG", size=(6_000, 4_500)),
    "trailing_bytes": encode("JPEG") + b"\0\0\0",
}
GRAY = {"gray": encode("JPEG", mode="L", color=120)}
# CMYK as Photoshop writes it, and TensorFlow and PIL read it.
CMYK = {"cmyk": encode("JPEG", mode="CMYK", color=(0, 128, 128, 20))}
NO_IMAGE = {
    "empty": b"",
    "text": b"this is no picture",
    "truncated": encode("JPEG", size=(400, 300))[:-100],
    "start_of_a_jpeg": b"\xff\xd8\xff\xd9",
    "truncated_png": encode("PNG")[:-30],
}


def write_folder(root, files, copies=1, split="train"):
    """Writes files as PATH/SPLIT/CLASS/NAME.jpg, in classes a and b."""
    for number in range(copies):
        for name, content in files.items():
            folder = root / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}{number}.jpg").write_bytes(content)
    return root


def names_and_labels(examples):
    """Returns the labels of a split by their names."""
    (rows,) = examples.in_order(examples.count).as_numpy_iterator()
    names = [name.decode() for name in rows["name"]]
    return dict(zip(names, rows["label"].tolist(), strict=True))
