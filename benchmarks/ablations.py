"""What each idea of the method adds: short trainings of the mini model with one idea taken out, several seeds each.

    langhops prepare shapes --kinds car,house,chair,bird --objects 2 --size 128 --train 1500 --val 150 --data-root DATA
    python benchmarks/ablations.py --data-root DATA --work RUNS --sets shapes [--seeds 3] [--steps 1000] [--jobs 2] \
        [KEY=VALUE ...]

Every seed trains stage 1 once, and from it stage 2 in each variant; the one-stage variant trains stage 2 alone for as
many steps as both together. With `--init` both start from the object half of that checkpoint. Prints mask AP on the val
pictures as mean and standard deviation over the seeds, and the difference to the reference, seed by seed. A run that is
done is not done again, so that the command can be stopped and given once more.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from statistics import mean

import yaml
from trainings import spread, train

VARIANTS: dict[str, tuple[str, ...]] = {
    "reference": (),
    "Q-Former instead of the language model": ("model.refiner.kind=qformer",),
    "learned queries instead of the hierarchy": ("model.hierarchy.source=learned",),
    "detached: no gradient from parts to objects": ("model.hierarchy.detach_object_queries=true",),
    "one stage": (),
}
"""What is different from the reference, as a reader and as a recipe says it."""
ONE_STAGE = "one stage"
LEVELS = ("objects", "parts", "all")


class Trainings:
    """The trainings of one benchmark, each in a folder of its own."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.shared = [
            f"data.image_size={options.size}", f"data.batch={options.batch}", f"data.val_pictures={options.pictures}",
            "data.workers=0", "logging.save_every=100000", "logging.sheet=0",
        ]  # fmt: skip
        names = options.sets.split(",")
        self.shared += [
            f"data.train=[{', '.join(f'{{name: {name}}}' for name in names)}]",
            f"data.val=[{options.sets}]",
            *options.settings,
        ]

    def figures(self, variant: str, seed: int) -> dict[str, float]:
        """Mask AP of a variant, the mean over the held-out sets."""
        steps = self.options.steps
        if variant == ONE_STAGE:
            init, steps = self.start, steps + self.options.first_steps
        else:
            init = self.first(seed)
        # A part decoder that starts as a copy spends short trainings on telling its queries apart.
        changes = [*VARIANTS[variant], "stage.init_part_decoder=none"]
        folder = self.run("train-stage2", variant, seed, steps, init, changes)
        sets = json.loads((folder / "config.json").read_text())["measured"].values()
        found = {level: [row[level] for row in sets if row[level] is not None] for level in LEVELS}
        return {level: mean(values) for level, values in found.items() if values}

    def first(self, seed: int) -> Path:
        """Stage 1 of a seed."""
        return self.run("train-stage1", "stage 1", seed, self.options.first_steps, self.start)

    @cached_property
    def start(self) -> Path | None:
        """What stage 1 and the one-stage trainings go on from: the given checkpoint without its part branch."""
        if self.options.init is None:
            return None
        # Stage 1 leaves the part branch behind; its one step is too small to change a weight.
        return self.run("train-stage1", "start", 0, 1, self.options.init, ["optimizer.learning_rate=1e-12"])

    def run(
        self, command: str, name: str, seed: int, steps: int, init: Path | None, changes: Sequence[str] = ()
    ) -> Path:
        """Train, unless that was done before; return the folder."""
        folder = self.options.work / f"{name} {seed}".replace(" ", "_").replace(":", "")
        settings = [*self.shared, f"seed={seed}", f"schedule.steps={steps}", f"schedule.warmup={min(50, steps // 4)}"]
        return train(
            folder,
            command,
            f"mini_stage{command[-1]}",
            [*settings, *changes],
            data_root=self.options.data_root,
            init=init,
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="recipe settings of all the trainings")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--sets", default="shapes", help="prepared sets to train and measure on, with commas between")
    parser.add_argument("--init", type=Path, help="checkpoint whose object half is trained on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-steps", type=int, default=2000, help="of stage 1")
    parser.add_argument("--steps", type=int, default=1000, help="of stage 2")
    parser.add_argument("--size", type=int, default=128, help="side of the pictures in pixels")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=50, help="of each val set that are measured on")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    trainings = Trainings(options)
    seeds = range(options.seeds)
    _ = trainings.start
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(trainings.first, seeds))  # before all others, which share it
        tasks = [(variant, seed) for seed in seeds for variant in VARIANTS]
        results = dict(zip(tasks, pool.map(lambda task: trainings.figures(*task), tasks), strict=True))
    sys.stdout.write(table(results, seeds))
    (options.work / "figures.yaml").write_text(
        yaml.safe_dump({f"{variant}, seed {seed}": figures for (variant, seed), figures in results.items()})
    )


def table(results: dict[tuple[str, int], dict[str, float]], seeds: range) -> str:
    """Mean and standard deviation of each variant, and of its difference to the reference of the same seed."""
    lines = ["| variant | " + " | ".join(f"{level} | difference" for level in LEVELS) + " |"]
    lines.append("|---" * (1 + 2 * len(LEVELS)) + "|")
    for variant in dict.fromkeys(variant for variant, _ in results):
        cells = []
        for level in LEVELS:
            values = [results[variant, seed].get(level, 0.0) for seed in seeds]
            reference = [results["reference", seed].get(level, 0.0) for seed in seeds]
            against = [value - other for value, other in zip(values, reference, strict=True)]
            cells += [spread(values), "" if variant == "reference" else f"{spread(against, sign='+')}"]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
