"""The generated scenes: the same from the same seed, true masks, held-out kinds, and nothing that gives a part away."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from langhops_cli.data import masks
from langhops_cli.data.generated.figures import HELD_OUT, KINDS, PARTS, SEEN
from langhops_cli.data.generated.figures.outlines import smooth
from langhops_cli.data.generated.paint import TEXTURES, Paint, lay_on, mix_paint
from langhops_cli.data.generated.render import Scene, render
from langhops_cli.data.generated.scenes import Composition, compose
from langhops_cli.data.generated.shapes import LEAST_AREA, generate, scene_of
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.prepare import prepare
from langhops_cli.data.work import FEW
from langhops_cli.errors import UserError
from tests.data.reading import Reading, read_all

SIZE = 96


@lru_cache
def _scenes() -> list[Scene]:
    """Enough scenes that each kind comes several times."""
    return [scene_of("train", number, seed=2, size=SIZE) for number in range(60)]


def _composed(number: int) -> Composition:
    return compose(np.random.default_rng([5, number]), SEEN, first=SEEN[number % len(SEEN)])


def _owner(scene: Scene) -> np.ndarray:
    return np.array([owner for owner, _ in scene.parts] + [-1])[scene.part]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reading]:
    """A small set of all three splits."""
    folder = tmp_path_factory.mktemp("shapes")
    source = generate(folder, train=40, val=20, novel=24, size=SIZE, seed=1)
    for split in source.splits:
        split.image_root = folder / split.image_root
    return {split.name: read_all(source, place) for place, split in enumerate(source.splits)}


def _pixels(folder: Path) -> Iterable[bytes]:
    return [Image.open(path).tobytes() for path in sorted(folder.rglob("*.png"))]


def test_the_seed_decides_every_picture_and_mask_however_many_processes_draw(tmp_path: Path) -> None:
    made = []
    for workers in (1, 2):
        read = partial(generate, train=FEW + 1, val=0, size=64, seed=3)
        report, _ = prepare(read, tmp_path / str(workers), inputs={}, workers=workers)
        assert not report["splits"]["train"]["dropped"]
        made.append((_pixels(tmp_path / str(workers)), report["fingerprint"]))
    assert made[0] == made[1]
    assert len(set(made[0][0])) == FEW + 1
    others = [
        scene_of(split, 0, seed=seed, size=64).pixels.tobytes()
        for split, seed in (("train", 4), ("val", 3), ("novel", 3))
    ]
    assert len({made[0][0][0], *others}) == 4


def test_masks_cover_each_object_with_its_parts_and_never_overlap(splits: dict[str, Reading]) -> None:
    for items in [*splits["val"].by_picture.values(), *splits["novel"].by_picture.values()]:
        objects = [item for item in items if item.part is None]
        assert objects
        for item in objects:
            parts = [part for part in items if part.parent == item.id]
            assert {part.object for part in parts} <= {item.object}
            assert {part.part for part in parts} <= set(PARTS[item.object])
            whole = masks.decode(item.rle, height=SIZE, width=SIZE).astype(int)
            covered = sum((masks.decode(part.rle, height=SIZE, width=SIZE).astype(int) for part in parts), 0 * whole)
            assert (covered <= whole).all(), "parts of an object lie inside it, and apart"
        union = masks.union([item.rle for item in objects])
        assert masks.area(union) == sum(masks.area(item.rle) for item in objects)


def test_what_is_hardly_in_sight_is_not_annotated_and_all_else_is(splits: dict[str, Reading]) -> None:
    annotated, left_out = 0, 0
    for number, items in enumerate(splits["train"].by_picture.values()):
        scene = scene_of("train", number, seed=1, size=SIZE)
        areas = [int((scene.part == place).sum()) for place in range(len(scene.parts))]
        found = sorted(masks.area(item.rle) for item in items if item.part is not None)
        assert found == sorted(area for area in areas if area >= LEAST_AREA)
        annotated += len(found)
        left_out += sum(0 < area < LEAST_AREA for area in areas)
    assert annotated > 300
    assert left_out > 30


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_figure_has_the_parts_that_its_kind_is_said_to_have(kind: str) -> None:
    figures = [KINDS[kind](np.random.default_rng(number)) for number in range(30)]
    assert {piece.name for figure in figures for piece in figure if piece.tone is None} == set(PARTS[kind])
    for figure in figures:
        assert figure[0].tone is None, "a detail needs a piece that it belongs to"
        for piece in figure:
            for outline in (*piece.outlines, *piece.holes):
                assert outline.ndim == 2
                assert np.isfinite(outline).all()
                assert np.abs(outline).max() < 1.2


def test_every_seen_kind_takes_its_turn_and_every_part_occurs() -> None:
    scenes = _scenes()
    objects = Counter(kind for scene in scenes for kind in scene.objects)
    assert set(objects) == set(SEEN)
    assert min(objects.values()) >= len(scenes) // len(SEEN)
    shown = {(scene.objects[owner], name) for scene in scenes for owner, name in scene.parts}
    assert shown == {(kind, name) for kind in SEEN for name in PARTS[kind]}


def test_held_out_kinds_show_in_the_novel_split_alone_with_parts_that_are_known(
    splits: dict[str, Reading],
) -> None:
    train, val, novel = (splits[name] for name in ("train", "val", "novel"))
    for reading in (train, val):
        assert not {item.object for item in reading.instances} & set(HELD_OUT)
    assert {item.object for item in novel.instances} >= set(HELD_OUT)
    assert {item.object for item in novel.instances} & set(SEEN), "beside seen kinds"
    for items in novel.by_picture.values():
        assert {item.object for item in items} & set(HELD_OUT)
    known = {item.part for item in train.instances}
    assert {item.part for item in novel.instances if item.object in HELD_OUT} <= known


def test_training_is_never_told_of_held_out_kinds(tmp_path: Path) -> None:
    report, _ = prepare(partial(generate, train=20, val=2, novel=18, size=64, seed=0), tmp_path / "apart", inputs={})
    train, novel = (PreparedDataset(tmp_path / "apart", split) for split in ("train", "novel"))
    for place in range(len(train)):
        sample = train[place]
        assert not set(sample.vocabulary.object_names) & set(HELD_OUT)
        assert not sample.unsure_objects
        assert not sample.unsure_parts
    assert set(novel[0].vocabulary.object_names) >= set(HELD_OUT)
    assert report["splits"]["train"]["parents"]["unknown"] == 0
    source = generate(tmp_path / "alone", train=1, val=1, size=64, seed=0)
    assert set(source.tree) == set(SEEN)


def test_a_prepared_set_of_shapes_can_be_moved_and_read(tmp_path: Path) -> None:
    report, written = prepare(
        partial(generate, train=4, val=2, size=96, seed=1), tmp_path / "shapes", inputs={"seed": 1}
    )
    assert written
    (tmp_path / "shapes").rename(tmp_path / "moved")
    dataset = PreparedDataset(tmp_path / "moved", "train")
    assert len(dataset) == 4
    assert sum(len(dataset[n].parts) for n in range(4)) == report["splits"]["train"]["parts"]


def test_a_name_stands_for_several_parts_of_an_object() -> None:
    most: Counter[tuple[str, str]] = Counter()
    for scene in _scenes():
        shown = np.bincount(scene.part[scene.part >= 0], minlength=len(scene.parts)) >= LEAST_AREA
        counts = Counter(part for part, seen in zip(scene.parts, shown, strict=True) if seen)
        for (owner, name), count in counts.items():
            key = scene.objects[owner], name
            most[key] = max(most[key], count)
    wanted = {
        ("quadruped", "foot"): 4,
        ("bird", "wing"): 2,
        ("car", "tire"): 2,
        ("fish", "fin"): 3,
        ("house", "window"): 2,
    }
    assert all(most[key] >= count for key, count in wanted.items()), most


def test_objects_hide_each_other_lie_partly_outside_and_are_hidden_by_unnamed_things() -> None:
    by_objects, by_others, outside = 0, 0, 0
    for number in range(30):
        scene = _composed(number)
        whole = render(replace(scene, grain=0.0), SIZE)
        named = [thing for thing in scene.things if thing.kind is not None]
        among = _owner(render(replace(scene, things=tuple(named)), SIZE))
        owner = _owner(whole)
        assert whole.objects == [thing.kind for thing in named]
        for place, thing in enumerate(named):
            alone = render(replace(scene, things=(thing,), behind=()), SIZE)
            full = int((alone.part >= 0).sum())
            assert (owner == place).sum() > 0.25 * full, "it stays recognisable"
            by_objects += (among == place).sum() < 0.95 * full
            by_others += (owner == place).sum() < 0.95 * (among == place).sum()
            points = np.concatenate([outline for piece in thing.pieces for outline in piece.outlines])
            outside += bool((points < -0.02).any() or (points > 1.02).any())
    assert min(by_objects, by_others, outside) >= 5


@pytest.mark.parametrize("size", [64, 100, 333])
def test_a_scene_is_the_same_at_every_size(size: int) -> None:
    for number in range(8):
        scene = replace(_composed(number), grain=0.0)
        small, large = render(scene, size), render(scene, 256)
        assert (small.objects, small.parts) == (large.objects, large.parts)
        first, second = (
            np.bincount(_owner(drawn)[_owner(drawn) >= 0], minlength=len(drawn.objects)) / drawn.part.size
            for drawn in (small, large)
        )
        np.testing.assert_allclose(first, second, rtol=0.1, atol=0.004)
        pictures = [Image.fromarray(drawn.pixels).resize((16, 16), Image.Resampling.BOX) for drawn in (small, large)]
        away = np.abs(np.asarray(pictures[0], float) - np.asarray(pictures[1], float))
        assert away.mean() < 6


def test_edges_are_smooth_and_each_pixel_belongs_to_what_covers_most_of_it() -> None:
    """Against the same scene drawn eight times as large."""
    scene = replace(_composed(3), grain=0.0)
    small, large = render(scene, 80), render(scene, 640)
    cells = large.part.reshape(80, 8, 80, 8).transpose(0, 2, 1, 3).reshape(80, 80, 64)
    most = np.array([[np.bincount(cell + 1).argmax() - 1 for cell in row] for row in cells])
    assert (most == small.part).mean() > 0.98
    mean = large.pixels.reshape(80, 8, 80, 8, 3).mean(axis=(1, 3))
    assert np.abs(mean - small.pixels).mean() < 5


def _told_apart(values: np.ndarray, names: list[str]) -> float:
    """Share of the variance of colours that lies between names, over the three channels."""
    kinds, place = np.unique(names, return_inverse=True)
    between = np.zeros(values.shape[1])
    for number in range(len(kinds)):
        group = values[place == number]
        between += len(group) * (group.mean(axis=0) - values.mean(axis=0)) ** 2
    return float((between / len(values) / values.var(axis=0)).max())


def test_colour_tells_neither_the_part_nor_the_kind() -> None:
    colours, parts, kinds = [], [], []
    for scene in _scenes():
        for place, (owner, name) in enumerate(scene.parts):
            where = scene.part == place
            if where.sum() >= LEAST_AREA:
                colours.append(scene.pixels[where].mean(axis=0))
                parts.append(name)
                kinds.append(scene.objects[owner])
    values = np.array(colours)
    assert values.std(axis=0).min() > 35, "many colours"
    # Parts of an object share colours, so that some variance lies between groups by chance alone.
    chance = np.random.default_rng(0).permutation(len(parts))
    assert _told_apart(values, [parts[n] for n in chance]) < 0.1
    assert _told_apart(values, parts) < 0.15
    assert _told_apart(values, kinds) < 0.15
    reddened = np.concatenate([values, np.add(values, (120, 0, 0))])
    assert _told_apart(reddened, ["plain"] * len(values) + ["red"] * len(values)) > 0.4


@pytest.mark.parametrize("texture", TEXTURES)
def test_a_texture_is_the_same_at_every_resolution(texture: str) -> None:
    draw = np.random.default_rng(3)
    lattice = draw.random((16, 16), dtype=np.float32)
    paint = Paint(
        np.float32([[250, 10, 20], [5, 200, 90]]), texture, angle=0.7, frequency=3.0, phase=0.3, lattice=lattice
    )
    large, small = (
        np.broadcast_to(lay_on(paint, places, places), (3, size, size))
        for size in (256, 64)
        for places in [((np.arange(size) + 0.5) / size).astype(np.float32)]
    )
    assert large.min() >= 0
    assert large.max() <= 255
    assert np.abs(large.reshape(3, 64, 4, 64, 4).mean(axis=(2, 4)) - small).mean() < 12
    assert (large.std() > 40) or texture == "plain"


def test_paints_take_every_texture() -> None:
    draw = np.random.default_rng(0)
    assert {mix_paint(draw, np.array([9.0, 99, 200])).texture for _ in range(300)} == set(TEXTURES)


def test_a_smooth_outline_goes_through_its_points_and_keeps_its_corners() -> None:
    corners = [(0, 0), (0, 0), (3, 0), (3, 0), (3, 1), (3, 1), (0, 1), (0, 1)]
    outline = smooth(corners)
    np.testing.assert_allclose([outline.min(axis=0), outline.max(axis=0)], [(0, 0), (3, 1)], atol=1e-12)
    through = np.array([(0.0, 0), (1, 2), (3, 1), (2, -1)])
    for closed in (True, False):
        curve = smooth(through, closed=closed)
        assert all(np.abs(curve - point).sum(axis=1).min() < 1e-9 for point in through)


def test_the_manifest_says_what_is_drawn() -> None:
    manifest = load_manifest("shapes")
    assert manifest.vocabulary == {kind: list(parts) for kind, parts in PARTS.items()}
    assert (manifest.objects, manifest.parts) == (len(PARTS), sum(map(len, PARTS.values())))
    assert any(f"held out: {', '.join(HELD_OUT)};" in note for note in manifest.notes)
    assert {name for kind in HELD_OUT for name in PARTS[kind]} <= {name for kind in SEEN for name in PARTS[kind]}


@pytest.mark.parametrize(
    "numbers",
    [{"train": 0, "val": 0}, {"size": 63}, {"size": 2049}, {"train": -1}, {"novel": -1}, {"seed": -1}],
)
def test_impossible_numbers_are_refused(tmp_path: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(UserError):
        generate(tmp_path, **{"train": 1, "val": 1, "size": 96, "seed": 0, **numbers})
    assert not list(tmp_path.iterdir())


def test_chosen_kinds_and_few_objects(tmp_path: Path) -> None:
    source = generate(tmp_path, train=12, val=0, size=64, seed=3, kinds="house, bottle,dragon", objects=2)
    assert set(source.tree) == {"house", "bottle"}  # a held-out kind is drawn with --novel alone
    scenes = [scene_of("train", number, seed=3, size=64, seen=("bottle", "house"), objects=2) for number in range(12)]
    assert all(1 <= len(scene.objects) <= 2 and set(scene.objects) <= {"bottle", "house"} for scene in scenes)
    assert {name for scene in scenes for name in scene.objects} == {"bottle", "house"}
    assert max(len(scene.objects) for scene in scenes) == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kinds": "house,cat"}, "'cat'"),
        ({"kinds": "dragon"}, "seen in training"),
        ({"kinds": "house", "novel": 2}, "held out"),
        ({"objects": 0}, "--objects"),
        ({"objects": 7}, "--objects"),
    ],
)
def test_impossible_choices_are_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        generate(tmp_path, **{"train": 1, "val": 1, "size": 64, "seed": 0, **settings})
    assert not list(tmp_path.iterdir())
