"""The methods that remember something from step to step, in NumPy."""

import numpy as np

from tests.support.numpy_network import frozen, softmax


def recall(u, name, fresh):
    seen = u.state["seen"][u.index, np.newaxis]
    return np.where(seen, u.state[name][u.index], fresh)


def record(u, **rows):
    for name, row in rows.items():
        u.state[name][u.index] = row
    u.state["seen"][u.index] = True


def remember_prior(u, start, gradient):
    momentum = gradient / np.abs(gradient).sum()
    momentum = momentum + 0.3 * recall(u, "momentum", 0)
    delta = u.project(start + u.epsilon * np.sign(momentum))
    record(u, delta=delta, momentum=momentum)


def fgsm_pgi(u):
    start = recall(u, "delta", u.signs("start", u.epsilon))
    soft = u.relaxed()
    at_start = u.clip(start)
    gradient, _ = u.attack(at_start, soft)
    delta = u.project(start + u.epsilon * np.sign(gradient))
    remember_prior(u, start, gradient)

    def loss(logits):
        z = logits(u.x + delta)
        before = logits(u.x + at_start, record=False)
        return u.ce(z, soft).mean() + 10 * ((z - before) ** 2).mean()

    return delta, loss


def converging(u, delta, benign):
    """The loss whose benign part may not jump by more than 0.03."""
    soft = u.relaxed()
    if u.batch == 0:
        u.state["previous"] = u.state["sum"] / u.state["count"]
        u.state["sum"] = u.state["count"] = 0

    @frozen
    def sign(found):
        u.state["sum"] += found * len(u.x)
        u.state["count"] += len(u.x)
        jump = found - u.state["previous"]
        active = 1 < u.epoch < u.epochs - 1 and abs(jump) > 0.03
        return np.sign(jump) * active

    def loss(logits):
        perturbed = u.ce(logits(u.x + delta), soft).mean()
        found = u.ce(logits(u.x + benign), soft).mean()
        return perturbed + sign(found) * found

    return loss


def fgsm_rs_cs(u):
    start = u.clip(u.uniform("start", u.epsilon))
    gradient, _ = u.attack(start)
    delta = u.clip(start + u.epsilon * np.sign(gradient))
    return delta, converging(u, delta, start)


def fgsm_mep_cs(u):
    start = recall(u, "delta", u.signs("start", u.epsilon))
    gradient, _ = u.attack(start, u.relaxed())
    delta = u.project(start + u.epsilon * np.sign(gradient))
    remember_prior(u, start, gradient)
    return delta, converging(u, delta, 0)


def fgsm_pco(u):
    start = recall(u, "delta", u.signs("start", u.epsilon))
    soft = u.relaxed()
    gradient, z = u.attack(start, soft)
    moved = u.project(start + u.epsilon * np.sign(gradient))
    record(u, delta=moved)

    def mixed(z):
        doubt = 1 - softmax(z)[np.arange(len(z)), u.labels]
        doubt = doubt[:, np.newaxis]
        return doubt * start + (1 - doubt) * 1.5 * moved

    def loss(logits):
        at_start = logits(u.x + start, record=False)
        at_mixed = logits(u.x + mixed(at_start))
        at_moved = logits(u.x + moved)
        gap = ((at_moved - at_start) ** 2).mean()
        gap -= ((at_moved - at_mixed) ** 2).mean()
        return u.ce(at_mixed, soft).mean() + 10 * abs(gap)

    return mixed(z), loss


def universal(u, begin, chosen):
    """What the three FGSM-UAP do once each image has its perturbation."""
    uap, momentum = u.state["uap"], u.state["momentum"]
    radius = 1.25 * u.epsilon
    start = u.project(begin + uap[chosen])
    gradient, _ = u.attack(start)
    delta = u.project(start + u.epsilon * np.sign(gradient))
    for number in np.unique(chosen):
        mean = gradient[chosen == number].mean(0) / np.abs(gradient).sum()
        momentum[number] = mean + 0.3 * momentum[number]
        moved = uap[number] + radius * np.sign(momentum[number])
        uap[number] = np.clip(moved, -radius, radius)

    def loss(logits):
        z = logits(u.x + delta)
        before = logits(u.x + start, record=False)
        return u.ce(z).mean() + 10 * ((z - before) ** 2).mean()

    return delta, loss


def fgsm_uap(u):
    return universal(u, 0, np.zeros(len(u.x), int))


def fgsm_cuap(u):
    return universal(u, 0, u.labels)


def fgsm_fuap(u):
    begin = u.clip(u.uniform("noise", u.epsilon))
    _, features, _ = u.network.forward(u.x + begin, record=True)
    kernel1, bias1, kernel2, bias2 = head = [
        u.state[name] for name in ("kernel1", "bias1", "kernel2", "bias2")
    ]
    hidden = features @ kernel1 + bias1
    kept = np.maximum(hidden, 0)
    to_outputs = softmax(kept @ kernel2 + bias2) - u.targets
    to_outputs /= len(u.x)
    to_hidden = to_outputs @ kernel2.T * (hidden > 0)
    gradients = (
        features.T @ to_hidden,
        to_hidden.sum(0),
        kept.T @ to_outputs,
        to_outputs.sum(0),
    )
    # Adam (Kingma & Ba 2015, algorithm 1).
    u.state["head_steps"] = steps = u.state["head_steps"] + 1
    for name, old, gradient in zip(
        ("kernel1", "bias1", "kernel2", "bias2"), head, gradients, strict=True
    ):
        m = u.state[f"{name}_mean"] = (
            0.9 * u.state[f"{name}_mean"] + 0.1 * gradient
        )
        v = u.state[f"{name}_square"] = (
            0.999 * u.state[f"{name}_square"] + 0.001 * gradient**2
        )
        m, v = m / (1 - 0.9**steps), v / (1 - 0.999**steps)
        u.state[name] = old - 1e-3 * m / (np.sqrt(v) + 1e-8)
    return universal(u, begin, hidden.argmax(-1))
