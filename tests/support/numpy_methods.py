"""One update of every method in NumPy, written from the papers.

A layer of softplus, BatchNormalization, and a layer of logits; images are rows
of pixels. The gradients to the images are written out, those to the
weights are central differences of the loss in float64: nothing here is derived
by TensorFlow.
"""

import statistics

import numpy as np

RATE = 0.05  # Of plain SGD.
MOMENTUM, STABILITY = 0.9, 1e-5  # Of BatchNormalization.
DIFFERENCE = 1e-5


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def divergence(p, q):
    """KL(p || q), per example."""
    return (p * (np.log(p) - np.log(q))).sum(-1)


def through_softmax(q, gradient):
    """A gradient to probabilities q, as one to their logits."""
    return q * (gradient - (q * gradient).sum(-1, keepdims=True))


class Network:
    """Weights, moving statistics, and both directions.

    Attributes:
        weights: List: kernel, scale, offset, kernel, bias.
        mean: Moving mean, `(width,)`.
        variance: Moving variance, `(width,)`.
    """

    def __init__(self, weights, mean, variance):
        self.weights, self.mean, self.variance = weights, mean, variance

    def forward(self, x, training=True, record=False, weights=None):
        """Logits, features, and a function from their gradient to that of x."""
        kernel, scale, offset, last, bias = weights or self.weights
        hidden = x @ kernel
        bent = np.logaddexp(0, hidden)
        mean, variance = self.mean, self.variance
        if training:
            mean, variance = bent.mean(0), bent.var(0)
        if training and record:
            unbiased = bent.var(0, ddof=1)
            self.mean = MOMENTUM * self.mean + (1 - MOMENTUM) * mean
            self.variance = MOMENTUM * self.variance + (1 - MOMENTUM) * unbiased
        deviation = np.sqrt(variance + STABILITY)
        normal = (bent - mean) / deviation
        features = scale * normal + offset

        def back(dz):
            d = scale * (dz @ last.T)
            if training:
                d = d - d.mean(0) - normal * (d * normal).mean(0)
            return d / deviation / (1 + np.exp(-hidden)) @ kernel.T

        return features @ last + bias, features, back


class Update:
    """What a method sees of one update.

    Attributes:
        network: The `Network`.
        x: `(batch, pixels)`.
        labels: Integers `(batch,)`.
        index: Integers `(batch,)`, the indices in the data set.
        epoch, batch, epochs: Integers, the progress of the training.
        state: Dict of arrays; a method writes here what it remembers.
        epsilon: Float.
        draw: Function that draws random numbers by name.
    """

    def __init__(
        self, network, x, labels, *, index, progress, state, epsilon, draw
    ):
        self.network, self.x, self.labels = network, x, labels
        self.index, self.state, self.epsilon = index, state, epsilon
        self.epoch, self.batch, self.epochs = progress
        self.draw = draw
        self.classes = len(network.weights[-1])
        self.targets = np.eye(self.classes)[labels]

    # The ball and the pixels.
    def clip(self, delta):
        return np.clip(self.x + delta, 0, 1) - self.x

    def project(self, delta):
        return self.clip(np.clip(delta, -self.epsilon, self.epsilon))

    def uniform(self, name, radius):
        return self.draw(name, self.x.shape, -radius, radius)

    def signs(self, name, radius):
        return np.where(self.uniform(name, radius) < 0, -radius, radius)

    # The network.
    def relaxed(self, factor=0.6):
        others = (1 - factor) / (self.classes - 1)
        return factor * self.targets + others * (1 - self.targets)

    def attack(self, delta, targets=None, training=True):
        """The gradient of the summed cross-entropy, and the logits."""
        z, _, back = self.network.forward(
            self.x + delta, training, record=training
        )
        targets = self.targets if targets is None else targets
        return back(softmax(z) - targets), z

    def ce(self, z, targets=None):
        targets = self.targets if targets is None else targets
        return -(targets * np.log(softmax(z))).sum(-1)

    def mean_ce(self, delta, targets=None):
        return lambda logits: self.ce(logits(self.x + delta), targets).mean()


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


def frozen(function):
    """Constant from its first call on: that of the weights of now."""
    found = []

    def first(*args):
        if not found:
            found.append(function(*args))
        return found[0]

    return first


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


class Logits:
    """Logits of the network with given weights, for a loss."""

    def __init__(self, network, weights=None):
        self.network, self.weights = network, weights
        self.back = None  # Of the last forward pass.

    def __call__(self, x, record=True):
        record = record and self.weights is None
        z, _, self.back = self.network.forward(
            x, record=record, weights=self.weights
        )
        return z


def differences(network, scalar):
    """Central differences of a function of the logits, by the weights."""
    gradients = []
    for number, array in enumerate(network.weights):
        gradient = np.zeros_like(array)
        for entry in np.ndindex(array.shape):
            found = []
            for move in (DIFFERENCE, -DIFFERENCE):
                weights = [each.copy() for each in network.weights]
                weights[number][entry] += move
                found.append(scalar(Logits(network, weights)))
            gradient[entry] = (found[0] - found[1]) / (2 * DIFFERENCE)
        gradients.append(gradient)
    return gradients


def update(u, method, **options):
    """Makes one update.

    Returns:
        The loss, the perturbation and the gradients.
    """
    delta, *scalars = method(u, **options)
    loss = scalars[0](Logits(u.network))
    parts = [differences(u.network, scalar) for scalar in scalars]
    gradients = [sum(part) for part in zip(*parts, strict=True)]
    u.network.weights = [
        old - RATE * gradient
        for old, gradient in zip(u.network.weights, gradients, strict=True)
    ]
    return loss, delta, gradients
