"""Overfit check: the mini model learns eight real pictures by heart, through both stages; part mask AP passes 60.

    python benchmarks/overfit.py --data-root data --name cars

It trains with the project's own loop on the first pictures of a prepared set, without augmentation, measures on the
same pictures after each round of stage 2, and ends with 0 as soon as the goal is reached, else with 1. `--init` starts
from a checkpoint of stage 2, which saves most of the time. A run that was stopped goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from langhops_cli.training.recipe import Recipe


def first_pictures(source: Path, folder: Path, *, count: int) -> None:
    """Make a prepared set of the first pictures of another, for training and measuring alike."""
    content = json.loads((source / "train.json").read_text(encoding="utf-8"))
    content["images"] = content["images"][:count]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [item for item in content["annotations"] if item["image_id"] in kept]
    content["info"]["image_root"] = str((source / content["info"].get("image_root", ".")).resolve())
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        (folder / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "hierarchy.yaml").write_text((source / "hierarchy.yaml").read_text(encoding="utf-8"), encoding="utf-8")


def recipe_of(level: str, *, steps: int, side: int) -> Recipe:
    """The recipe of one stage: no augmentation, a constant rate after the warm-up."""
    return Recipe.model_validate(
        {
            "model": {"preset": "mini", "preprocessing": {"shortest": side, "longest": side}},
            "stage": {"level": level},
            "data": {
                "train": [{"name": "few"}],
                "image_size": side,
                "jitter": [1, 1],
                "flip": 0,
                "colour": 0,
                "batch": 2,
            },
            "optimizer": {"learning_rate": 3e-4, "backbone_multiplier": 0.3, "weight_decay": 0.0},
            "schedule": {"steps": steps, "warmup": 50},
            "logging": {"every": 20, "save_every": 200},
        }
    )


def main() -> int:
    """Train both stages and say how far they came."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, default=Path(os.environ.get("LANGHOPS_DATA", "data")))
    parser.add_argument("--name", default="cars", help="a prepared set with parts")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--side", type=int, default=256, help="of the pictures in pixels")
    parser.add_argument("--goal", type=float, default=60.0, help="part mask AP in percent")
    parser.add_argument("--init", type=Path, help="a checkpoint of stage 2 to start from, in place of stage 1")
    parser.add_argument("--stage1-steps", type=int, default=400)
    parser.add_argument("--round", type=int, default=200, help="steps of stage 2 between two measurements")
    parser.add_argument("--most-steps", type=int, default=3000, help="of stage 2")
    parser.add_argument("--out", type=Path, default=Path("runs/overfit"))
    options = parser.parse_args()

    from langhops_cli.checkpoint.hub import LangHOPS
    from langhops_cli.data.index import PreparedDataset
    from langhops_cli.training.loop import train
    from langhops_cli.training.measuring import in_words, measure

    started = time.monotonic()
    first_pictures(options.data_root / options.name, options.out / "data" / "few", count=options.pictures)
    root = {"data_root": options.out / "data"}
    init = options.init or options.out / "stage1"
    if options.init is None:
        train(recipe_of("objects", steps=options.stage1_steps, side=options.side), folder=init, **root)
    dataset = PreparedDataset(options.out / "data" / "few", "val")
    for steps in range(options.round, options.most_steps + 1, options.round):
        recipe = recipe_of("parts", steps=steps, side=options.side)
        train(recipe, folder=options.out / "stage2", init=init, **root)
        langhops = LangHOPS.from_pretrained(options.out / "stage2")
        measured = measure(langhops.model, [dataset], langhops.config, pictures=options.pictures)["few"]
        minutes = (time.monotonic() - started) / 60
        print(f"stage 2, step {steps}: {in_words(measured)}, {minutes:.0f} min in all")  # noqa: T201
        if (measured["parts"] or 0) > options.goal:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
