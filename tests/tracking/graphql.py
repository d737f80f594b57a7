"""GraphQL as far as a stand-in server needs it: what a query selects, and the shapes that W&B's client insists on."""

import re
from typing import Any

LAST_PAGE = {"__typename": "PageInfo", "hasNextPage": False, "endCursor": None}
_LISTS = {"edges", "features", "tags", "files", "aliases", "teams", "flags"}
_TIME = "2026-01-01T00:00:00"


def parse(query: str) -> tuple[str, dict[str, Any]]:
    """Name of an operation, and its selection as nested mappings.

    The keys are names of fields, `answered_as:field` where the two differ; the values are what is selected of it.
    """
    tokens = re.findall(r'"(?:\\.|[^"\\])*"|\.\.\.|[A-Za-z_]\w*|[{}():@]|[^\s\w]', re.sub(r"#[^\n]*", "", query))
    place = 0

    def skip(opening: str, closing: str) -> None:
        nonlocal place
        depth = 0
        while True:
            depth += (tokens[place] == opening) - (tokens[place] == closing)
            place += 1
            if depth == 0:
                return

    def fields() -> dict[str, Any]:
        nonlocal place
        found: dict[str, Any] = {}
        place += 1
        while tokens[place] != "}":
            if tokens[place] == "...":
                place += 1
                if tokens[place] == "on":
                    place += 2
                elif tokens[place] not in "{@":
                    found[f"...{tokens[place]}"] = None
                    place += 1
                    continue
                while tokens[place] == "@":
                    place += 2
                    skip("(", ")")
                for name, inner in fields().items():
                    found[name] = {**(found.get(name) or {}), **inner} if inner else found.get(name)
                continue
            key = tokens[place]
            place += 1
            if tokens[place] == ":":
                key += f":{tokens[place + 1]}"
                place += 2
            if tokens[place] == "(":
                skip("(", ")")
            while tokens[place] == "@":
                place += 2
                if tokens[place] == "(":
                    skip("(", ")")
            found[key] = fields() if tokens[place] == "{" else None
        place += 1
        return found

    name, operation, fragments = "", {}, {}
    while place < len(tokens):
        kind, title = tokens[place], tokens[place + 1] if place + 1 < len(tokens) else ""
        while tokens[place] != "{":
            if tokens[place] == "(":
                skip("(", ")")
            else:
                place += 1
        if kind == "fragment":
            fragments[title] = fields()
        else:
            name, operation = title if kind in ("query", "mutation") else "", fields()
    return name, _spread(operation, fragments)


def _spread(selection: dict[str, Any], fragments: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in selection.items():
        items = _spread(fragments[key[3:]], fragments).items() if key.startswith("...") else ((key, inner),)
        for name, below in items:
            deeper = _spread(below, fragments) if below else None
            found[name] = {**(found.get(name) or {}), **deeper} if deeper else found.get(name)
    return found


def select(selection: dict[str, Any], known: Any) -> dict[str, Any]:
    """The selected fields of what is known."""
    answer: dict[str, Any] = {}
    for key, inner in selection.items():
        name, field = key.partition(":")[0], key.rpartition(":")[2]
        value = known.get(field, [] if field in _LISTS else None)
        if inner and isinstance(value, list):
            answer[name] = [select(inner, item) for item in value]
        elif inner and isinstance(value, dict):
            answer[name] = select(inner, value)
        else:
            answer[name] = value
    return answer


def project_node(name: str, entity: str) -> dict[str, Any]:
    """A project."""
    kept = {"createdAt": _TIME, "isBenchmark": False, "readOnly": False}
    owner = {"entityName": entity, "entity": {"id": "e", "name": entity}}
    return {"__typename": "Project", "id": "p", "internalId": "UHJvamVjdDox", "name": name, **owner, **kept}


def membership(artifact: dict[str, Any], project: dict[str, Any]) -> dict[str, Any]:
    """A version of an artifact as a member of its collection, with what the client's own models require."""
    collection = {"__typename": "ArtifactSequence", "name": artifact["name"], "project": project}
    aliases = [{"__typename": "ArtifactAlias", "id": "a", "alias": name} for name in artifact["aliases"]]
    version = {
        "__typename": "Artifact",
        **{key: artifact[key] for key in ("id", "digest", "metadata", "description")},
        **{"state": "COMMITTED", "versionIndex": artifact["version"], "artifactType": {"name": artifact["type"]}},
        **{"artifactSequence": collection, "tags": [], "historyStep": None, "commitHash": "c"},
        **{"ttlDurationSeconds": -2, "ttlIsInherited": True, "size": 1, "fileCount": 1},
        **{"createdAt": _TIME, "updatedAt": _TIME},
        "aliases": [{**alias, "artifactCollection": collection} for alias in aliases],
    }
    kind = {"__typename": "ArtifactCollectionMembership", "id": "m", "createdAt": _TIME}
    whole = {"versionIndex": artifact["version"], "aliases": aliases, "artifactCollection": collection}
    return {**kind, **whole, "artifact": version}
