"""Measures clean and robust accuracy."""

import functools
import os
import warnings as python_warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

import fastbat_tf
from fastbat_tf.attacks import get as get_attack
from fastbat_tf.attacks.classifier import Classifier
from fastbat_tf.attacks.sharding import Sharding, strategy_of
from fastbat_tf.attacks.targets import check_targets
from fastbat_tf.data.classes import check_count
from fastbat_tf.evaluation import checks, inputs, outputs, remarks
from fastbat_tf.evaluation import distances as nearest
from fastbat_tf.evaluation.request import check_request
from fastbat_tf.evaluation.results import summarize
from fastbat_tf.evaluation.runner import run_attack
from fastbat_tf.evaluation.state import EvaluationState
from fastbat_tf.evaluation.surrogates import Surrogates
from fastbat_tf.runtime import display, formatting


def evaluate_robustness(
    model: Any,
    dataset: Any,
    attacks: str | Sequence[str] = ("pgd-50-10",),
    epsilons: float | Sequence[float] | np.ndarray | None = None,
    *,
    norm: str | float = "linf",
    max_examples: int | None = None,
    surrogate: Any = None,
    batch_size: int = 250,
    seed: int = 0,
    jit_compile: bool | str = "auto",
    directory: str | os.PathLike | None = None,
    save_images: bool = False,
    verbose: bool = False,
    pixel_range: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    loss_surface: bool = False,
    distances: int = 0,
    allow_code: bool = False,
) -> dict[str, Any]:
    """Measures clean accuracy, and robust accuracy under attacks.

    Each attack runs on its own at each radius, on every example that the model
    classifies correctly. An example is robust if the attack finds no
    misclassified image within the radius.

    The devices of a `tf.distribute.MirroredStrategy`, and the workers of a
    `MultiWorkerMirroredStrategy`, share the examples. The strategy is that in
    whose scope the model was created; for a path or a function, the current
    one. All workers call this function with the same arguments, and get the
    same results; only the chief reads and writes the directory.

    Args:
        model: A `keras.Model`, any callable from float32 images `(batch,
            height, width, channels)` in `pixel_range` to logits `(batch,
            classes)`, or the path of a `.keras`, `.onnx` or `.tflite` file or
            of a SavedModel.
        dataset: What `fit` takes: a pair `(images, labels)` of arrays or
            tensors, or a finite `tf.data.Dataset`, `keras.utils.PyDataset` or
            generator of such batches. It is read into memory. Sample weights
            may follow the labels; they are ignored. A dict with `image` and
            `label`, as TensorFlow Datasets makes it, stands for the pair.

            Images are in `pixel_range`. If that range is no wider than 2, as
            [0, 1] is, they may also be uint8 gray levels, which are divided by
            255. Labels are integers, or a probability for each class, such as
            one-hot labels: the likeliest class is the true one.
        attacks: Name of an attack, or list of names that
            `fastbat_tf.attacks.parse` takes, such as `"autoattack"`,
            `"pgd-50-10"` or `"apgd-ce+square"`. Defaults to `("pgd-50-10",)`.
        epsilons: Radius above 0, or list of radii. For L-infinity they are
            fractions of the pixel range. Defaults to None, which is 8/255 for
            L-infinity and 128/255 for L2.
        norm: `"linf"` or `"l2"`, also as `"Linf"`, `"L2"`, `numpy.inf` or 2.
            Defaults to `"linf"`.
        max_examples: Integer, the size of a class-balanced subset, which is
            drawn with `seed`. Defaults to None, which takes all examples; so
            does 0.
        surrogate: The model on which the attack `transfer` makes its
            perturbations, in any form that `model` can have. A
            `RobustClassifier` takes pixels in its own range, any other
            surrogate in the range of the model. Of a list of models, the mean
            of the logits is attacked. Defaults to None.
        batch_size: Integer, images per call of the model. Defaults to 250.
        seed: Integer of at least 0. Defaults to 0.
        jit_compile: Whether XLA compiles the attacks. Defaults to `"auto"`,
            which compiles on GPUs.
        directory: Directory for the state of the evaluation, `results.json`,
            `outcomes.npz` and `gallery.npz`, which docs/evaluation.md
            describes. If an evaluation was interrupted, the same call
            resumes it and gives the results of an uninterrupted one. Defaults
            to None, which writes nothing.
        save_images: Whether to write the adversarial images to `directory`,
            one file `adversarial_*.npz` per attack and radius, in
            `pixel_range`. Defaults to False.
        verbose: Whether to print where the results go, what was done to the
            input, each warning, the progress of long attacks, and what each
            attack left; a terminal shows progress bars. If False, warnings are
            issued with `warnings.warn`. Defaults to False.
        pixel_range: Pair of floats, the range of the pixels that the model
            takes, such as `(0, 255)`. Images are mapped to [0, 1], and radii
            apply to the mapped images in both norms. Defaults to None, the
            range of a `RobustClassifier`, and `(0, 1)` for any other model.
        class_names: Sequence of strings, the names of the classes by label,
            which `results.json` repeats. Defaults to None.
        loss_surface: Whether to write `surface.npz` to `directory`: the loss
            around one image, in 441 more images. Defaults to False.
        distances: Integer, the steps toward each target class of a search for
            the nearest adversarial image of each image, by `fab-t` without a
            radius; 100 is usual. `directory` gets `distances.npz`. Defaults to
            0, no search.
        allow_code: Whether the files of `model` and `surrogate` may bring
            Python code, or operations that reach files. Defaults to False.

    Returns:
        A dict, the content of `results.json`. Accuracies are fractions.

        * `examples`, `subset`, `norm`, `seed`: what was measured;
        * `clean_accuracy`, and its 95 % Wilson interval
          `clean_confidence_interval`;
        * `attacks`: for each attack and radius a dict with `attack`, `norm`,
          `epsilon`, `robust_accuracy`, `confidence_interval`, `examples`,
          `attacked`, `seconds`, `seed`, `per_class` (lists by label:
          `examples`, `clean_accuracy`, `robust_accuracy`) and `worst_class`
          (`label`, `name` if names are given, `robust_accuracy` and more of
          the class with the lowest); ensembles also have `stages`, a list of
          such dicts without classes; attacks toward a class have `target`,
          `target_examples`, `target_success_rate` and
          `target_confidence_interval`;
        * `worst_case`: with several attacks, such a dict for each radius that
          counts an example as robust if no attack breaks it;
        * `distances`, with that argument: a list of one dict with `attack`,
          `norm`, `examples`, `attacked` (those classified correctly), `found`
          (those with an adversarial image), their `median` distance and
          `quartiles`, `histogram` (`edges`, `counts`, and at each edge the
          `robust_accuracy`), and `radii`, the robust accuracy at `epsilons`;
        * `warnings`: signs that the robustness is overestimated;
        * `notes`: what was done to the input;
        * `class_names`, and `model`, the path of the model, if given.

    Raises:
        InputError: A `ValueError`, if an argument is invalid.

    Example:

    ```python
    results = fb.evaluate_robustness(
        model, (images, labels), attacks=["pgd-50-10", "autoattack"]
    )
    results["attacks"][1]["robust_accuracy"]
    ```
    """
    request = check_request(
        attacks,
        epsilons,
        norm=norm,
        max_examples=max_examples,
        surrogate=surrogate,
        batch_size=batch_size,
        seed=seed,
        jit_compile=jit_compile,
        directory=directory,
        save_images=save_images,
        class_names=class_names,
        loss_surface=loss_surface,
        distances=distances,
    )
    sharding = Sharding(strategy_of(model))
    is_chief = sharding.workers.is_chief
    # The display of main.py, if it calls this function.
    shown = display.get(1 if verbose and is_chief else -1)
    as_network = functools.partial(inputs.as_network, allow_code=allow_code)
    network, pixels = as_network(model, pixel_range)
    sample = sharding.together(
        lambda: inputs.to_unit(
            inputs.take(dataset, request.max_examples, request.seed), pixels
        )
    )
    clean, network = _classify(network, sample, request, sharding, shown)
    check_targets(request.attacks, clean.logits.shape[-1])
    about = outputs.describe(model, request.class_names, clean.logits.shape[-1])
    signs = checks.check_network(
        network, clean, request.batch_size, pixels, sharding=sharding
    )
    others = Surrogates(surrogate, as_network, pixels)
    settings = {**_settings(request, clean, model, pixels), **others.settings}
    writes = directory is not None
    sharding.workers.agree("evaluation", {**settings, "directory": writes})
    with EvaluationState(
        directory, settings, save_images, sharding=sharding
    ) as state:
        clean = clean._replace(
            logits=state.clean_logits(clean.logits, "random" not in signs)
        )
        found = [*signs.values()]
        found += others.check(clean, request.batch_size, sharding)
        built = _build_attacks(request, network, others.networks, sharding)
        search = (
            nearest.build(request, network, sharding) if distances else None
        )
        notes = remarks.notes_on(sample, pixels, built, clean.logits.shape[-1])
        if request.loss_surface and not clean.correct.any():
            notes.append(outputs.NO_SURFACE)
        remarks.announce(directory, notes, shown)
        warnings = remarks.Warnings(found, shown)
        outcomes = _run_attacks(
            built,
            clean,
            request,
            state=state,
            warnings=warnings,
            shown=shown,
            save=functools.partial(
                outputs.save_images,
                state,
                clean=clean,
                sample=sample,
                pixels=pixels,
            ),
        )
        results = summarize(
            request,
            clean,
            outcomes,
            subset=sample.description,
            warnings=warnings.texts,
            notes=notes,
            class_names=about.get("class_names"),
        )
        results |= about
        if search is not None:
            found = nearest.measure(
                search, clean, request, state=state, shown=shown
            )
            results["distances"] = [nearest.summarize(found, clean, request)]
            if directory is not None:
                nearest.write(state, found, clean, sample=sample, pixels=pixels)
        if not verbose and is_chief:
            for text in warnings.texts:
                python_warnings.warn(text, stacklevel=2)
        if directory is not None:
            outputs.write_outcomes(state, outcomes, clean, sample.index)
            outputs.write_pictures(
                state,
                network,
                outcomes,
                clean=clean,
                index=sample.index,
                request=request,
            )
            state.write_results(results)
    return results


