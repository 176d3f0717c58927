"""Pictures a second and peak memory of `langhops prepare`, for growing numbers of pictures.

    python benchmarks/prepare_speed.py [--pictures 10000] [--annotations 12] [--workers 2]

Writes a COCO data set of 640 x 480 JPEG pictures with an object of some parts each into a temporary folder, and
prepares a quarter, a half and all of it, each in a process of its own. If time is linear in the number of pictures, the
rate stays; the memory is that of the process that collects and of the largest one that reads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

WIDTH, HEIGHT = 640, 480
DISTINCT = 100
"""Pictures that differ; the others are links to them, which cost as much to read."""
STEPS = (0.25, 0.5, 1.0)


def write_pictures(folder: Path, number: int, draw: np.random.Generator) -> list[str]:
    """Write JPEG pictures of smooth noise; return their names."""
    folder.mkdir()
    names = [f"{place:06d}.jpg" for place in range(number)]
    for place, name in enumerate(names):
        if place < DISTINCT:
            coarse = draw.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(folder / name, quality=90)
        else:
            (folder / name).hardlink_to(folder / names[place % DISTINCT])
    return names


def annotate(image: int, first: int, number: int, draw: np.random.Generator) -> list[dict[str, object]]:
    """An object and its parts as polygons of 24 corners, the parts inside the object."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    rows: list[dict[str, object]] = []
    for place in range(number):
        radius = 200 if place == 0 else draw.uniform(10, 60)
        x, y = (320, 240) if place == 0 else draw.uniform((200, 150), (440, 330))
        wave = radius * (1 + 0.1 * np.sin(5 * turn))
        points = np.stack([x + wave * np.cos(turn), y + wave * np.sin(turn)], axis=1)
        rows.append({"id": first + place, "image_id": image, "category_id": 1 if place == 0 else 2,
                     "segmentation": [points.round(1).ravel().tolist()]})  # fmt: skip
    return rows


def write_set(source: Path, names: list[str], annotations: int) -> None:
    """Write a COCO file of the first pictures."""
    draw = np.random.default_rng(0)
    images = [{"id": n, "file_name": name, "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names, 1)]
    rows = [row for n in range(len(names)) for row in annotate(n + 1, n * annotations + 1, annotations, draw)]
    categories = [{"id": 1, "name": "thing"}, {"id": 2, "name": "thing's part"}]
    (source / "train.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))


def measure(source: Path, out: Path, workers: int) -> tuple[float, float, float]:
    """Prepare a set; return the seconds, and the peak MiB of the first process and of the largest other one."""
    command = ["prepare", "coco-parts", "--source", source, "--name", "speed", "--data-root", out]
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "langhops_cli", *command, "--workers", str(workers)], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        own, others = watch(process)
        assert process.stderr is not None
        said = process.stderr.read()
    if process.returncode:
        raise SystemExit(said)
    return time.perf_counter() - start, own, others


def watch(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Look at the memory of a process and of those that it started until it ends; return the peaks in MiB.

    What the system counts itself would begin with the memory of this process, from which the others stem.
    """
    own = others = 0
    first = psutil.Process(process.pid)
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            own = max(own, first.memory_info().rss)
            others = max([others, *(child.memory_info().rss for child in first.children(recursive=True))])
        time.sleep(0.05)
    return own / 2**20, others / 2**20


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--annotations", type=int, default=12, help="of each picture")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "source"
        source.mkdir()
        names = write_pictures(source / "images", chosen.pictures, np.random.default_rng(0))
        say("| pictures | annotations | seconds | pictures a second | peak MiB, collecting | peak MiB, reading |")
        say("|---|---|---|---|---|---|")
        for step in STEPS:
            number = round(chosen.pictures * step)
            write_set(source, names[:number], chosen.annotations)
            seconds, own, others = measure(source, Path(place) / f"out{number}", chosen.workers)
            counts = f"{number:,} | {number * chosen.annotations:,}"
            say(f"| {counts} | {seconds:.1f} | {number / seconds:.0f} | {own:.0f} | {others:.0f} |")


if __name__ == "__main__":
    main()
