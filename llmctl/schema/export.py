"""JSON Schema of each stage's recipe, generated from the classes and shipped in `schema/json/`.

`python -m llmctl.schema.export` writes the files; with `--check` it fails when one is stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from llmctl.errors import RecipeError
from llmctl.schema.base import RECIPES, schema_of
from llmctl.words import nearest

FOLDER = Path(__file__).parent / "json"


def text_of(stage: str) -> str:
    """The JSON Schema (draft 2020-12) of a stage, as text."""
    if stage not in RECIPES:
        near = nearest(stage, RECIPES)
        hint = f", did you mean '{near}'?" if near else ""
        raise RecipeError(f"no stage named '{stage}'{hint}; there are: {', '.join(RECIPES)}")
    schema = schema_of(stage).model_json_schema()
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "A recipe that this one is merged onto; its path is relative to this file.",
    }
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **once(schema)}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def once(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with each choice of a backend's kinds written once, under `$defs`.

    A judge may hold an engine, and a builder a judge: written in place, the choices of one room
    would stand many times in a file.
    """
    names: dict[str, str] = {}
    places: dict[str, Any] = schema.setdefault("$defs", {})

    def moved(node: Any) -> Any:
        if isinstance(node, list):
            return [moved(each) for each in node]
        if not isinstance(node, dict):
            return node
        node = {key: moved(value) for key, value in node.items()}
        options = node.get("anyOf")
        if not options or not isinstance(options[0], dict) or "enum" not in options[0]:
            return node
        text = json.dumps(options, sort_keys=True)
        if text not in names:
            names[text] = f"kinds-{len(names) + 1}"
            places[names[text]] = {"anyOf": options}
        del node["anyOf"]
        return {"$ref": f"#/$defs/{names[text]}", **node}

    found: dict[str, Any] = moved({key: each for key, each in schema.items() if key != "$defs"})
    for name in [name for name in places if name not in names.values()]:
        places[name] = moved(places[name])
    return {"$defs": places, **found} if places else found


def stale() -> list[str]:
    """The stages whose shipped schema is not what the classes give."""
    return [
        stage
        for stage in RECIPES
        if not (FOLDER / f"{stage}.json").is_file()
        or (FOLDER / f"{stage}.json").read_text(encoding="utf-8") != text_of(stage)
    ]


if __name__ == "__main__":
    old = stale()
    if "--check" in sys.argv:
        if old:
            sys.exit(f"stale JSON Schema: {', '.join(old)}; run python -m llmctl.schema.export")
    else:
        FOLDER.mkdir(exist_ok=True)
        for each in old:
            (FOLDER / f"{each}.json").write_text(text_of(each), encoding="utf-8")
            print(FOLDER / f"{each}.json")
