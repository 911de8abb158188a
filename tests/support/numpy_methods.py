"""One update of every method in NumPy, written from the papers."""

import statistics

import numpy as np

from tests.support.numpy_memory_methods import (  # noqa: F401  Methods, too.
    fgsm_cuap,
    fgsm_fuap,
    fgsm_mep_cs,
    fgsm_pco,
    fgsm_pgi,
    fgsm_rs_cs,
    fgsm_uap,
    recall,
    record,
)
from tests.support.numpy_network import (
    divergence,
    frozen,
    softmax,
    through_softmax,
)


def standard(u):
    return np.zeros_like(u.x), u.mean_ce(0)


def fgsm(u):
    gradient, _ = u.attack(np.zeros_like(u.x))
    delta = u.project(u.epsilon * np.sign(gradient))
    return delta, u.mean_ce(delta)


def fastat(u):
    start = u.clip(u.uniform("start", u.epsilon))
    gradient, _ = u.attack(start)
    delta = u.project(start + 1.25 * u.epsilon * np.sign(gradient))
    return delta, u.mean_ce(delta)


def pgd(u):
    delta = u.clip(u.uniform("start", u.epsilon))
    for _ in range(2):
        gradient, _ = u.attack(delta)
        delta = u.project(delta + u.epsilon / 2 * np.sign(gradient))
    return delta, u.mean_ce(delta)


def nfgsm(u):
    noise = u.clip(u.uniform("noise", 2 * u.epsilon))
    gradient, _ = u.attack(noise)
    delta = u.clip(noise + u.epsilon * np.sign(gradient))
    return delta, u.mean_ce(delta)


def zerograd(u):
    start = u.clip(u.uniform("start", u.epsilon))
    gradient, _ = u.attack(start)
    sizes = np.abs(gradient)
    least = np.quantile(sizes, 0.35, axis=1, keepdims=True)
    gradient = np.where(sizes >= least, gradient, 0)
    delta = u.project(start + 2 * u.epsilon * np.sign(gradient))
    return delta, u.mean_ce(delta)


def free(u):
    kept = u.state["perturbation"]
    delta = u.clip(kept)
    gradient, _ = u.attack(delta)  # The same pass as that of the loss.
    kept = kept + u.epsilon * np.sign(gradient)
    u.state["perturbation"] = np.clip(kept, -u.epsilon, u.epsilon)

    def loss(logits):
        return u.ce(logits(u.x + delta, record=False)).mean()

    return delta, loss


def trades(u, steps=3, training=False):
    clean, _, _ = u.network.forward(u.x, training, record=training)
    p = softmax(clean)
    quantile = np.vectorize(statistics.NormalDist(0, 0.001).inv_cdf)
    delta = quantile(u.draw("start", u.x.shape, 0, 1))
    for _ in range(steps):
        # d KL(p || q) / d logits = q - p.
        gradient, _ = u.attack(delta, p, training)
        delta = u.project(delta + 2 / 255 * np.sign(gradient))

    def loss(logits):
        z = logits(u.x)
        apart = divergence(softmax(z), softmax(logits(u.x + delta)))
        return u.ce(z).mean() + 6 * apart.mean()

    return delta, loss


def mart(u, steps=3, training=False):
    quantile = np.vectorize(statistics.NormalDist(0, 0.001).inv_cdf)
    delta = quantile(u.draw("start", u.x.shape, 0, 1))
    for _ in range(steps):
        gradient, _ = u.attack(delta, training=training)
        delta = u.project(delta + 2 / 255 * np.sign(gradient))
    rows = np.arange(len(u.x))

    def loss(logits):
        p, q = softmax(logits(u.x)), softmax(logits(u.x + delta))
        others = q.copy()
        others[rows, u.labels] = 0
        boosted = -np.log(1 - others.max(-1)) - (u.targets * np.log(q)).sum(-1)
        doubt = 1 - p[rows, u.labels]
        return boosted.mean() + 5 * (divergence(p, q) * doubt).mean()

    return delta, loss


def gat(u):
    z, _, _ = u.network.forward(u.x, record=True)
    clean = softmax(z)
    start = u.clip(u.signs("start", u.epsilon / 2))
    z, _, back = u.network.forward(u.x + start, training=False)
    q = softmax(z)
    guiding = 2 * 10 * through_softmax(q, q - clean)
    gradient = back(q - u.targets + u.batch % 2 * guiding)
    delta = u.project(start + u.epsilon * np.sign(gradient))

    def loss(logits):
        q = softmax(logits(u.x + delta))
        z = logits(u.x)
        apart = ((softmax(z) - q) ** 2).sum(-1)
        return u.ce(z).mean() + 10 * apart.mean()

    return delta, loss


def nuat(u):
    weight = 4.5 * u.epoch / u.epochs / len(u.x)
    clean, _, _ = u.network.forward(u.x, record=True)
    start = u.clip(u.signs("start", u.epsilon / 2))
    z, _, back = u.network.forward(u.x + start, training=False)
    left, _, right = np.linalg.svd(z - clean, full_matrices=False)
    gradient = back(
        (softmax(z) - u.targets) / len(u.x)
        + u.batch % 2 * weight * left @ right
    )
    delta = u.project(start + u.epsilon * np.sign(gradient))

    def loss(logits):
        z = logits(u.x + delta)
        clean = logits(u.x)
        values = np.linalg.svd(clean - z, compute_uv=False)
        return u.ce(clean).mean() + weight * values.sum()

    return delta, loss


