"""The gallery: one self-contained HTML file with every picture beside the tree of its parts."""

from langhops_cli.prediction.gallery.writer import GalleryWriter

__all__ = ["GalleryWriter"]
