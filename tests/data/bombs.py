"""Image files that are small and would fill the memory, or seem to.

Files are bytes, by name; those of `HARMLESS` have an image that can be read.
"""

import json
import struct
import sys
import zlib
from functools import partial
from pathlib import Path

import tensorflow as tf

from alexnet_tf.config.data import Geometry
from alexnet_tf.data import decoding
from alexnet_tf.data.bad_examples import decode_with_fallback, decoding_error
from tests.data.image_kinds import (
    GOOD,
    PALETTE,
    animation,
    bmp,
    encode,
    exif,
    photo,
    with_segment,
)

_LARGE = bytes(8 << 20)  # What a chunk of metadata has [bytes].
_SEGMENT = bytes(65_000)  # The most that fits into one of a JPEG file.


def write_bombs(folder):
    """Writes NAME.jpg files; returns their paths by name."""
    paths = {name: folder / f"{name}.jpg" for name in BOMBS | HARMLESS}
    for name, make in (BOMBS | HARMLESS).items():
        paths[name].write_bytes(make())
    return paths


def zeros(count, *, whole=True):
    """Returns `count` zeros as zlib compresses them, a thousandth of that."""
    packer = zlib.compressobj(9)
    start = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    blocks, rest = divmod(count, 1 << 20)
    end = packer.compress(bytes(rest)) + packer.flush()
    checksum = (count % 65_521) << 16 | 1
    if whole:
        return start + block * (blocks - 1) + end[:-4] + checksum.to_bytes(4)
    return start + block * (blocks - 1)


def chunk(name, content):
    checksum = zlib.crc32(name + content)
    return len(content).to_bytes(4) + name + content + checksum.to_bytes(4)


