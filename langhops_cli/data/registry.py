"""Which function reads which dataset; each is imported only when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from langhops_cli.data.records import Source

OWN = ("object_name", "tree", "exhaustive")
"""What the user says of data of his own."""


@dataclass(frozen=True)
class Reader:
    """A function that opens a dataset.

    Args:
        place: module below `langhops_cli.data` and function in it, "formats.coco:read_coco".
        options: its keyword arguments besides `images`, as the command line offers them.
        images: it can be told where the pictures lie.
        union: where only parts are annotated, the user may ask for objects made of them.
        generated: it makes the pictures itself: instead of a source folder it is given the folder to write in.
    """

    place: str
    options: tuple[str, ...] = ()
    images: bool = True
    union: bool = False
    generated: bool = False

    def load(self) -> Callable[..., Source]:
        """Import the function."""
        module, _, name = self.place.partition(":")
        function: Callable[..., Source] = getattr(import_module(f"langhops_cli.data.{module}"), name)
        return function


READERS: dict[str, Reader] = {
    "ade20k-part-234": Reader("formats.ade20k_part_234:read_ade20k_part_234", ("all_names", "zero_shot"), images=False),
    "coco": Reader("formats.coco:read_coco"),
    "coco-parts": Reader("formats.coco_parts:read_coco_parts", ("train", "val", *OWN), union=True),
    "labelme-parts": Reader("formats.labelme_parts:read_labelme_parts", (*OWN, "val_share", "boxes"), union=True),
    "lvis": Reader("formats.lvis:read_lvis"),
    "objects365": Reader("formats.objects365:read_objects365"),
    "paco": Reader("formats.paco:read_paco"),
    "partglee-joint": Reader("formats.partglee_joint:read_partglee_joint", ("train", "val", "exhaustive")),
    "partimagenet": Reader("formats.partimagenet:read_partimagenet", images=False),
    "pascal-part": Reader("formats.pascal_part:read_pascal_part", ("all_names",)),
    "pascal-part-116": Reader("formats.pascal_part_116:read_pascal_part_116", images=False),
    "sa-1b": Reader("formats.sa_1b:read_sa_1b"),
    "shapes": Reader(
        "generated.shapes:generate",
        ("train", "val", "size", "seed", "novel", "kinds", "objects"),
        images=False,
        generated=True,
    ),
    "visual-genome": Reader("formats.visual_genome:read_visual_genome"),
    "voc": Reader("formats.voc:read_voc", ("year", "boxes"), images=False),
    "yolo-parts": Reader("formats.yolo_parts:read_yolo_parts", ("data", *OWN), union=True),
}
