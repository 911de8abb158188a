"""Writes the model card: what a model is, in Hugging Face's form."""

import dataclasses
import functools
import json
import pathlib
import time
from typing import NamedTuple

import jinja2

import fastbat_tf
from fastbat_tf import files
from fastbat_tf.methods.table import METHODS
from fastbat_tf.runtime import markdown
from fastbat_tf.saving.card import licenses, numbers, usage, words
from fastbat_tf.saving.destination import CARD, mark
from fastbat_tf.saving.formats import registry
from fastbat_tf.saving.model_info import ModelInfo
from fastbat_tf.saving.served import Served

OF_DATA = "The licence of the training data may apply, too."
CITATION = """\
@software{fastbat_tf,
  title = {fastbat_tf: fast adversarial training for Keras 3 on TensorFlow},
  author = {{The fastbat_tf authors}},
  version = {%s}
}"""
OF_FASTBAT = """\
@inproceedings{zhang2022fastbat,
  title = {Revisiting and Advancing Fast Adversarial Training Through the Lens
           of Bi-Level Optimization},
  author = {Zhang, Yihua and Zhang, Guanhua and Khanduri, Prashant and
            Hong, Mingyi and Chang, Shiyu and Liu, Sijia},
  booktitle = {International Conference on Machine Learning (ICML)},
  year = {2022},
  url = {https://arxiv.org/abs/2112.12376}
}"""


class _Markup(str):
    """A text that is Markdown already."""


class Reproduction(NamedTuple):
    """How a training is repeated.

    Attributes:
        words: String, a sentence.
        command: String, a command line, or None.
        versions: String, the versions of packages, or None.
    """

    words: str
    command: str | None
    versions: str | None


def write(served: Served, folder: pathlib.Path, format: str) -> None:
    """Writes `README.md` to the directory of a new model.

    Args:
        served: The `Served`.
        folder: `pathlib.Path` of the directory, which is not in use yet.
        format: A key of `fastbat_tf.saving.formats.registry.FORMATS`.
    """
    (folder / CARD).write_bytes(render(served, format).encode())


def renew(served: Served, folder: pathlib.Path, format: str) -> None:
    """Replaces the `README.md` of a model, completely or not at all.

    Args:
        served: The `Served`.
        folder: `pathlib.Path` of the directory.
        format: A key of `fastbat_tf.saving.formats.registry.FORMATS`.

    Raises:
        OSError: If it cannot be written; the old one is then left.
    """
    content = render(served, format).encode()
    with files.replacing(folder / CARD) as file:
        file.write(content)


def render(served: Served, format: str) -> str:
    """Returns the card as Markdown, below a block of YAML.

    Args:
        served: The `Served`.
        format: A key of `fastbat_tf.saving.formats.registry.FORMATS`.
    """
    info = served.info
    name = _plain(info.name) or "model"
    info = dataclasses.replace(info, name=name)
    served = served._replace(info=info)
    license = licenses.parse(info.license) if info.license else None
    split = words.split(info)
    paper = getattr(METHODS.get(info.method), "paper", None)
    software = CITATION % fastbat_tf.__version__
    return _template().render(
        mark=_Markup(
            mark(license=info.license, weights_sha256=info.weights_sha256)
        ),
        info=info,
        license=license,
        license_words=_license_words(info.license, license),
        usage=usage.USAGES[format],
        needs=usage.USAGES[format].needs,
        program=usage.program(served, format),
        tags=_tags(info, format),
        hub_dataset=words.HUB_DATASETS.get(info.dataset),
        data=_data_name(info),
        split=words.split_name(info),
        # Sites list these as the numbers of this very file.
        scores=[] if format in words.OTHER_ARITHMETIC else numbers.scores(info),
        opening=words.opening(info),
        facts=words.facts(served, registry.FORMATS[format].file),
        verdict=words.verdict(info, format),
        headings=numbers.HEADINGS,
        table=numbers.table(info),
        caveats=words.caveats(info, split, format),
        input=words.preprocessing(served, format),
        training=words.training(info),
        reproduction=_reproduction(info),
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        version=fastbat_tf.__version__,
        paper=", ".join(part for part in paper or () if part),
        citation=f"{OF_FASTBAT}\n\n{software}"
        if info.method == "fastbat"
        else software,
    )


@functools.cache
def _template():
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fastbat_tf.saving.card"),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        finalize=_escape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        yaml=_yaml,
        yaml_number=_yaml_number,
        fence=_fence,
    )
    return environment.get_template("model_card.md.jinja")


def _escape(value):
    """Writes a value so that Markdown shows it as it is."""
    if value is None:
        raise ValueError("A card says what is not known in words.")
    if isinstance(value, _Markup):
        return value
    return markdown.escape(_plain(str(value)))


def _yaml(value):
    """Writes a text as YAML, of which JSON's strings are a part."""
    return _Markup(json.dumps(_plain(str(value)), ensure_ascii=False))


def _yaml_number(value: float):
    text = repr(float(value))
    # YAML 1.1 takes 2e-05 for a string.
    return _Markup(text if "." in text else text.replace("e", ".0e"))


def _fence(text, language=""):
    lines = map(_printable, text.splitlines())
    return _Markup(markdown.fence("\n".join(lines), language))


def _plain(text):
    """Returns a text in one line, of words with one space between."""
    return " ".join(_printable(text).split())


def _printable(text):
    """Leaves out what is not to be seen, such as control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def _tags(info: ModelInfo, format):
    tags = ["adversarial-robustness", "image-classification", "fastbat_tf"]
    if info.method:
        spec = METHODS.get(info.method)
        if spec is None or spec.has_attack:
            tags.append("adversarial-training")
        tags.append(info.method)
    return dict.fromkeys([*tags, *usage.USAGES[format].tags])


def _data_name(info: ModelInfo):
    return info.dataset or numbers.UNKNOWN


def _license_words(given, license):
    if license is None:
        return f"No licence was given: ask before you use it. {OF_DATA}"
    return f"{given}, as given when it was exported. {OF_DATA}"


def _reproduction(info: ModelInfo):
    known = info.versions or {}
    versions = ", ".join(f"{name} {text}" for name, text in known.items())
    if info.command is None:
        words = "The command that trained it is not known."
    elif info.command_is_recorded:
        words = "This command trained it:"
    else:
        words = (
            "The command that trained it was not recorded. This one has the "
            "same settings:"
        )
    return Reproduction(words, info.command, versions or None)