def elle(u):
    start = u.clip(u.uniform("start", u.epsilon))
    gradient, _ = u.attack(start)
    delta = u.clip(start + 1.25 * u.epsilon * np.sign(gradient))
    first = u.x + u.uniform("first", u.epsilon)
    second = u.x + u.uniform("second", u.epsilon)
    share = u.draw("share", (len(u.x),), 0, 1)
    between = first + share[:, np.newaxis] * (second - first)

    def loss(logits):
        plain = u.ce(logits(u.x + delta)).mean()
        z = logits(np.concatenate([first, second, between]))
        a, b, c = (u.ce(part) for part in np.split(z, 3))
        return plain + ((c - (1 - share) * a - share * b) ** 2).mean()

    return delta, loss


def aaer(u):
    start = u.clip(u.uniform("start", 2 * u.epsilon))
    gradient, z_start = u.attack(start)
    delta = u.clip(start + u.epsilon * np.sign(gradient))
    before = u.ce(z_start)

    @frozen
    def constants(logits):
        z = logits(u.x + delta, record=False)
        fall = before - u.ce(z)
        abnormal = fall > 0
        count = abnormal.sum()
        if not 0 < count < len(u.x):
            return abnormal, 0.0, 0.0
        apart = ((z_start - z) ** 2).sum(-1)
        return abnormal, fall[abnormal].mean(), apart[~abnormal].mean()

    def loss(logits):
        abnormal, fall, normal = constants(logits)
        z = logits(u.x + delta)
        plain = u.ce(z).mean()
        if not 0 < abnormal.sum() < len(u.x):
            return plain
        apart = ((z_start - z) ** 2).sum(-1)[abnormal].mean() - normal
        term = 1.5 * fall + 0.15 * max(apart, 0)
        return plain + abnormal.mean() * term

    return delta, loss


def ssat(u):
    start = u.clip(u.uniform("start", u.epsilon))
    gradient, z = u.attack(start)
    delta = u.project(start + 1.25 * u.epsilon * np.sign(gradient))
    share = np.ones(len(u.x))
    for part in (2, 1):
        at_part, _, _ = u.network.forward(
            u.x + part / 3 * delta, training=False
        )
        share[at_part.argmax(-1) != u.labels] = part / 3
    share[z.argmax(-1) != u.labels] = 0
    delta = share[:, np.newaxis] * delta
    return delta, u.mean_ce(delta)


def gradalign(u):
    gradient, _ = u.attack(np.zeros_like(u.x))
    delta = u.project(1.25 * u.epsilon * np.sign(gradient))
    noise = u.uniform("alignment", u.epsilon)

    def cosine(a, b):
        return a @ b / np.sqrt(a @ a * (b @ b))

    def loss(logits):
        plain = u.ce(logits(u.x + delta)).mean()
        z = logits(u.x + noise)
        other = logits.back(softmax(z) - u.targets)
        mean = np.mean([cosine(*p) for p in zip(gradient, other, strict=True)])
        return plain + 0.2 * (1 - mean)

    return delta, loss


def fastbat(u, step_size=0.2, remembered=False):
    if remembered:
        point = u.project(
            recall(u, "delta", u.clip(u.uniform("start", u.epsilon)))
        )
    else:
        start = u.clip(u.uniform("start", u.epsilon))
        gradient, _ = u.attack(start)
        point = u.project(start + step_size * gradient)
    gradient, _ = u.attack(point)
    delta = u.project(point + step_size * gradient)
    if remembered:
        record(u, delta=delta)
    lower = np.maximum(-u.x, -u.epsilon)
    upper = np.minimum(1 - u.x, u.epsilon)
    interior = (lower + 1e-7 < delta) & (delta < upper - 1e-7)
    z, _, back = u.network.forward(u.x + delta)
    at_delta = back(softmax(z) - u.targets) / len(u.x)
    vector = interior * at_delta / 10  # lambda
    u.interior = interior.mean()

    def implicit(logits):
        z = logits(u.x + point, record=False)
        return (logits.back(softmax(z) - u.targets) * vector).sum()

    return delta, u.mean_ce(delta), implicit


def liet(u):
    def smoothed(name, onehot):
        shares = u.draw(name, onehot.shape, 0, 1) * (1 - onehot)
        return 0.4 * onehot + 0.6 * shares / shares.sum(-1, keepdims=True)

    if u.batch % 20 == 0:
        gray = np.full((u.classes, u.x.shape[1]), 0.5)
        z, _, back = u.network.forward(gray, training=False)
        targets = smoothed("gray_smoothing", np.eye(u.classes))
        gradient = back(softmax(z) - targets)
        u.state["indicative"] = u.epsilon * np.sign(gradient)
    masked = u.draw("mask", u.x.shape, 0, 1) < u.draw(
        "mask_ratio", (), 0.1, 0.5
    )
    noise = u.state["indicative"][u.labels]
    noise = np.where(masked, u.uniform("noise", u.epsilon), noise)
    if u.draw("sign", (), 0, 1) < 0.5:
        noise = -noise
    start = u.clip(noise)
    gradient, _ = u.attack(start, smoothed("attack_smoothing", u.targets))
    delta = u.project(start + u.epsilon * np.sign(gradient))
    soft = smoothed("smoothing", u.targets)
    weight = 100 * (u.epoch + 1) / u.epochs

    def loss(logits):
        z = logits(u.x + delta)
        p, q = softmax(logits(u.x + start, record=False)), softmax(z)
        mean = (p + q) / 2
        apart = (divergence(p, mean) + divergence(q, mean)) / 2
        return u.ce(z, soft).mean() + weight * apart.mean()

    return delta, loss
