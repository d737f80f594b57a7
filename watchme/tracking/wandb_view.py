"""The saved W&B workspace that `python -m watchme.dashboard wandb` makes: its name, and how a run finds it."""

import hashlib
from typing import Any

_QUERY = """
query View($entityName: String, $name: String, $viewType: String, $viewName: String) {
  project(name: $name, entityName: $entityName) {
    allViews(viewType: $viewType, viewName: $viewName) { edges { node { id name } } }
  }
}
"""


def view_name(entity: str, project: str, study: str | None = None) -> str:
    """W&B's name of the view of a project, or of one study: the same each time, so that it is replaced."""
    digest = hashlib.sha256(f"watchme {entity}/{project}/{study or ''}".encode()).hexdigest()
    return f"nw-{digest[:11]}-v"


def view_url(project_url: str, name: str) -> str:
    """Address of a view.

    >>> view_url("https://wandb.ai/us/people", "nw-abc-v")
    'https://wandb.ai/us/people?nw=abc'
    """
    return f"{project_url}?nw={name.removeprefix('nw-').removesuffix('-v')}"


def existing_view(api: Any, entity: str, project: str, name: str) -> str | None:
    """The server's id of a view that was saved before, by one query; None where there is none.

    Args:
        api: A wandb.Api.
        entity: Team or user.
        project: W&B project.
        name: As `view_name` returns it.
    """
    from wandb_workspaces._graphql import execute_graphql  # as wandb's own transport differs between versions

    variables = {"entityName": entity, "name": project, "viewType": "project-view", "viewName": name}
    found = execute_graphql(api, _QUERY, variables).get("project") or {}
    edges = (found.get("allViews") or {}).get("edges") or []
    return next((str(edge["node"]["id"]) for edge in edges), None)
