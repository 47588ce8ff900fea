"""Where each value of a recipe comes from: YAML with line and column, layers, origins.

A recipe is made of layers: defaults < `extends` < the file < `LLMCTL_SET__...` < `--set`.
`Layer` is one of them: plain data plus the place of every key. `merged` joins them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from llmctl.errors import RecipeError

Loc = tuple[str | int, ...]
ENV_PREFIX = "LLMCTL_SET__"
LARGEST = 100_000
"""Most values of a recipe: aliases of aliases would make any number of a few lines."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: `no` is a word, `1e-4` is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith((":bool", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?
        |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
        re.X,
    ),
    list("-+0123456789."),
)


@dataclass(frozen=True)
class Place:
    """Where a value was written."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass
class Layer:
    """One source of values; `places` has the place of every key and list item."""

    data: dict[str, Any]
    places: dict[Loc, Place] = field(default_factory=dict)

    def place(self, loc: Loc) -> Place | None:
        """The place of `loc`, or of the nearest thing around it."""
        while loc not in self.places and loc:
            loc = loc[:-1]
        return self.places.get(loc)


def read_yaml(path: Path) -> Layer:
    """One recipe file; raises RecipeError with file, line and column."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(
            f"{path}: no such recipe; `llmctl recipes list` shows the bundled ones"
        ) from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a folder, a recipe file is needed") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise RecipeError(f"{path}:{line}: not UTF-8 text (byte {byte:#04x})") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Layer:
    """YAML text with places; duplicate keys and non-mappings are errors."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise RecipeError(f"{name}: is empty; a recipe starts with `stage: ...`")
        if not isinstance(node, yaml.MappingNode):
            what = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
            raise RecipeError(f"{name}:{_line(node)}: is {what}; a recipe is a mapping of keys")
        layer = Layer({})
        layer.places[()] = Place(name, _line(node), node.start_mark.column + 1)
        layer.data = _build(loader, node, (), name, layer.places, ())
        return layer
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = _problem(error)
        if problem == "but found another document":
            problem = "a recipe is one document; take the `---` away"
        raise RecipeError(f"{where}: not valid YAML: {problem}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise RecipeError(f"{name}: is nested too deeply for a recipe") from None
    finally:
        if loader is not None:
            loader.dispose()


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _key(node: yaml.Node, name: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise RecipeError(f"{name}:{_line(node)}: a key must be a word")
    return str(node.value)


def _build(
    loader: _Loader,
    node: yaml.Node,
    loc: Loc,
    name: str,
    places: dict[Loc, Place],
    around: tuple[yaml.Node, ...],
) -> Any:
    """Plain data of a node; fills `places` on the way."""
    if any(node is each for each in around):
        raise RecipeError(f"{name}:{_line(node)}: an alias that contains itself")
    if len(places) > LARGEST:
        raise RecipeError(f"{name}:{_line(node)}: a recipe has at most {LARGEST:,} values")
    around = (*around, node)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            key = _key(key_node, name)
            if key in seen and key != "<<":
                raise RecipeError(
                    f"{name}:{_line(key_node)}:{key_node.start_mark.column + 1}: `{key}` is there "
                    f"twice; the first is in line {seen[key]}"
                )
            seen[key] = _line(key_node)
        own = {key_node.value for key_node, _ in node.value}
        loader.flatten_mapping(node)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:  # merged keys come first, own keys win
            key = _key(key_node, name)
            if key in result and key not in own:
                continue
            at = (*loc, key)
            for old in [p for p in places if p[: len(at)] == at]:
                del places[old]
            places[at] = Place(name, _line(key_node), key_node.start_mark.column + 1)
            result[key] = _build(loader, value_node, at, name, places, around)
        return result
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            places[(*loc, index)] = Place(name, _line(item), item.start_mark.column + 1)
            items.append(_build(loader, item, (*loc, index), name, places, around))
        return items
    try:
        return loader.construct_object(node)
    except ValueError as error:
        raise RecipeError(f"{name}:{_line(node)}: cannot be read as a value: {error}") from None


def merge(below: Layer, above: Layer) -> Layer:
    """`above` wins key by key; lists and a backend of another `kind` are replaced whole."""
    places = dict(below.places)
    data = _merge(below.data, above.data, (), places, above.places)
    return Layer(data, places)


def _merge(
    below: Any, above: Any, loc: Loc, places: dict[Loc, Place], above_places: Mapping[Loc, Place]
) -> Any:
    if isinstance(below, str) and isinstance(above, dict) and "kind" not in above and loc:
        below = {"kind": below}  # `chunker: sentence` under `chunker.max_chars`
    same_kind = not (
        isinstance(above, dict)
        and isinstance(below, dict)
        and "kind" in below
        and above.get("kind", below["kind"]) != below["kind"]
    )
    if isinstance(below, dict) and isinstance(above, dict) and same_kind:
        result = dict(below)
        for key, value in above.items():
            at = (*loc, key)
            if key in below:
                result[key] = _merge(below[key], value, at, places, above_places)
            else:
                result[key] = value
                _take(at, places, above_places)
        if loc in above_places and loc not in places:
            places[loc] = above_places[loc]
        return result
    for old in [p for p in places if p[: len(loc)] == loc and len(p) > len(loc)]:
        del places[old]
    _take(loc, places, above_places)
    return above


def _take(loc: Loc, places: dict[Loc, Place], above: Mapping[Loc, Place]) -> None:
    for each, place in above.items():
        if each[: len(loc)] == loc:
            places[each] = place


def _problem(error: yaml.YAMLError) -> str:
    if getattr(error, "context", None) == "while scanning an alias":
        return "what begins with * needs quotes, or ./ before it"
    told = (getattr(error, name, None) for name in ("problem", "context"))
    return next(filter(None, told), "cannot be parsed")


def assigned(base: Layer, dotted: str, text: str, where: str) -> Layer:
    """`base` with one `KEY=VALUE` on top; list items are named by their number."""
    place = Place(where)
    try:
        value = yaml.load(text, Loader=_Loader) if text.strip() else None
    except yaml.YAMLError as error:
        problem = _problem(error)
        raise RecipeError(f"{where}: the value of {dotted} is not valid YAML: {problem}") from None
    path = dotted.split(".")
    if not all(path):
        raise RecipeError(f"{where}: the key '{dotted}' has an empty part")
    if path[0] == "extends":
        raise RecipeError(f"{where}: `extends` names a file and can be written in a recipe only")
    return _assign(base, path, value, place)


def _assign(base: Layer, path: list[str], value: Any, place: Place) -> Layer:
    at: Any = base.data
    for depth, part in enumerate(path):
        if isinstance(at, list):
            if not at:
                raise RecipeError(f"{place}: {'.'.join(path[:depth])} is empty; give it as a list")
            if not part.isdigit() or int(part) >= len(at):
                raise RecipeError(
                    f"{place}: {'.'.join(path[:depth])} is a list of {len(at)}; "
                    f"its items are 0 to {len(at) - 1}, not '{part}'"
                )
            parent: Loc = tuple(path[:depth])
            items = list(at)
            rest = path[depth + 1 :]
            if rest:
                inner = _assign(Layer({"_": at[int(part)]}), ["_", *rest], value, place)
                items[int(part)] = inner.data["_"]
            else:
                items[int(part)] = value
            places = dict(base.places)
            places[(*parent, int(part), *(int(r) if r.isdigit() else r for r in rest))] = place
            data = _replaced(base.data, list(parent), items)
            return Layer(data, places)
        at = at.get(part) if isinstance(at, dict) else None
    nested: Any = value
    for part in reversed(path):
        nested = {part: nested}
    layer = Layer(nested)
    for depth in range(1, len(path) + 1):
        layer.places[tuple(path[:depth])] = place
    return merge(base, layer)


def _replaced(data: dict[str, Any], path: list[Any], value: Any) -> dict[str, Any]:
    if not path:
        return dict(value)
    result = dict(data)
    result[path[0]] = value if len(path) == 1 else _replaced(data[path[0]], path[1:], value)
    return result


def environment_sets(environ: Mapping[str, str] | None = None) -> Iterator[tuple[str, str, str]]:
    """(dotted key, value, name) of every `LLMCTL_SET__A__B=VALUE`, in order of the names."""
    for name, value in sorted((environ if environ is not None else os.environ).items()):
        if name.upper().startswith(ENV_PREFIX):
            yield name[len(ENV_PREFIX) :].lower().replace("__", "."), value, name


_REFERENCE = re.compile(r"\$\{(env:([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?|recipe_dir|[^}]*)\}")


def expanded(layer: Layer, recipe_dir: Path) -> Layer:
    """`${env:NAME}`, `${env:NAME:-default}` and `${recipe_dir}` filled in; also reads numbers."""
    return Layer(_expand(layer.data, (), layer, recipe_dir), layer.places)


def _expand(value: Any, loc: Loc, layer: Layer, recipe_dir: Path) -> Any:
    if isinstance(value, dict):
        return {k: _expand(v, (*loc, k), layer, recipe_dir) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, (*loc, i), layer, recipe_dir) for i, v in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def fill(match: re.Match[str]) -> str:
        if match[1] == "recipe_dir":
            return str(recipe_dir)
        if match[2] is None:
            raise RecipeError(
                f"{layer.place(loc)}: {match[0]} is not known; there are ${{env:NAME}}, "
                f"${{env:NAME:-default}} and ${{recipe_dir}}"
            )
        found = os.environ.get(match[2], match[4])
        if found is None:
            raise RecipeError(
                f"{layer.place(loc)}: the environment variable {match[2]} is not set; "
                f"set it or write ${{env:{match[2]}:-default}}"
            )
        return found

    return _REFERENCE.sub(fill, value)


def layers_of(path: Path, seen: tuple[Path, ...] = ()) -> Iterable[Layer]:
    """The files of a recipe, the farthest `extends` first."""
    layer = read_yaml(path)
    here = path.resolve()
    if here in seen:
        raise RecipeError(f"{path}: `extends` comes back to this file")
    parent = layer.data.pop("extends", None)
    if parent is not None:
        place = layer.places.pop(("extends",))
        if not isinstance(parent, str) or not parent:
            raise RecipeError(f"{place}: `extends` takes the path of one recipe")
        target = path.parent / parent
        if not target.is_file():
            raise RecipeError(f"{place}: extends {target}, which is not there")
        yield from layers_of(target, (*seen, here))
    yield expanded(layer, path.parent)
