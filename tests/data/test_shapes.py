from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from langhops_cli.data import masks
from langhops_cli.data.figures import KINDS, PARTS
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.prepare import prepare
from langhops_cli.data.records import SourceRecords
from langhops_cli.data.shapes import draw_scene, generate
from langhops_cli.errors import UserError


def _pixels(folder: Path) -> Iterable[bytes]:
    return [Image.open(path).tobytes() for path in sorted(folder.rglob("*.png"))]


def test_the_seed_decides_every_picture_and_mask(tmp_path: Path) -> None:
    made = []
    for number, seed in enumerate((3, 3, 4)):
        (tmp_path / str(number)).mkdir()
        records = generate(tmp_path / str(number), train=3, val=2, size=96, seed=seed)
        made.append((_pixels(tmp_path / str(number)), [split.instances for split in records.splits]))
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_masks_cover_each_object_with_its_parts_and_never_overlap(tmp_path: Path) -> None:
    records = generate(tmp_path, train=12, val=0, size=128, seed=0)
    (split,) = records.splits
    for items in split.by_picture().values():
        objects = [item for item in items if item.part is None]
        assert objects
        for item in objects:
            parts = [part for part in items if part.parent == item.id]
            assert {part.object for part in parts} <= {item.object}
            missing = masks.area(item.rle) - sum(masks.area(part.rle) for part in parts)
            assert 0 <= missing <= 12 * len(PARTS[item.object]) * 2  # parts almost hidden are not annotated
        total = sum(masks.area(item.rle) for item in objects)
        assert masks.area(masks.union([item.rle for item in objects])) == total


def test_scenes_show_every_kind_several_parts_of_a_name_and_occlusion() -> None:
    scenes = [draw_scene(96, np.random.default_rng([0, number])) for number in range(60)]
    assert {kind for scene in scenes for kind in scene.objects} == set(KINDS)
    assert any(scene.parts.count(part) == 4 for scene in scenes for part in scene.parts), "four feet"
    hidden = [(scene.part == n).sum() for scene in scenes for n in range(len(scene.parts))]
    assert min(hidden) < 12 < max(hidden)
    for scene in scenes:
        assert {name for _, name in scene.parts} <= {part for kind in scene.objects for part in PARTS[kind]}


def test_a_prepared_set_of_shapes_can_be_moved_and_read(tmp_path: Path) -> None:
    def read(folder: Path) -> SourceRecords:
        return generate(folder, train=4, val=2, size=96, seed=1)

    report, written = prepare(read, tmp_path / "shapes", inputs={"seed": 1})
    assert written
    (tmp_path / "shapes").rename(tmp_path / "moved")
    dataset = PreparedDataset(tmp_path / "moved", "train")
    assert len(dataset) == 4
    assert sum(len(dataset[n].parts) for n in range(4)) == report["splits"]["train"]["parts"]
    assert report["splits"]["train"]["parents"]["unknown"] == 0


@pytest.mark.parametrize("numbers", [{"train": 0, "val": 0}, {"size": 8}, {"size": 5000}, {"train": -1}])
def test_impossible_numbers_are_refused(tmp_path: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(UserError):
        generate(tmp_path, **{"train": 1, "val": 1, "size": 96, "seed": 0, **numbers})
