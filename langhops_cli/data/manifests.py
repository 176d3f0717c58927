"""What is known of each dataset beforehand: where it is had, how it lies on disk, its names, its licence."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from langhops_cli.errors import UserError
from langhops_cli.resources import manifests_folder


class Strict(BaseModel):
    """A mapping without other keys than these."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RemoteFile(Strict):
    """A file that can be fetched without a form.

    Args:
        url: its address; `hub://owner/name/path` for a file of a dataset on the Hugging Face Hub.
        path: where it goes below the source folder.
        size: in bytes, where published.
        sha256: its checksum, where published; md5: likewise.
        unpack: it is an archive, unpacked below this folder of the source folder; None for a plain file.
        inside: patterns below that folder of archives that it holds, which are unpacked where they lie.
    """

    url: str
    path: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    unpack: str | None = None
    inside: list[str] = []


class SplitFacts(Strict):
    """What a split should hold; a mismatch is told, it is no error.

    Args:
        images: number of pictures, as published.
    """

    images: int | None = None


class Annotations(Strict):
    """What is annotated, and how: "masks", "boxes", "union of parts" and so on."""

    objects: str
    parts: str
    parents: str
    exhaustive: bool | str


class Manifest(Strict):
    """A dataset.

    Args:
        name: as `langhops prepare` takes it.
        title: as its authors call it.
        summary: one line.
        command: how it is prepared.
        source: where it is had.
        form: address of the form that has to be filled in first, where there is one.
        licence: of the annotations and of the pictures.
        citation: authors, title, venue and year.
        annotations: what is annotated.
        tree: the layout that is expected below the source folder, a line each, as `layout.missing` reads it:
            - "images/{train,val}/*.jpg  what it is": the first word is a path or a pattern; what follows is a remark.
              `*` and `<anything>` stand for any characters of one name, `{a,b}` for a and b, which must both be there,
              `{a|b}` for either and `{|a/}` for a/ or nothing; `...` as the last name for anything, and a `/` at the
              end for a folder.
            - "or PATTERN  remark": does as well as the line before it.
            - "PATTERN  optional, remark": nobody misses it.
            - "the variant for detection:", a line that ends with a colon: from here on one of several layouts, of
              which one must be there; what stands before the first such line belongs to all.
            - " more words", a line that starts with a space: a remark.
        notes: what else the user may want to know, a line each.
        splits: by name.
        objects: number of object names; parts: number of part names; None where the source decides.
        vocabulary: object name -> part names, in the order of the source's numbers, where the source holds numbers
            only or where the list is fixed.
        files: what can be fetched.
    """

    name: str
    title: str
    summary: str = Field(max_length=110)
    command: str
    source: str
    form: str | None = None
    licence: str
    citation: str | None = None
    annotations: Annotations
    tree: list[str] = []
    notes: list[str] = []
    splits: dict[str, SplitFacts] = {}
    objects: int | None = None
    parts: int | None = None
    vocabulary: dict[str, list[str]] = {}
    files: list[RemoteFile] = []
    kind: Literal["dataset", "own", "generated"] = "dataset"

    @property
    def how_to_have(self) -> str:
        """In a word or two, how one comes by the data."""
        if self.kind != "dataset":
            return {"own": "your own", "generated": "made here"}[self.kind]
        return "--download" if self.files else "after a form" if self.form else "by hand"


@lru_cache
def load_manifest(name: str) -> Manifest:
    """Read the manifest of a dataset.

    Raises:
        UserError: there is none of that name.
    """
    import yaml

    path = manifests_folder() / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"no dataset is called '{name}'; known are {', '.join(manifest_names())}")
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Manifest.model_validate(content)


def manifest_names() -> list[str]:
    """The datasets that can be prepared, by name."""
    return sorted(path.stem for path in manifests_folder().glob("*.yaml"))
