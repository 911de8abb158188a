"""Image files as the sets publish them, written small for tests."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def pixels(number, height=8, width=8):
    """A smooth image of its own color, so that JPEG keeps it nearly."""
    random = np.random.default_rng(number)
    corners = random.integers(20, 235, (2, 2, 3)).astype(np.float32)
    image = Image.fromarray(corners.astype(np.uint8))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def resize(image, height, width):
    """Bilinear with antialiasing, as sums over triangles."""

    def weights(old, new):
        centers = (np.arange(new) + 0.5) * old / new
        distances = np.abs(np.arange(old) + 0.5 - centers[:, np.newaxis])
        triangles = np.maximum(1 - distances / max(old / new, 1), 0)
        return triangles / triangles.sum(axis=1, keepdims=True)

    down, right = (
        weights(image.shape[0], height),
        weights(image.shape[1], width),
    )
    return np.einsum("ir,rcd,jc->ijd", down, image.astype(float), right)


def write(path, image, **options):
    """Writes an array in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


def encode(image, kind="PNG", **options):
    """The file of an array or an `Image`, as bytes."""
    stream = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(width, height, bits, rows, colors=False):
    """A PNG file that Pillow cannot, or not soon, write.

    Args:
        width: Integer.
        height: Integer.
        bits: Integer, of each channel.
        rows: Iterable of bytes, each one or more rows behind their filters.
        colors: Whether it has three channels, not one.
    """

    def chunk(kind, content):
        checked = kind + content
        size, check = len(content), zlib.crc32(checked)
        return struct.pack(">I", size) + checked + struct.pack(">I", check)

    header = struct.pack(
        ">IIBBBBB", width, height, bits, 2 if colors else 0, 0, 0, 0
    )
    packer = zlib.compressobj()
    content = b"".join([*map(packer.compress, rows), packer.flush()])
    parts = chunk(b"IHDR", header), chunk(b"IDAT", content), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def write_folder(directory, classes=("bird", "cat", "ant"), train=12, test=4):
    """`train` and `test` images of each class, PNG and JPEG; numbered."""
    number = 0
    for split, count in (("train", train), ("test", test)):
        for name in classes:
            for place in range(count):
                suffix = "png" if place % 2 else "jpg"
                file = directory / split / name / f"{place:03d}.{suffix}"
                # Of mixed sizes.
                write(file, pixels(number, 8 + place % 3, 9))
                number += 1
    return directory


def write_tiny_imagenet(directory, classes=3, train=10, test=6):
    """Tiny-ImageNet as its archive has it; a gray image is among them."""
    top = directory / "tiny-imagenet-200"
    names = [f"n{1000 + 7 * (classes - k):08d}" for k in range(classes)]
    for number, name in enumerate(names):
        for place in range(train):
            file = top / "train" / name / "images" / f"{name}_{place}.JPEG"
            image = pixels(100 * number + place, 64, 64)
            write(file, image[..., 0] if place == 3 else image)
        (top / "train" / name / f"{name}_boxes.txt").write_text("")
    lines = []
    for place in range(test):
        name = f"val_{place}.JPEG"
        write(top / "val" / "images" / name, pixels(9000 + place, 64, 64))
        wnid = names[place % classes]
        lines.append(f"{name}\t{wnid}\t0\t0\t62\t62\n")
    (top / "val" / "val_annotations.txt").write_text("".join(lines))
    return sorted(names)


def write_gtsrb(directory, tracks=(10, 3), photographs=4, classes=43, test=5):
    """GTSRB as its archives have it; class k has `tracks[k % 2]` signs."""
    top = directory / "GTSRB"
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    row = "{};20;25;5;5;15;20;{}"
    for label in range(classes):
        folder = top / "Final_Training" / "Images" / f"{label:05d}"
        rows = [header]
        for track in range(tracks[label % 2]):
            for place in range(photographs):
                name = f"{track:05d}_{place:05d}.ppm"
                number = 1000 * label + 10 * track + place
                write(folder / name, pixels(number, 25, 20))
                rows.append(row.format(name, label))
        (folder / f"GT-{label:05d}.csv").write_text("\n".join(rows) + "\n")
    rows = [header]
    folder = top / "Final_Test" / "Images"
    for place in range(test):
        write(folder / f"{place:05d}.ppm", pixels(10**6 + place, 30, 31))
        rows.append(row.format(f"{place:05d}.ppm", 7 * place % classes))
    (top / "GT-final_test.csv").write_text("\r\n".join(rows) + "\r\n")
    return top
