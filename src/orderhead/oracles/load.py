"""Partial-visibility classifiers by name, folder or hub id."""

from __future__ import annotations

from orderhead.body.mar import MARConfig
from orderhead.core.assets import load
from orderhead.oracles.classifier import PartialVisClassifier


def load_classifier(name: str = "fashion") -> PartialVisClassifier:
    """`fashion` ships. ValueError for an unknown name (with the nearest match) or damaged files."""
    return load(PartialVisClassifier, "classifiers", name)


def fitting_classifier(name: str, body: MARConfig) -> PartialVisClassifier:
    """A classifier of a body's tokens. ValueError as for `load_classifier`, and where grid or classes are others."""
    classifier = load_classifier(name)
    sizes = ("grid_h", "grid_w", "channels", "classes")
    knows, drawn = ([getattr(c, size) for size in sizes] for c in (classifier.config, body))
    if knows != drawn:
        raise ValueError(
            f"the classifier {name} reads rows, columns, channels, classes {knows}, the body draws {drawn}; give "
            "another --classifier, such as one from `orderhead train latent-classifier`"
        )
    return classifier
