"""Partial-visibility classifiers by name, folder or hub id."""

from __future__ import annotations

from orderhead.core.assets import load
from orderhead.oracles.classifier import PartialVisClassifier


def load_classifier(name: str = "fashion") -> PartialVisClassifier:
    """`fashion` ships. ValueError for an unknown name (with the nearest match) or damaged files."""
    return load(PartialVisClassifier, "classifiers", name)
