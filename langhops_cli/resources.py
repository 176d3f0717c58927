"""Folders that come with the package: recipes, data manifests and the embedded checkpoint."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def recipes_folder() -> Path:
    """Return the folder of the recipes that come with the package."""
    return _shipped("recipes")


def manifests_folder() -> Path:
    """Return the folder of the data manifests that come with the package."""
    return _shipped("data_manifests")


def assets_folder() -> Path:
    """Return the folder of the embedded checkpoint and its card."""
    return _PACKAGE / "assets"


def _shipped(name: str) -> Path:
    """Find a folder that a wheel holds inside the package and a checkout holds beside it."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
