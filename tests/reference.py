"""The released code's density, selection and losses in slow NumPy, float64, one pixel at a time.

Written from a description of what that code computes; it shares no line with it, nor with the package. Tests
compare the package's `released` settings with it.
"""

import numpy as np

IGNORE = 255
NUM_NEIGHBORS = (8, 16, 32)


def unit(x):
    x = np.asarray(x, dtype=np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def released_density(feats, bank, num_neighbors=NUM_NEIGHBORS):
    "(N,): for each k the mean of the k largest cosines to the bank, then the mean over the ks."
    feats, bank = unit(feats), unit(bank)
    out = np.zeros(len(feats))
    for i, row in enumerate(feats):
        cosines = sorted((float(row @ key) for key in bank), reverse=True)
        out[i] = np.mean([np.mean(cosines[:k]) for k in num_neighbors])
    return out


def released_class_density(feats, bank, num_neighbors=NUM_NEIGHBORS):
    "As `released_density`, but 1 for all where the batch holds no more pixels than the largest k."
    return (
        np.ones(len(feats))
        if len(feats) <= max(num_neighbors)
        else released_density(feats, bank, num_neighbors)
    )


def released_selection(density, stored_density, num_anchors=200, num_positives=50, num_bank=50):
    """(anchors, positives, bank positives): the lowest, the highest, the highest stored.

    No two scores may be equal unless all are taken."""
    order = np.argsort(density, kind="stable")
    best_stored = np.argsort(-np.asarray(stored_density), kind="stable")
    return order[:num_anchors], order[::-1][:num_positives], best_stored[:num_bank]


def released_contrastive_loss(anchors, positives, negatives, temperature=0.5, eps=1e-6):
    "One prototype (the unit mean of rows that are not unit), all negatives, eps inside the fraction."
    target = unit(np.asarray(positives, dtype=np.float64).mean(0))
    keys = [target, *unit(negatives)]
    losses = []
    for anchor in unit(anchors):
        logits = np.array([anchor @ key for key in keys]) / temperature
        exps = np.exp(logits - logits.max())
        losses.append(-np.log(exps[0] / (exps.sum() + eps)))
    return np.mean(losses)


def released_contrast_term(feats, proj, labels, banks, num_negatives=512, skip_background=True):
    """The term of one step. `banks[c]` is (feats, proj, density) of class c, all of them full.

    All other pixels are negatives: no more than `num_negatives` may exist, as that code would draw."""
    labels, losses = np.asarray(labels), []
    for c in np.unique(labels):
        if c == IGNORE or (skip_background and c == 0):
            continue
        mine = np.flatnonzero(labels == c)
        others = np.flatnonzero((labels != c) & (labels != IGNORE))
        assert len(others) <= num_negatives, "the reference cannot draw"
        bank_feats, bank_proj, bank_density = banks[c]
        density = released_class_density(feats[mine], bank_feats)
        anchors, positives, stored = released_selection(density, bank_density)
        losses.append(
            released_contrastive_loss(
                proj[mine][anchors], np.concatenate([proj[mine][positives], bank_proj[stored]]), proj[others]
            )
        )
    return np.mean(losses) if losses else 0.0


def softmax(logits, axis=1):
    exps = np.exp(np.asarray(logits, dtype=np.float64) - np.max(logits, axis=axis, keepdims=True))
    return exps / exps.sum(axis=axis, keepdims=True)


def released_entropy(logits):
    "(B, H, W) of logits (B, K, H, W), nats."
    probs = softmax(logits)
    return -(probs * np.log(probs + 1e-10)).sum(1)


def released_pseudo_labels(logits, valid, drop_percent):
    """(B, H, W): the most probable class; ignored at padding, and where the entropy is at least the
    (100 - drop)-percentile of the pixels that are no padding."""
    entropy, labels = released_entropy(logits), np.asarray(logits).argmax(1)
    threshold = np.percentile(entropy[valid], 100 - drop_percent)
    return np.where(valid & (entropy < threshold), labels, IGNORE)


def cross_entropy(logits, targets):
    "(B, H, W), 0 where ignored."
    probs, targets = softmax(logits), np.asarray(targets)
    picked = np.take_along_axis(probs, np.where(targets == IGNORE, 0, targets)[:, None], axis=1)[:, 0]
    return np.where(targets == IGNORE, 0.0, -np.log(picked))


def released_supervised_loss(logits, targets):
    return cross_entropy(logits, targets).sum() / (np.asarray(targets) != IGNORE).sum()


def released_ohem_loss(logits, targets, thresh=0.7, min_kept=100_000):
    "Over the pixels whose true class has a probability of at most max(thresh, the min_kept-th smallest)."
    losses = cross_entropy(logits, targets)[np.asarray(targets) != IGNORE]
    probs = np.sort(np.exp(-losses))
    limit = max(thresh, probs[min(min_kept, len(probs)) - 1])
    return losses[np.exp(-losses) <= limit].mean()


def released_unsupervised_loss(logits, pseudo_labels):
    "All over kept pixels, times the mean cross-entropy over the kept ones; not a number if none is kept."
    kept = (np.asarray(pseudo_labels) != IGNORE).sum()
    return np.asarray(pseudo_labels).size / kept * cross_entropy(logits, pseudo_labels).sum() / kept


def released_drop_for_labels(epoch, epochs, first):
    return 20 * (1 - (epoch - first) / (epochs - first))


def released_drop_for_contrast(epoch, epochs, first):
    return max(80 * (1 - (epoch - first) / (epochs - first)), 10)
