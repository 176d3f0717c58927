"""Everything that a reader finds in a split, read in this process."""

from dataclasses import dataclass, field

from PIL import Image

from langhops_cli.data.records import Drops, InstanceRecord, Picture, Source


@dataclass
class Reading:
    pictures: list[Picture] = field(default_factory=list)
    instances: list[InstanceRecord] = field(default_factory=list)
    by_picture: dict[str, list[InstanceRecord]] = field(default_factory=dict)
    drops: Drops = field(default_factory=Drops)


def read_all(source: Source, split: int = 0) -> Reading:
    chosen = source.splits[split]
    reading = Reading()
    for picture in chosen.pictures():
        path = chosen.image_root / picture.file_name
        size = picture.size
        if size is None:
            with Image.open(path) as image:
                size = image.size
        found = chosen.read(path, picture, size)
        reading.pictures.append(picture)
        reading.instances += found.instances
        reading.by_picture[picture.file_name] = found.instances
        reading.drops.merge(found.drops)
    reading.drops.merge(chosen.drops)
    return reading
