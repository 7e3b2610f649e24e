"""Loaded trees are checked before anything asks them: scikit-learn follows their node indices without looking.

A file that says "go on at node 4,000,000,000" would make the process read foreign memory
(scikit-learn/scikit-learn#34558), so every tree must only point forward, to nodes and features that are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from upkeep.errors import ModelError, Where


def check_trees(estimator: Any, where: Where) -> None:
    """Raise :class:`ModelError` when a tree anywhere inside ``estimator`` points outside itself."""
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
    from sklearn.neighbors import BallTree, KDTree
    from sklearn.tree._tree import Tree

    for owner, part in _parts(estimator):
        if isinstance(part, Tree):
            nodes = part.__getstate__()["nodes"]
            sound = _sound_tree(part, nodes, owner)
        elif isinstance(part, TreePredictor):
            sound = _sound_predictor(part, owner)
        elif isinstance(part, BallTree | KDTree):
            sound = _sound_index(part)
        else:
            continue
        if not sound:
            raise ModelError(
                "a tree of the model points outside itself: the file is damaged or was made to harm",
                where=where,
                fix="do not use this file; train the model again, or fetch it from where it was made",
            )


def _sound_tree(tree: Any, nodes: Any, owner: Any) -> bool:
    index = np.arange(len(nodes))
    left, right, feature = nodes["left_child"], nodes["right_child"], nodes["feature"]
    leaf = left == -1
    inner = ~leaf
    forward = (left[inner] > index[inner]) & (right[inner] > index[inner])
    inside = (left[inner] < len(nodes)) & (right[inner] < len(nodes))
    seen = getattr(owner, "n_features_in_", tree.n_features)
    features = (feature[inner] >= 0) & (feature[inner] < min(seen, tree.n_features))
    whole = tree.node_count == len(nodes) == len(tree.value) and len(nodes) > 0
    return bool(whole and forward.all() and inside.all() and features.all())


def _sound_predictor(predictor: Any, owner: Any) -> bool:
    nodes = predictor.nodes
    if len(nodes) == 0:
        return False
    index = np.arange(len(nodes))
    inner = nodes["is_leaf"] == 0
    left, right = nodes["left"][inner].astype(np.int64), nodes["right"][inner].astype(np.int64)
    forward = (left > index[inner]) & (right > index[inner]) & (left < len(nodes)) & (right < len(nodes))
    feature = nodes["feature_idx"][inner]
    features = (feature >= 0) & (feature < getattr(owner, "_n_features", np.inf))
    categorical = inner & (nodes["is_categorical"] != 0)
    bitsets = nodes["bitset_idx"][categorical] < len(predictor.raw_left_cat_bitsets)
    return bool(forward.all() and features.all() and bitsets.all())


def _sound_index(tree: Any) -> bool:
    """A neighbours' index: an implicit binary tree, node i's children at 2i+1 and 2i+2."""
    data, rows, nodes, bounds = (np.asarray(part) for part in tree.__getstate__()[:4])
    levels, count = tree.__getstate__()[5:7]
    if not (data.ndim == 2 and len(rows) == len(data) and count == len(nodes) == 2**levels - 1 == bounds.shape[1]):
        return False
    first, last, inner = nodes["idx_start"], nodes["idx_end"], nodes["is_leaf"] == 0
    ranges = (first >= 0) & (first <= last) & (last <= len(data))
    children = 2 * np.flatnonzero(inner) + 2 < len(nodes)
    inside = (rows >= 0) & (rows < len(data))
    return bool(ranges.all() and children.all() and inside.all() and bounds.shape[2] == data.shape[1])


def _parts(root: Any) -> Iterator[tuple[Any, Any]]:
    """Every object inside ``root`` with the estimator it belongs to; each once."""
    seen: set[int] = set()
    waiting: list[tuple[Any, Any]] = [(root, root)]
    while waiting:
        owner, part = waiting.pop()
        if isinstance(part, str | bytes | int | float | bool | type(None) | type) or id(part) in seen:
            continue
        seen.add(id(part))
        yield owner, part
        if isinstance(part, np.ndarray):
            if part.dtype == object:
                waiting.extend((owner, item) for item in part.ravel())
        elif isinstance(part, dict):
            waiting.extend((owner, item) for item in part.values())
        elif isinstance(part, list | tuple | set | frozenset):
            waiting.extend((owner, item) for item in part)
        elif hasattr(part, "__dict__"):
            inside = part if hasattr(part, "fit") else owner
            waiting.extend((inside, item) for item in vars(part).values())
