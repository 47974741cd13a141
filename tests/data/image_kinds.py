"""Image files of every kind, as PIL, Paint, cameras and scanners write them."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import tensorflow as tf

WIDTH, HEIGHT = 101, 75  # Rows of most formats need padding.


def photo(seed=0, size=(WIDTH, HEIGHT)):
    """Smooth colors with grain, as in a photograph."""
    random = np.random.default_rng(seed)
    colors = random.integers(0, 256, (8, 10, 3), np.uint8)
    smooth = PIL.Image.fromarray(colors).resize(size, PIL.Image.BICUBIC)
    grain = random.normal(0, 8, (size[1], size[0], 1))
    pixels = np.clip(np.asarray(smooth) + grain, 0, 255)
    return PIL.Image.fromarray(pixels.astype(np.uint8))


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def transparent(image=None):
    """Has every alpha, and other colors than black behind it."""
    alpha = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH))
    image = (image or photo()).convert("RGBA")
    image.putalpha(PIL.Image.fromarray(alpha.astype(np.uint8)))
    return image


def animation(kind, **options):
    frames = [photo(seed) for seed in range(3)]
    return encode(
        frames[0], kind, save_all=True, append_images=frames[1:], **options
    )


def png(bits, color, rows, *chunks):
    """A PNG file of packed rows; PIL writes few depths and no interlacing."""

    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        length = len(content).to_bytes(4)
        return length + name + content + checksum.to_bytes(4)

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", pixels)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def gray_png(bits):
    """Gray values of 1, 2, 4, 8 or 16 bits."""
    gray = np.asarray(photo().convert("L"))
    if bits == 16:
        return png(16, 0, (gray.astype(">u2") * 257).view(np.uint8))
    values = gray >> (8 - bits)
    digits = np.unpackbits(values[..., None], axis=-1)[..., -bits:]
    return png(bits, 0, np.packbits(digits.reshape(HEIGHT, -1), axis=1))


def png16(values):
    """Values of 16 bits, (height, width, channels)."""
    return tf.io.encode_png(values.astype(np.uint16)).numpy()


def adam7():
    """An interlaced PNG file."""
    pixels = np.asarray(photo())
    passes = [
        (pixels[y::dy, x::dx])
        for y, x, dy, dx in (
            *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
            *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
        )
    ]
    plain = png(8, 2, [row for part in passes for row in part])
    header = bytearray(plain[12:29])
    header[-1] = 1
    checksum = zlib.crc32(header).to_bytes(4)
    return plain[:12] + bytes(header) + checksum + plain[33:]


def bmp(bits, rows, *, header=40, masks=None, palette=b"", compression=0):
    """A BMP file; rows are from bottom to top, bytes."""
    if masks:
        compression = 3
    extra = struct.pack("<3I", *masks) if masks else b""
    extra = extra.ljust(header - 40, b"\0")
    start = 14 + 40 + len(extra) + len(palette)
    pixels = b"".join(row.ljust(-(-len(row) // 4) * 4, b"\0") for row in rows)
    fields = (header, WIDTH, HEIGHT, 1, bits, compression, len(pixels))
    info = struct.pack("<IiiHHIIiiII", *fields, 2835, 2835, 0, 0)
    file = struct.pack("<2sIII", b"BM", start + len(pixels), 0, start)
    return file + info + extra + palette + pixels


def bmp_of(channels, order=(2, 1, 0, 3), **options):
    pixels = np.asarray(transparent() if channels == 4 else photo())
    rows = [row.tobytes() for row in pixels[::-1, :, order[:channels]]]
    return bmp(8 * channels, rows, **options)


def top_down(file):
    """The same BMP file, its rows from top to bottom."""
    (start,) = struct.unpack("<I", file[10:14])
    rows = np.frombuffer(file[start:], np.uint8).reshape(HEIGHT, -1)
    height = struct.pack("<i", -HEIGHT)
    return file[:22] + height + file[26:start] + rows[::-1].tobytes()


def os2_bmp():
    """A BMP file with the header of OS/2."""
    rows = np.asarray(photo())[::-1, :, ::-1]
    pixels = b"".join(row.tobytes() + b"\0" for row in rows)
    info = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 24)
    return struct.pack("<2sIII", b"BM", 26 + len(pixels), 0, 26) + info + pixels


def cmyk(transform=0, adobe=True):
    """A CMYK JPEG file as Photoshop writes it, and its variants."""
    content = encode(photo().convert("CMYK"), "JPEG")
    place = content.index(b"Adobe")
    if not adobe:
        return content[: place - 4] + content[place + 12 :]
    transform = transform.to_bytes(1)
    return content[: place + 11] + transform + content[place + 12 :]


def small_gif():
    """A GIF file whose frame is a part of its canvas."""
    content = bytearray(encode(photo().quantize(16), "GIF"))
    content[6:10] = struct.pack("<2H", 2 * WIDTH, 2 * HEIGHT)
    return bytes(content)


RGB_MASKS = (0xFF0000, 0xFF00, 0xFF)
PALETTE = photo().quantize(64)
GRAYS = np.asarray(photo().convert("L")).astype(int)[..., None]

GOOD = {
    # JPEG, from the coarsest to the finest colors.
    "jpeg 4:2:0": encode(photo(), "JPEG", subsampling="4:2:0"),
    "jpeg 4:2:2": encode(photo(), "JPEG", subsampling="4:2:2"),
    "jpeg 4:4:4": encode(photo(), "JPEG", subsampling="4:4:4", quality=95),
    "jpeg RGB": encode(photo(), "JPEG", keep_rgb=True),
    "jpeg progressive": encode(photo(), "JPEG", progressive=True),
    "jpeg restart markers": encode(photo(), "JPEG", restart_marker_blocks=3),
    "jpeg low quality": encode(photo(), "JPEG", quality=20),
    "jpeg gray": encode(photo().convert("L"), "JPEG"),
    "jpeg CMYK": cmyk(),
    "jpeg YCCK": cmyk(transform=2),
    # PNG: gray, color, palette, and with alpha, of all depths.
    **{f"png gray {bits} bits": gray_png(bits) for bits in (1, 2, 4, 8)},
    **{
        f"png palette {bits} bits": encode(
            photo().quantize(2**bits), "PNG", bits=bits
        )
        for bits in (1, 2, 4, 8)
    },
    "png RGB": encode(photo(), "PNG"),
    "png RGBA": encode(transparent(), "PNG"),
    "png gray alpha": encode(transparent(photo().convert("L")), "PNG"),
    "png LA": encode(transparent().convert("LA"), "PNG"),
    "png transparent palette": encode(
        PALETTE, "PNG", transparency=bytes(range(64))
    ),
    "png transparent color": encode(
        photo(), "PNG", transparency=photo().getpixel((5, 5))
    ),
    "png interlaced": adam7(),
    "png RGB 16 bits": png16(257.0 * np.asarray(photo())),
    "png RGBA 16 bits": png16(257.0 * np.asarray(transparent())),
    "png animated": animation("PNG"),
    # BMP, as PIL, Paint and cameras write it.
    "bmp gray": encode(photo().convert("L"), "BMP"),
    "bmp palette": encode(PALETTE, "BMP"),
    "bmp short palette": bmp(
        8,
        [row.tobytes() for row in np.asarray(PALETTE)[::-1]],
        palette=np.insert(
            np.reshape(PALETTE.getpalette(), (-1, 3))[:64, ::-1], 3, 0, axis=1
        )
        .astype(np.uint8)
        .tobytes(),
    ),
    "bmp RGB": encode(photo(), "BMP"),
    "bmp RGBA": encode(transparent(), "BMP"),
    "bmp V4": bmp_of(3, header=108),
    "bmp V5": bmp_of(3, header=124),
    "bmp V5 and bytes after it": bmp_of(3, header=124) + b"a color profile",
    "bmp bit fields": bmp_of(4, header=52, masks=RGB_MASKS),
    "bmp V4 bit fields": bmp_of(4, header=108, masks=RGB_MASKS),
    "bmp V5 bit fields": bmp_of(4, header=124, masks=RGB_MASKS),
    "bmp top-down": top_down(bmp_of(3)),
    "bmp top-down palette": top_down(encode(PALETTE, "BMP")),
    "bmp top-down bit fields": top_down(bmp_of(4, header=124, masks=RGB_MASKS)),
    # GIF and WebP.
    "gif": encode(PALETTE, "GIF", interlace=0),
    "gif interlaced": encode(PALETTE, "GIF", interlace=1),
    "gif transparent": encode(PALETTE, "GIF", transparency=7),
    "gif with a comment": encode(
        PALETTE, "GIF", transparency=7, comment=b"!\0\4"
    ),
    "gif animated": animation("GIF"),
    "gif animated transparent": animation("GIF", transparency=7),
    "webp": encode(photo(), "WEBP"),
    "webp lossless": encode(photo(), "WEBP", lossless=True),
    "webp alpha": encode(transparent(), "WEBP"),
    "webp lossless alpha": encode(
        transparent(), "WEBP", lossless=True, exact=True
    ),
    "webp profile": encode(photo(), "WEBP", icc_profile=b"profile"),
    "webp animated": animation("WEBP"),
    "webp animated lossless": animation("WEBP", lossless=True),
    "webp animated profile": animation("WEBP", icc_profile=b"profile"),
    "webp animated alpha": encode(
        transparent(), "WEBP", save_all=True, append_images=[transparent()]
    ),
}
# Stored with half as many columns of colors.
HALF_COLORS = [
    f"jpeg {kind}"
    for kind in (
        *("4:2:0", "4:2:2", "progressive", "restart markers", "low quality"),
    )
]
BAD = {
    "bmp 1 bit": (encode(photo().convert("1"), "BMP"), "BMP file of 1 bits"),
    "bmp 4 bits": (bmp(4, [bytes(51)] * HEIGHT), "BMP file of 4 bits"),
    "bmp 16 bits": (bmp(16, [bytes(202)] * HEIGHT), "BMP file of 16 bits"),
    "bmp run lengths": (
        bmp(8, [b"\xff\x01"] * HEIGHT, compression=1),
        "BMP file of 8 bits, compression 1",
    ),
    "bmp other bit fields": (
        bmp_of(4, (0, 1, 2, 3), header=56, masks=(0xFF, 0xFF00, 0xFF0000)),
        "BMP file of 32 bits, compression 3",
    ),
    "bmp OS/2": (os2_bmp(), "header of 12 bytes"),
    "bmp truncated": (encode(photo(), "BMP")[:-900], "Input size"),
    "png 12 of 16 bits": (png16(GRAYS * 16), "16-bit PNG file with values of"),
    "png 14 of 16 bits": (png16(GRAYS * 64), "16-bit PNG file with values of"),
    "png truncated": (encode(photo(), "PNG")[:-900], "Invalid PNG data"),
    "gif part of a canvas": (small_gif(), "GIF file whose first frame does"),
    "gif truncated": (encode(PALETTE, "GIF")[:-900], "Invalid GIF data"),
    "webp truncated": (encode(photo(), "WEBP")[:-90], "decode WebP"),
    "webp animated truncated": (animation("WEBP")[:-900], "WebP"),
    "jpeg 12 bits": (
        encode(photo(), "JPEG").replace(
            b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"
        ),
        "Invalid JPEG data",
    ),
    "jpeg truncated": (encode(photo(), "JPEG")[:-900], "Invalid JPEG data"),
    "tiff": (encode(photo(), "TIFF"), "Unknown image file format; convert"),
    "jpeg 2000": (encode(photo(), "JPEG2000"), "Unknown image file format"),
    "text": (b"no picture", "Unknown image file format"),
    **{
        f"{kind} of {length} bytes": (GOOD[kind][:length], "")
        for kind in ("jpeg RGB", "png RGB", "bmp RGB", "gif", "webp animated")
        for length in (3, 5, 9, 20, 30)
    },
    "empty": (b"", "Empty file"),
}


ORIENTATIONS = [  # What makes an image lie as each orientation states.
    (1, None),
    (2, PIL.Image.Transpose.FLIP_LEFT_RIGHT),
    (3, PIL.Image.Transpose.ROTATE_180),
    (4, PIL.Image.Transpose.FLIP_TOP_BOTTOM),
    (5, PIL.Image.Transpose.TRANSPOSE),
    (6, PIL.Image.Transpose.ROTATE_90),
    (7, PIL.Image.Transpose.TRANSVERSE),
    (8, PIL.Image.Transpose.ROTATE_270),
]


def exif(number, order="<", *, place=8):
    """EXIF data with an orientation among other tags."""
    entries = [(0x0100, 4, 99), (0x0112, 3, number), (0x0131, 4, 7)]
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, value in entries:
        code = f"{order}HHIHH" if kind == 3 else f"{order}HHII"
        values = (value, 0) if kind == 3 else (value,)
        directory += struct.pack(code, tag, kind, 1, *values)
    start = b"II" if order == "<" else b"MM"
    start += struct.pack(f"{order}HI", 42, place)
    return b"Exif\0\0" + start.ljust(place, b"\0") + directory + bytes(4)


def with_segment(file, marker, content):
    """Puts a segment before all others of a JPEG file."""
    length = (len(content) + 2).to_bytes(2)
    return file[:2] + bytes((0xFF, marker)) + length + content + file[2:]


def lying(image, transpose):
    """A JPEG file of an image as it lies with an orientation, without EXIF."""
    stored = image if transpose is None else image.transpose(transpose)
    return encode(stored, "JPEG", quality=95, subsampling="4:4:4")
