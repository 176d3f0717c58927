"""What each set of a mixture adds: short trainings of the mini model with all sets of a recipe, and without each.

    python benchmarks/sources.py recipes/mini_stage2.yaml --data-root DATA --work RUNS \
        --measure cars,faces,clothes,facades,ade20k,shapes [--steps 300] [--jobs 2] [KEY=VALUE ...]

All trainings take as many steps, of the sets that are left; they start from the backbone's ImageNet weights, or from
`--init`. Prints mask AP of objects / parts on the val pictures of each measured set, a line for all sets and one
without each; with several seeds mean and standard deviation. A run that is done is only looked at again, so that the
command can be stopped and given once more.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from trainings import spread, train

from langhops_cli.training.recipe import load_recipe

ALL = "all"
LEVELS = ("objects", "parts")
Figures = dict[str, dict[str, Any]]
"""Mask AP in percent by measured set and level; None where a set has nothing of that level."""


class Mixtures:
    """The trainings of one benchmark and what they are measured to reach, each in a folder of its own."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.sets = [item.model_dump(exclude_defaults=True) for item in load_recipe(options.recipe).data.train]
        self.names = [item["name"] for item in self.sets]

    def figures(self, task: tuple[str, int]) -> Figures:
        """Train without one set, or with all, and measure."""
        without, seed = task
        folder = self.options.work / f"without_{without}_{seed}"
        if without == ALL:
            folder = self.options.work / f"{ALL}_{seed}"
        steps = self.options.steps
        settings = [
            f"data.train={json.dumps([item for item in self.sets if item['name'] != without])}",
            f"data.val=[{self.options.measure}]", f"data.val_pictures={self.options.pictures}",
            f"data.image_size={self.options.size}", f"data.batch={self.options.batch}", "data.workers=0",
            f"schedule.steps={steps}", f"schedule.warmup={min(50, steps // 4)}", f"seed={seed}",
            "stage.init_part_decoder=none", "logging.save_every=100000", "logging.sheet=0", *self.options.settings,
        ]  # fmt: skip
        where = self.options.data_root
        train(folder, "train-stage2", str(self.options.recipe), settings, data_root=where, init=self.options.init)
        return dict(json.loads((folder / "config.json").read_text(encoding="utf-8"))["measured"])


def table(results: dict[tuple[str, int], Figures], seeds: range) -> str:
    """One line a mixture; mask AP of objects / parts in each cell, "-" where a set has none."""
    measured = list(next(iter(results.values())))
    lines = ["| trained on | " + " | ".join(measured) + " |", "|---" * (1 + len(measured)) + "|"]
    for without in dict.fromkeys(name for name, _ in results):
        cells = []
        for name in measured:
            rows = [results[without, seed][name] for seed in seeds]
            found = [[row[level] for row in rows if row[level] is not None] for level in LEVELS]
            cells.append(" / ".join(spread(values) if values else "-" for values in found))
        lines.append(f"| {ALL if without == ALL else f'without {without}'} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="recipe of stage 2, whose sets are left out one by one")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="recipe settings of all the trainings")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--measure", required=True, help="prepared sets to measure on, with commas between")
    parser.add_argument("--init", type=Path, help="checkpoint to start from")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=128, help="side of the pictures in pixels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pictures", type=int, default=30, help="of each set that are measured on")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    options = parser.parse_intermixed_args()
    options.work.mkdir(parents=True, exist_ok=True)
    mixtures = Mixtures(options)
    seeds = range(options.seeds)
    tasks = [(name, seed) for seed in seeds for name in (ALL, *mixtures.names)]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = dict(zip(tasks, pool.map(mixtures.figures, tasks), strict=True))
    sys.stdout.write(table(results, seeds))
    (options.work / "figures.yaml").write_text(
        yaml.safe_dump({f"{name}, seed {seed}": figures for (name, seed), figures in results.items()})
    )


if __name__ == "__main__":
    main()
