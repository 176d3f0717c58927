"""The JSON Schema of a recipe, by which an editor completes and checks the file that is being written."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from langhops_cli.model.configuration import LANGUAGE_MODELS, ModelConfig
from langhops_cli.training.recipe import Recipe
from langhops_cli.training.recipe_files import BASE, shipped_recipes

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, Any]:
    """Sections, keys, types, limits and defaults, those of the model included.

    Only sections are required, and none in a file that builds on another: there, as in the model, any part of a section
    will do.
    """
    schema = Recipe.model_json_schema()
    for section in schema["$defs"].values():
        section.pop("required", None)
    model = TypeAdapter(ModelConfig).json_schema()
    groups: dict[str, Any] = model.pop("$defs")
    for group in groups.values():
        group.pop("required", None)
        group["additionalProperties"] = False
    keys = {name: key for name, key in model["properties"].items() if name != "level"}  # that is the stage's
    section = schema["$defs"]["ModelSection"]
    section["properties"] |= {name: _without_default(key) for name, key in keys.items()}
    section["additionalProperties"] = False
    base = groups["RefinerConfig"]["properties"]["base"]
    groups["RefinerConfig"]["properties"]["base"] = {
        "anyOf": [{"enum": sorted(LANGUAGE_MODELS)}, _without_default(base)]
    }
    schema["$defs"] |= {name: _without_defaults(group) for name, group in groups.items()}
    named = {
        "anyOf": [{"enum": list(shipped_recipes())}, {"type": "string", "pattern": r"\.ya?ml$"}],
        "description": "The recipe that this one builds on: one of the package's, or a file from this one's folder.",
    }
    schema["properties"] = {BASE: named, **schema["properties"]}
    required = schema.pop("required")
    return {
        "$schema": DRAFT,
        "title": "langhops recipe",
        **{key: value for key, value in schema.items() if key != "title"},
        "anyOf": [{"required": [BASE]}, {"required": required}],
    }


def _without_default(key: dict[str, Any]) -> dict[str, Any]:
    """The defaults of the model's keys are those of the preset, and there are several."""
    return {name: value for name, value in key.items() if name != "default"}


def _without_defaults(group: dict[str, Any]) -> dict[str, Any]:
    properties = group.get("properties", {})
    return group | {"properties": {name: _without_default(key) for name, key in properties.items()}}
