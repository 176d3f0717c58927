"""Boundary IoU: how well outlines agree, which large masks hide from the plain IoU.

Only the pixels of a mask count that lie within a distance of its outline, 0.02 of the picture's diagonal.

Source: Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, CVPR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from langhops_cli.data.masks import Rle

RATIO = 0.02
"""Width of the band along an outline as a share of the picture's diagonal."""


def band_width(size: tuple[int, int]) -> int:
    """Pixels from its outline that belong to the band of a mask in a picture of this height and width; 1 or more."""
    return max(1, round(RATIO * math.hypot(*size)))


def inner_band(labels: NDArray[Any], *, width: int) -> NDArray[np.bool_]:
    """The pixels of a map of labels that another label, or the edge of the picture, is near to.

    A mask of 0 and 1 is a map too: of it the band inside its outline is what also is 1.

    Args:
        labels: (h, w), whole numbers or bool.
        width: greatest distance in rows and columns, in pixels.

    Returns:
        (h, w). Beyond the edge there is no label, so that pixels near to it belong to the band.
    """
    values = labels.astype(np.uint8) if labels.dtype == np.bool_ else labels
    reach = 2 * width + 1
    # A square window is a row and then a column, so that this costs the same for any width.
    least = minimum_filter1d(minimum_filter1d(values, reach, axis=0, mode="nearest"), reach, axis=1, mode="nearest")
    most = maximum_filter1d(maximum_filter1d(values, reach, axis=0, mode="nearest"), reach, axis=1, mode="nearest")
    band: NDArray[np.bool_] = least != most
    for edge in (np.s_[:width], np.s_[-width:], np.s_[:, :width], np.s_[:, -width:]):
        band[edge] = True
    return band


def boundary(rle: Rle) -> Rle:
    """The band along the inside of a mask's outline, as run lengths."""
    height, width = rle["size"]
    reach = band_width((height, width))
    left, top, across, down = (int(side) for side in coco_mask.toBbox(rle))
    mask = coco_mask.decode(rle)
    window = np.s_[top : top + down, left : left + across]
    # Of the mask nothing lies outside its box, so that the edge of the box is as good as the picture's.
    inside = mask[window]
    if inside.size:
        eroded = minimum_filter1d(inside, 2 * reach + 1, axis=0, mode="constant", cval=0)
        eroded = minimum_filter1d(eroded, 2 * reach + 1, axis=1, mode="constant", cval=0)
        inside[eroded != 0] = 0
    return coco_mask.encode(mask)


def boundary_iou(dt_rles: Sequence[Rle], gt_rles: Sequence[Rle], iscrowd: Sequence[int]) -> NDArray[np.float64]:
    """The overlap that boundary AP goes by: the smaller of mask IoU and boundary IoU.

    Args:
        dt_rles: masks that were found in a picture, D; gt_rles: masks that are annotated there, G.
        iscrowd: of each annotated mask, whether it is a crowd: then the share of the found mask inside it counts.

    Returns:
        (D, G), in 0..1, as `pycocotools.mask.iou`.
    """
    shape = (len(dt_rles), len(gt_rles))
    if not all(shape):
        return np.zeros(shape)
    crowd = [int(flag) for flag in iscrowd]
    whole = coco_mask.iou(list(dt_rles), list(gt_rles), crowd)
    bands = coco_mask.iou([*map(boundary, dt_rles)], [*map(boundary, gt_rles)], crowd)
    return np.minimum(np.asarray(whole), np.asarray(bands)).reshape(shape)


class BoundaryCounts:
    """Sums over pictures of what the boundary IoU of each name of a map of labels is made of.

    Args:
        names: K, how many names there are; the label K stands for none.
    """

    def __init__(self, names: int) -> None:
        self.names = names
        self.shared = np.zeros(names, np.int64)
        self.predicted = np.zeros(names, np.int64)
        self.true = np.zeros(names, np.int64)

    def add(self, predicted: NDArray[Any], true: NDArray[Any]) -> None:
        """Count a picture or a record: two maps of labels 0..K, (h, w)."""
        width = band_width((predicted.shape[0], predicted.shape[1]))
        near_predicted, near_true = inner_band(predicted, width=width), inner_band(true, width=width)
        both = near_predicted & near_true & (predicted == true)
        self.shared += self._count(true[both])
        self.predicted += self._count(predicted[near_predicted])
        self.true += self._count(true[near_true])

    def iou(self) -> NDArray[np.float64]:
        """Boundary IoU of each name, (K,); NaN for a name that is true nowhere."""
        union = self.predicted + self.true - self.shared
        return np.where(self.true > 0, self.shared / np.maximum(union, 1), np.nan)

    def _count(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        return np.bincount(labels, minlength=self.names + 1)[: self.names]