def png(
    width, height, *, bits=8, color=2, interlaced=0, pixels=b"", before=b""
):
    """A PNG file; `pixels` are compressed."""
    header = struct.pack(
        ">IIBBBBB", width, height, bits, color, 0, 0, interlaced
    )
    palette = chunk(b"PLTE", bytes(768)) if color == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + before
        + chunk(b"IDAT", pixels or zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def png_with(*chunks):
    """A good PNG file with chunks before its pixels."""
    file = GOOD["png RGB"]
    return file[:33] + b"".join(chunks) + file[33:]


def jpeg(width, height, kind="jpeg 4:2:0"):
    """A JPEG file whose header has other sides than its data."""
    file = GOOD[kind]
    marker = b"\xff\xc2" if "progressive" in kind else b"\xff\xc0"
    place = file.index(marker) + 5
    return file[:place] + struct.pack(">2H", height, width) + file[place + 4 :]


def jpeg_with(*segments):
    file = GOOD["jpeg 4:2:0"]
    for marker, content in segments:
        file = with_segment(file, marker, content)
    return file


def many_scans(count):
    """A progressive JPEG file that repeats its last scan."""
    file = GOOD["jpeg progressive"]
    scan = file[file.rindex(b"\xff\xda") : -2]
    return file[:-2] + scan * count + file[-2:]


def gif(width, height, frames=((0, 0),), before=b"", whole=True):
    """A GIF file of black frames of (width, height), the canvas' by default."""
    file = struct.pack("<6s2HBBB", b"GIF89a", width, height, 0x80, 0, 0)
    file += bytes(6) + before
    images = {}
    for each in frames:
        sides = each if any(each) else (width, height)
        if sides not in images:
            images[sides] = gif_frame(*sides)
        file += images[sides]
    return file + b";" if whole else file[:-40]


def gif_frame(width, height):
    """Black; each code of LZW stands for one more pixel than the one before."""
    codes, bits, size, left = [(4, 3)], 3, 6, min(width * height, 1 << 27)
    length, code = 1, 0
    while left > 0:
        codes.append((code, bits))
        left -= length
        length += 1
        code = size
        size += 1
        if size - 1 == 1 << bits and bits < 12:
            bits += 1
        if size > 4094:
            codes.append((4, bits))
            bits, size, length, code = 3, 6, 1, 0
    codes.append((5, bits))
    number, place, data = 0, 0, bytearray()
    for code, width_of in codes:
        number |= code << place
        place += width_of
        while place >= 8:
            data.append(number & 255)
            number >>= 8
            place -= 8
    data.append(number)
    header = struct.pack("<B4HBB", 0x2C, 0, 0, width, height, 0, 2)
    return header + blocks(bytes(data))


def blocks(content, length=255):
    parts = range(0, len(content), length)
    parts = [content[place : place + length] for place in parts]
    return b"".join(bytes([len(p)]) + p for p in parts) + b"\0"


def comment(length):
    """An extension of a GIF file."""
    return b"!\xfe" + blocks(_LARGE[: 1 << 20], length)


def riff(*chunks):
    """A WebP file."""
    body = b"WEBP" + b"".join(
        name
        + struct.pack("<I", len(content))
        + content
        + bytes(len(content) % 2)
        for name, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8x(width, height, flags=0):
    sides = [(side - 1).to_bytes(3, "little") for side in (width, height)]
    return b"VP8X", bytes([flags, 0, 0, 0]) + b"".join(sides)


def vp8l(width, height):
    """A lossless image of one color; its pixels take no bits."""
    file = encode(photo(size=(1, 1)), "WEBP", lossless=True)
    content = file[20 : 20 + struct.unpack("<I", file[16:20])[0]]
    (packed,) = struct.unpack("<I", content[1:5])
    packed = packed >> 28 << 28 | (height - 1) << 14 | (width - 1)
    return b"VP8L", content[:1] + struct.pack("<I", packed) + content[5:]


def vp8(width, height):
    content = GOOD["webp"][20:]
    return b"VP8 ", content[:6] + struct.pack("<2H", width, height) + content[
        10:
    ]


def webp_with(name, flag):
    """A good WebP file with a large chunk."""
    image = (b"VP8 ", GOOD["webp"][20:])
    extra = (name, _LARGE)
    chunks = (extra, image) if name == b"ICCP" else (image, extra)
    return riff(vp8x(*photo().size, flag), *chunks)


def bmp_of(width, height, bits=24, **options):
    """A BMP file whose header has other sides than its data."""
    file = bmp(bits, [bytes(404)] * 75, **options)
    return file[:18] + struct.pack("<ii", width, height) + file[26:]


BOMBS = {
    # PNG: the header alone, data of zeros, each kind of pixels.
    "png square": partial(png, 65_535, 65_535),
    "png largest": partial(png, 2**31 - 1, 2**31 - 1),
    "png negative": partial(png, 2**32 - 1, 2**32 - 1),
    "png wide": partial(png, 200_000_000, 1),
    "png tall": partial(png, 1, 200_000_000),
    "png zeros": lambda: png(20_000, 20_000, pixels=zeros(20_000 * 60_001)),
    "png truncated zeros": lambda: png(
        20_000, 20_000, pixels=zeros(20_000 * 60_001, whole=False)
    )[:-40],
    "png 1 bit": lambda: png(
        40_000, 40_000, bits=1, color=0, pixels=zeros(40_000 * 5_001)
    ),
    "png 16 bits": lambda: png(
        12_000, 12_000, bits=16, color=6, pixels=zeros(12_000 * 96_001)
    ),
    "png palette": partial(png, 30_000, 30_000, color=3),
    "png interlaced": partial(png, 30_000, 30_000, interlaced=1),
    "png gray alpha": partial(png, 30_000, 30_000, color=4),
    "png and a good one": lambda: png(30_000, 30_000) + GOOD["png RGB"],
    # JPEG: each coding, and pieces of others in it.
    "jpeg square": partial(jpeg, 65_500, 65_500),
    "jpeg progressive": partial(jpeg, 65_500, 65_500, "jpeg progressive"),
    "jpeg gray": partial(jpeg, 65_500, 65_500, "jpeg gray"),
    "jpeg CMYK": partial(jpeg, 65_500, 65_500, "jpeg CMYK"),
    "jpeg RGB": partial(jpeg, 65_500, 65_500, "jpeg RGB"),
    "jpeg restart markers": partial(
        jpeg, 20_000, 20_000, "jpeg restart markers"
    ),
    "jpeg wide": partial(jpeg, 65_500, 1_600),
    "jpeg tall": partial(jpeg, 1_600, 65_500),
    "jpeg narrow": partial(jpeg, 1, 65_501),
    "jpeg lying": lambda: with_segment(jpeg(65_500, 9_000), 0xE1, exif(6)),
    "jpeg and a good one": lambda: jpeg(65_500, 65_500) + GOOD["jpeg RGB"],
    "jpeg truncated": lambda: jpeg(65_500, 65_500)[:700],
    "jpeg without a height": partial(jpeg, 65_500, 0),
    "jpeg two headers": lambda: jpeg_with(
        (0xC0, struct.pack(">BHHB", 8, 65_500, 65_500, 1) + b"\1\x11\0")
    ),
    # GIF.
    "gif canvas": partial(gif, 65_535, 65_535, [(4, 4)]),
    "gif frame": partial(gif, 4, 4, [(65_535, 65_535)]),
    "gif both": partial(gif, 20_000, 20_000),
    "gif truncated": partial(gif, 9_000, 9_000, whole=False),
    "gif without frames": partial(gif, 9_000, 9_000, []),
    "gif comments only": lambda: gif(9_000, 9_000, [], comment(255) * 9),
    # WebP.
    "webp lossless": lambda: riff(vp8l(16_383, 16_383)),
    "webp lossy": lambda: riff(vp8(16_383, 16_383)),
    "webp canvas": lambda: riff(vp8x(1 << 24, 1 << 24), vp8l(9, 9)),
    "webp inside": lambda: riff(vp8x(9, 9), vp8l(16_383, 16_383)),
    "webp alpha": lambda: riff(vp8x(16_383, 16_383, 16), vp8l(16_383, 16_383)),
    "webp animated": lambda: riff(
        vp8x(16_383, 16_383, 2),
        (b"ANIM", bytes(6)),
        (b"ANMF", bytes(16) + riff(vp8l(1, 1))[12:]),
    ),
    "webp bare": lambda: b"RIFF\xff\0\0\0WEBP" + vp8(16_383, 16_383)[1],
    "webp bare lossless": lambda: (
        b"RIFF\xff\0\0\0WEBP" + vp8l(16_383, 16_383)[1]
    ),
    # BMP.
    "bmp square": partial(bmp_of, 65_535, 65_535),
    "bmp lowest": partial(bmp_of, -(2**31), -(2**31)),
    "bmp top-down": partial(bmp_of, 30_000, -30_000, 32),
    "bmp palette": partial(bmp_of, 40_000, 40_000, 8),
    "bmp run lengths": partial(bmp_of, 40_000, 40_000, 8, compression=1),
    "bmp legal sides": partial(bmp_of, 9_000, 9_000),
    # Others.
    "zeros": lambda: _LARGE,
    "gzip": lambda: b"\x1f\x8b\x08" + zeros(1 << 30),
    "icon": lambda: b"\0\0\1\0\1\0" + bytes(16) + png(60_000, 60_000),
}
HARMLESS = {
    # Metadata that are large, or become so.
    "png zTXt": lambda: png_with(chunk(b"zTXt", b"a\0\0" + zeros(1 << 30))),
    "png iTXt": lambda: png_with(
        chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(1 << 30))
    ),
    "png profile": lambda: png_with(chunk(b"iCCP", b"a\0\0" + zeros(1 << 30))),
    "png text": lambda: png_with(chunk(b"tEXt", b"a\0" + _LARGE)),
    "png EXIF": lambda: png_with(chunk(b"eXIf", b"II*\0" + _LARGE)),
    "png many texts": lambda: png_with(chunk(b"tEXt", b"a\0b") * 100_000),
    "png animation": lambda: png_with(chunk(b"acTL", b"\x7f\xff\xff\xff" * 2)),
    "png good and a bomb": lambda: GOOD["png RGB"] + png(65_535, 65_535),
    "jpeg profile": lambda: jpeg_with(
        *[(0xE2, b"ICC_PROFILE\0\1\xff" + _SEGMENT)] * 130
    ),
    "jpeg EXIF": lambda: jpeg_with(*[(0xE1, b"Exif\0\0" + _SEGMENT)] * 130),
    "jpeg comments": lambda: jpeg_with(*[(0xFE, _SEGMENT)] * 130),
    "jpeg thumbnail": lambda: jpeg_with((0xE1, exif(6) + jpeg(65_500, 65_500))),
    "jpeg scans": lambda: many_scans(500),
    "jpeg good and a bomb": lambda: GOOD["jpeg RGB"] + jpeg(65_500, 65_500),
    "gif animated": lambda: gif(2_000, 2_000, [(0, 0)] * 500),
    "gif second frame": lambda: gif(90, 80, [(90, 80), (65_535, 65_535)]),
    "gif many small frames": lambda: gif(90, 80, [(90, 80)] * 5_000),
    "gif comments": lambda: gif(90, 80, before=comment(255) * 8),
    "gif short comments": lambda: gif(
        90, 80, before=b"!\xfe" + blocks(bytes(5_000), 1)
    ),
    "gif good and a bomb": lambda: encode(PALETTE, "GIF") + gif(65_535, 65_535),
    "webp profile": lambda: webp_with(b"ICCP", 32),
    "webp EXIF": lambda: webp_with(b"EXIF", 8),
    "webp XMP": lambda: webp_with(b"XMP ", 4),
    "webp frames": lambda: animation("WEBP"),
    "bmp and zeros": lambda: GOOD["bmp RGB"] + _LARGE,
}


def main(folder):
    """Prints, for each file and decoder, what `decode_between` returns."""
    geometry = Geometry(72, 64)
    whole = Geometry(64, 64)
    corner = (0, 0)
    decoders = {
        "patches": lambda file: decoding.decode_patch(file, corner, geometry),
        "squares": lambda file: decoding.decode_square(file, whole),
    }

    def usual(file):
        return decoding.decode_usual_patch(file, corner, geometry)

    for decoder, careful in decoders.items():
        fast = usual if decoder == "patches" else careful
        decode = tf.function(
            lambda files, fast=fast, careful=careful: decode_with_fallback(
                fast, careful, [files], tf.zeros((64, 64, 3), tf.uint8)
            ),
            input_signature=[tf.TensorSpec([None], tf.string)],
        )
        for good in GOOD.values():
            decode_between(decode, good, 0)  # Warms all branches up.
        normal = memory("VmRSS")
        for path in sorted(Path(folder).iterdir()):
            found = decode_between(decode, path.read_bytes(), normal)
            line = {"name": path.stem, "decoder": decoder, **found}
            print(json.dumps(line), flush=True)


def decode_between(decode, file, normal):
    """Decodes a file between two good ones.

    Returns its reason, which of the three can be read, and how much the memory
    grows at most, from `normal` [MB].
    """
    Path("/proc/self/clear_refs").write_text("5")  # Resets the peak.
    _, ok = decode(tf.constant([GOOD["jpeg RGB"], file, GOOD["png RGB"]]))
    reason = "" if ok[1] else decoding_error(file, Geometry.max_image_pixels)
    grown = memory("VmHWM") - normal
    return {"reason": reason, "ok": ok.numpy().tolist(), "grown": grown}


def memory(name):
    """Returns an entry of Linux's statistics of this process [MB]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    entries = dict(line.split(":", 1) for line in lines)
    return int(entries[name].split()[0]) / 1024


if __name__ == "__main__":
    main(sys.argv[1])