def _classify(network, sample, request, sharding, shown):
    with shown.task("clean accuracy"):
        classify = Classifier(network, request.batch_size, sharding)
        clean = classify(sample.images, sample.labels)
    check_count(sample.classes, clean.logits.shape[-1])
    # The function that was given, or what makes one of NumPy a network.
    return clean, classify.network


def _settings(request, clean, model, pixels):
    """Returns everything that the outcome depends on."""
    settings = {
        "version": fastbat_tf.__version__,
        "attacks": request.attacks,
        "epsilons": request.epsilons,
        "norm": request.norm,
        "max_examples": request.max_examples,
        "seed": request.seed,
        "save_images": request.save_images,
        "data": inputs.fingerprint([clean.images, clean.labels]),
        "model": inputs.fingerprint_of_model(model),
    }
    if not pixels.is_unit:
        settings["pixel_range"] = list(pixels)
    return settings


def _build_attacks(request, network, surrogates, sharding):
    return {
        name: get_attack(
            name,
            network,
            surrogate=surrogates or None,
            norm=request.norm,
            batch_size=request.batch_size,
            jit_compile=request.jit_compile,
        ).over(sharding)
        for name in request.attacks
    }


def _run_attacks(built, clean, request, *, state, warnings, shown, save):
    """Runs each attack at each radius.

    Args:
        built: Dict from names to `Attack`s.
        clean: A `Clean`.
        request: The `Request`.
        state: The `EvaluationState`.
        warnings: The `Warnings`, to which those about the attacks are added.
        shown: The `Display`.
        save: Function of an `AttackOutcome` and a radius that writes the
            adversarial images.

    Returns:
        Dict from each radius to the list of its `AttackOutcome`s.
    """
    outcomes = {}
    for epsilon in request.epsilons:
        outcomes[epsilon] = []
        for name, attack in built.items():
            outcome = run_attack(
                name,
                attack,
                clean,
                epsilon,
                seed=request.seed,
                state=state,
                shown=shown,
            )
            if request.save_images:
                save(outcome, epsilon)
            outcomes[epsilon].append(outcome._replace(perturbation=None))
        radius = formatting.radius(epsilon, request.norm)
        for text in checks.check_outcomes(outcomes[epsilon]):
            warnings.add(f"At epsilon {radius}: {text}")
    for text in checks.check_radii(_by_attack(outcomes), request.norm):
        warnings.add(text)
    return outcomes


def _by_attack(outcomes):
    """Returns a dict from attacks to dicts from radii to bool arrays."""
    by_attack = {}
    for epsilon, at_epsilon in outcomes.items():
        for outcome in at_epsilon:
            by_attack.setdefault(outcome.name, {})[epsilon] = outcome.resists
    return by_attack
