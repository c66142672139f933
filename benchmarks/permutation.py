"""Are the runs of two sides alike? A test for few of them, and much measured."""

import itertools
import math

import numpy as np

MOST = 20_000  # ways to relabel the runs; of more, so many are drawn


def relabelings(m, n):
    """The ways to call m of m + n runs the original's, the true one first: bool.

    Every one, or `MOST` if there are more: the true one and others drawn with a fixed
    seed. A p from these is valid too, since the true one is among them.
    """
    if math.comb(m + n, m) > MOST:
        rng = np.random.default_rng(0)
        labels = np.tile(np.arange(m + n) < m, (MOST, 1))
        labels[1:] = rng.permuted(labels[1:], axis=1)
        return labels
    chosen = list(itertools.combinations(range(m + n), m))
    labels = np.zeros([len(chosen), m + n], bool)
    np.put_along_axis(labels, np.array(chosen), True, axis=1)
    return labels


def apart(values, labels):
    """How far apart the two groups' means are, in deviations of all runs: [c, k].

    Grows with |t|, and does not need a deviation within the groups.

    Args:
      values: [runs, k].
      labels: bool [c, runs].
    """
    m = labels.sum(axis=1, keepdims=True)
    means = [g @ values / n for g, n in ((labels, m), (~labels, labels.shape[1] - m))]
    sd = values.std(axis=0, ddof=1)
    equal = np.ptp(values, axis=0) == 0
    return np.abs(means[0] - means[1]) / np.where(equal, np.inf, sd)


def test(pairs):
    """Two-sided permutation test: are the runs of two sides alike, over data sets?

    If they are, each way to call some of a data set's runs the original's is as likely
    as the true one. p is the share of those ways that set the means as far apart as
    they are, or farther; `adjusted` that of the ways, in all data sets at once, in
    which any measure of any is so far apart: the chance that one so small shows up
    anywhere (Westfall and Young's single step).

    Args:
      pairs: (original [m, k], here [n, k]) of each data set, a row for each run.

    Returns:
      (p, adjusted) of each data set, [k] each.
    """
    observed, p, largest = [], [], []
    for original, here in pairs:
        labels = relabelings(len(original), len(here))
        by_label = apart(np.concatenate([original, here]).astype(np.float64), labels)
        observed.append(by_label[0] - 1e-9)  # the mirrored labelling has roundings
        p.append((by_label >= observed[-1]).mean(axis=0))
        largest.append(by_label.max(axis=1, initial=0.0))

    def anywhere(t):
        return 1.0 - np.prod([(biggest < t).mean() for biggest in largest])

    adjusted = [np.array([*map(anywhere, t)]) for t in observed]
    return list(zip(p, adjusted, strict=True))


def smallest_p(m, n):
    """What no p can be below: the true labelling alone, and its mirror if m = n."""
    labels = relabelings(m, n)
    return (1 + (m == n and len(labels) < MOST)) / len(labels)


def shift(original, here, level):
    """Interval that holds what is added here, if a shift is, at confidence 1 - level.

    Of shifts that, taken off again, leave a p above the level: from the least of them
    to the largest. Infinite where no p is below the level.
    """
    both = np.concatenate([original, here]).astype(np.float64)
    labels = relabelings(len(original), len(here))
    weights = labels / labels.sum(axis=1, keepdims=True)
    weights -= ~labels / (~labels).sum(axis=1, keepdims=True)
    # Means of the groups are d + shift * added apart, d[0] and 1 as they are.
    d, added = -weights @ both, -weights[:, len(original) :].sum(axis=1)

    def largest(d):
        """Up to which shift each labelling sets the means as far apart as the true one;
        of them the one at which p falls to the level."""
        with np.errstate(divide="ignore", invalid="ignore"):
            same = (d[0] + d) / (1 + added), (d[0] - d) / (1 - added)
        until = np.max(np.where(np.isclose(np.abs(added), 1), np.inf, same), axis=0)
        return np.sort(until)[::-1][int(level * len(until) + 1e-9)]

    return -largest(-d), largest(d)


def effect(original, here):
    """Difference of the means, in deviations over the runs of a side (Cohen's d)."""
    m, n = len(original), len(here)
    within = (m - 1) * np.var(original, ddof=1) + (n - 1) * np.var(here, ddof=1)
    difference = np.mean(here) - np.mean(original)
    if not within:
        return np.copysign(np.inf, difference) if difference else 0.0
    return difference / np.sqrt(within / (m + n - 2))
