"""Seconds and peak memory of scoring a file of results, by each backend.

    python benchmarks/eval_speed.py [--pictures 5000] [--results 100] [--truth 20] [--only pycocotools]

Writes a ground truth of 640 x 480 pictures and a file of COCO results into a temporary folder, and scores the file by
mask and by box, each backend in a process of its own. "whole file" is pycocotools by itself, which holds the truth and
all results in memory and scores no level, no name and no match. "of one core" are the seconds that all threads
together were busy, on a machine that does other work too the better measure. Linux only: the peak is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

WIDTH, HEIGHT = 640, 480
NAMES = 40
"""Names of the truth, a quarter of them objects; a picture has some of them."""
IN_PICTURE = 8
CORNERS = 24
WAYS = ("pycocotools", "hotcoco", "whole file")


def blob(x: float, y: float, radius: float, draw: np.random.Generator) -> dict[str, Any]:
    """A mask with a wavy edge and its box, as fields of an entry."""
    turn = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    edge = radius * (1 + 0.15 * np.sin(3 * turn + draw.uniform(0, 6)) + 0.05 * draw.standard_normal(CORNERS))
    points = np.stack([x + edge * np.cos(turn), y + edge * np.sin(turn)], axis=1).clip(0, [WIDTH, HEIGHT])
    code = coco_mask.frPyObjects([points.ravel().tolist()], HEIGHT, WIDTH)[0]
    counts = {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode("ascii")}
    return {"segmentation": counts, "bbox": coco_mask.toBbox(code).tolist(), "area": float(coco_mask.area(code))}


def write_files(folder: Path, *, pictures: int, truth: int, results: int) -> None:
    """Write truth.json and results.json: a few results near each instance, the rest anywhere."""
    draw = np.random.default_rng(0)
    categories = [
        {"id": n, "name": f"name {n}", "parent_id": None if n <= NAMES // 4 else 1 + n % (NAMES // 4)}
        for n in range(1, NAMES + 1)
    ]
    images = [{"id": n, "file_name": f"{n}.jpg", "width": WIDTH, "height": HEIGHT} for n in range(1, pictures + 1)]
    with (folder / "truth.json").open("w") as true, (folder / "results.json").open("w") as found:
        true.write('{"info": {"exhaustive": true}, "images": ' + json.dumps(images) + ', "annotations": [')
        found.write("[")
        for image in range(1, pictures + 1):
            names = draw.choice(NAMES, IN_PICTURE, replace=False) + 1
            places = [(*draw.uniform((40, 40), (600, 440)), float(draw.uniform(8, 90))) for _ in range(truth)]
            labels = draw.choice(names, truth)
            for number, (place, label) in enumerate(zip(places, labels, strict=True)):
                entry = {"id": (image - 1) * truth + number + 1, "image_id": image, "category_id": int(label)}
                row = {**entry, "parent_id": None, "iscrowd": 0, **blob(*place, draw)}
                true.write((", " if row["id"] > 1 else "") + json.dumps(row))
            for number in range(results):
                near = number < 3 * truth
                x, y, radius = places[number % truth] if near else (*draw.uniform((40, 40), (600, 440)), 40.0)
                label = labels[number % truth] if near else draw.choice(names)
                shape = blob(x + draw.normal(0, radius / 8), y + draw.normal(0, radius / 8), radius, draw)
                del shape["area"]
                share = round(float(draw.uniform()), 4)
                row = {"image_id": image, "category_id": int(label), "score": share, **shape}
                found.write((",\n" if image > 1 or number else "\n") + json.dumps(row))
        true.write('], "categories": ' + json.dumps(categories) + "}")
        found.write("\n]\n")


def score_once(way: str, folder: Path) -> dict[str, float]:
    """Score by mask and by box; return seconds, the peak in MiB and the two figures."""
    start = time.perf_counter()
    if way == "whole file":
        figures = list(whole_file(folder))
    else:
        from langhops_cli.evaluation.instances.instance_ap import score

        scored = score(folder / "truth.json", folder / "results.json", backend=way)  # type: ignore[arg-type]
        assert scored.mask is not None
        figures = [scored.mask.all.ap or 0.0, scored.box.all.ap or 0.0]
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "busy": time.process_time(), "peak": peak(), "mask": figures[0], "box": figures[1]}


def whole_file(folder: Path) -> Iterator[float]:
    """AP by pycocotools alone."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(open(os.devnull, "w")):
        truth = COCO(str(folder / "truth.json"))
        for kind in ("segm", "bbox"):
            rows = json.loads((folder / "results.json").read_text())
            if kind == "segm":  # given a box, pycocotools takes the box's area for the mask's
                for row in rows:
                    del row["bbox"]
            run = COCOeval(truth, truth.loadRes(rows), kind)
            run.evaluate()
            run.accumulate()
            run.summarize()
            yield float(run.stats[0])


def peak() -> float:
    """Largest memory that this process has had, in MiB; the system's own count begins with that of its parent."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--results", type=int, default=100, help="of each picture")
    parser.add_argument("--truth", type=int, default=20, help="annotations of each picture")
    parser.add_argument("--only", choices=WAYS, nargs="+", default=WAYS, help="these ways of scoring")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.folder:
        sys.stdout.write(json.dumps(score_once(chosen.only[0], chosen.folder)) + "\n")
        return
    with tempfile.TemporaryDirectory() as place:
        write_files(Path(place), pictures=chosen.pictures, truth=chosen.truth, results=chosen.results)
        size = (Path(place) / "results.json").stat().st_size / 2**20
        sys.stdout.write(
            f"{chosen.pictures:,} pictures x {chosen.results} results, {chosen.truth} annotations a picture; the file "
            f"has {size:.0f} MiB\n\n| way | seconds | of one core | pictures a second | peak MiB | mask AP | "
            "box AP |\n|---|---|---|---|---|---|---|\n"
        )
        for way in chosen.only:
            if way == "hotcoco" and find_spec("hotcoco") is None:
                sys.stdout.write("| hotcoco | not installed | | | | | |\n")
                continue
            command = [sys.executable, __file__, "--only", way, "--folder", place]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            row = json.loads(told)
            sys.stdout.write(
                f"| {way} | {row['seconds']:.1f} | {row['busy']:.1f} | {chosen.pictures / row['seconds']:.0f} | "
                f"{row['peak']:.0f} | {row['mask']:.4f} | {row['box']:.4f} |\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
