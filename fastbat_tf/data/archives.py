"""Lists the images of data sets that are unpacked from their archives.

A data set needs a function for each split, in `LISTS`.
"""

import csv
import pathlib

from fastbat_tf import data
from fastbat_tf.errors import InputError


def list_images(name, split, data_dir):
    """Lists the images of a split in a published archive.

    Args:
        name: A key of `LISTS`.
        split: `"train"` or `"test"`.
        data_dir: The directory that holds the unpacked archive.

    Returns:
        Three lists of the same length: paths, labels, and the groups of images
        that must stay in one split (the photographed signs of GTSRB); None
        instead of the groups if there are none.

    Raises:
        InputError: If images or tables are missing or wrong.
    """
    spec = data.get(name)
    directory = pathlib.Path(data_dir, spec.directory)
    if not directory.is_dir():
        raise InputError(
            f"The data set {name} is expected in DIR/{spec.directory} with "
            "--data_dir=DIR, as docs/data.md says. "
            f"Received: data_dir={data_dir}"
        )
    images = LISTS[name][split](directory, spec)
    expected = spec.counts[("train", "test").index(split)]
    if len(images[0]) != expected:
        raise _incomplete(
            name, f"{expected} images of the {split} split", len(images[0])
        )
    for label in images[1]:
        if not 0 <= label < spec.num_classes:
            raise InputError(
                f"The labels of {name} are expected in [0, {spec.num_classes})."
                f" Received: label={label}"
            )
    return images


def _tiny_imagenet_classes(directory, spec):
    train = directory / "train"
    names = sorted(p.name for p in train.glob("*") if p.is_dir())
    if len(names) != spec.num_classes:
        raise _incomplete(
            "tiny_imagenet",
            f"{spec.num_classes} directories of classes in {train}",
            len(names),
        )
    return names


def _tiny_imagenet_train(directory, spec):
    paths, labels = [], []
    for label, name in enumerate(_tiny_imagenet_classes(directory, spec)):
        files = sorted((directory / "train" / name / "images").glob("*.JPEG"))
        paths += files
        labels += [label] * len(files)
    return paths, labels, None


def _tiny_imagenet_test(directory, spec):
    label_of = {
        name: label
        for label, name in enumerate(_tiny_imagenet_classes(directory, spec))
    }
    file = directory / "val" / "val_annotations.txt"
    paths, labels = [], []
    for row in _read_table("tiny_imagenet", file, "\t"):
        if len(row) < 2 or row[1] not in label_of:
            raise InputError(
                f"Each line of {file} is expected to name an image and a "
                f"class of DIR/tiny-imagenet-200/train. Received: line={row}"
            )
        path = file.parent / "images" / row[0]
        if path.is_file():
            paths.append(path)
            labels.append(label_of[row[1]])
    return paths, labels, None


def _gtsrb_train(directory, spec):
    paths, labels, tracks = [], [], []
    for label in range(spec.num_classes):
        folder = directory / "Final_Training" / "Images" / f"{label:05d}"
        table = folder / f"GT-{label:05d}.csv"
        for path, class_id in _read_gtsrb(table, folder):
            paths.append(path)
            labels.append(class_id)
            # 00003_00007.ppm is the eighth photograph of the fourth sign.
            tracks.append((label, path.name.partition("_")[0]))
    return paths, labels, tracks


def _gtsrb_test(directory, spec):
    del spec
    folder = directory / "Final_Test" / "Images"
    # The table is published in a separate archive, without directories.
    table = directory / "GT-final_test.csv"
    if not table.is_file():
        table = folder / "GT-final_test.csv"
    images = _read_gtsrb(table, folder)
    return [path for path, _ in images], [label for _, label in images], None


def _read_gtsrb(table, folder):
    rows = _read_table("gtsrb", table, ";")
    try:
        name, label = (rows[0].index(c) for c in ("Filename", "ClassId"))
        images = [(folder / row[name], int(row[label])) for row in rows[1:]]
    except (IndexError, ValueError) as error:
        raise InputError(
            "A table of gtsrb is expected to have the columns Filename and "
            f"ClassId, separated by semicolons. Received: file={table}"
        ) from error
    return [(path, label) for path, label in images if path.is_file()]


def _read_table(name, file, delimiter):
    try:
        with file.open(newline="") as stream:
            return [row for row in csv.reader(stream, delimiter=delimiter)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"The data set {name} is incomplete; expected {file} as published."
            f" Received: file={file}"
        ) from error


def _incomplete(name, expected, found):
    return InputError(
        f"The data set {name} is incomplete; expected {expected}. "
        f"Received: found={found}"
    )


LISTS = {
    "tiny_imagenet": {
        "train": _tiny_imagenet_train,
        "test": _tiny_imagenet_test,
    },
    "gtsrb": {"train": _gtsrb_train, "test": _gtsrb_test},
}
