"""Writes small image files in the layout of published data sets."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def pixels(number, height=8, width=8):
    """A smooth image of a unique color, which JPEG nearly preserves."""
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
    """A PNG file that Pillow cannot write, or only slowly.

    Args:
        width: Integer.
        height: Integer.
        bits: Integer, the bits per channel.
        rows: Iterable of bytes, each one or more rows after their filters.
        colors: Whether it has three channels rather than one.
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
    """Writes numbered `train` and `test` images, PNG and JPEG, by class."""
    number = 0
    for split, count in (("train", train), ("test", test)):
        for name in classes:
            for index in range(count):
                suffix = "png" if index % 2 else "jpg"
                file = directory / split / name / f"{index:03d}.{suffix}"
                # Of mixed sizes.
                write(file, pixels(number, 8 + index % 3, 9))
                number += 1
    return directory


def write_tiny_imagenet(directory, classes=3, train=10, test=6):
    """Writes Tiny-ImageNet like its archive, with a gray image."""
    top = directory / "tiny-imagenet-200"
    names = [f"n{1000 + 7 * (classes - k):08d}" for k in range(classes)]
    for number, name in enumerate(names):
        for index in range(train):
            file = top / "train" / name / "images" / f"{name}_{index}.JPEG"
            image = pixels(100 * number + index, 64, 64)
            write(file, image[..., 0] if index == 3 else image)
        (top / "train" / name / f"{name}_boxes.txt").write_text("")
    lines = []
    for index in range(test):
        name = f"val_{index}.JPEG"
        write(top / "val" / "images" / name, pixels(9000 + index, 64, 64))
        wnid = names[index % classes]
        lines.append(f"{name}\t{wnid}\t0\t0\t62\t62\n")
    (top / "val" / "val_annotations.txt").write_text("".join(lines))
    return sorted(names)


def write_gtsrb(directory, tracks=(10, 3), photographs=4, classes=43, test=5):
    """Writes GTSRB like its archives; class k has `tracks[k % 2]` signs."""
    top = directory / "GTSRB"
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    row = "{};20;25;5;5;15;20;{}"
    for label in range(classes):
        folder = top / "Final_Training" / "Images" / f"{label:05d}"
        rows = [header]
        for track in range(tracks[label % 2]):
            for index in range(photographs):
                name = f"{track:05d}_{index:05d}.ppm"
                number = 1000 * label + 10 * track + index
                write(folder / name, pixels(number, 25, 20))
                rows.append(row.format(name, label))
        (folder / f"GT-{label:05d}.csv").write_text("\n".join(rows) + "\n")
    rows = [header]
    folder = top / "Final_Test" / "Images"
    for index in range(test):
        write(folder / f"{index:05d}.ppm", pixels(10**6 + index, 30, 31))
        rows.append(row.format(f"{index:05d}.ppm", 7 * index % classes))
    (top / "GT-final_test.csv").write_text("\r\n".join(rows) + "\r\n")
    return top
