"""What a W&B server keeps and answers: as much of its protocol as the client uses for runs, artifacts and views.

GraphQL answers are made from a query's own selection of fields, so that another version of the client, which asks for
more, is answered too: what is not known is null, or empty where the name is one of a list.
"""

import base64
import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tracking.graphql import LAST_PAGE, membership, parse, project_node, select

ENTITY = "tester"


@dataclass
class ServedRun:
    """What has arrived of one run: the bucket as last upserted, and its file stream."""

    name: str
    project: str
    upserts: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)

    @property
    def history(self) -> list[dict[str, Any]]:
        """Rows in the order of their lines."""
        return [json.loads(text) for _, text in sorted(self.lines.get("wandb-history.jsonl", {}).items())]

    @property
    def output(self) -> str:
        """The console log."""
        return "".join(text for _, text in sorted(self.lines.get("output.log", {}).items()))

    def last(self, name: str) -> Any:
        """The value that a bucket's field was last given."""
        return next((upsert[name] for upsert in reversed(self.upserts) if upsert.get(name) is not None), None)


class WandbServer:
    """The state of the server, and its answers.

    Attributes:
        runs: Run id -> what arrived of it.
        artifacts: As created, each with its aliases and, once uploaded, manifest and files.
        used: (run id, artifact id) of each artifact that a run declared as its input.
        links: Artifacts linked into a collection, each the mutation's variables.
        alerts: Each the mutation's variables.
        views: Saved views by name: workspaces and reports.
        operations: Name and variables of each GraphQL operation, in order.
        errors: What went wrong in the server itself; a test looks that there is none.
    """

    def __init__(self) -> None:
        self.url = ""
        self.lock = threading.RLock()
        self.runs: dict[str, ServedRun] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.used: list[tuple[str, str]] = []
        self.links: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []
        self.views: dict[str, dict[str, Any]] = {}
        self.projects: set[str] = set()
        self.uploads: dict[str, bytes] = {}
        self.operations: list[tuple[str, dict[str, Any]]] = []
        self.errors: list[str] = []

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Carry out one operation, and answer what it selects."""
        name, selection = parse(query)
        self.operations.append((name, variables))
        known: dict[str, Any] = {}
        for top in (key.rpartition(":")[2] for key in selection):
            handler = getattr(self, f"_{_snake(top)}", None)
            if handler is not None:
                known[top] = handler({**variables, **(variables.get("input") or {})})
        return select(selection, known)

    def _viewer(self, _: dict[str, Any]) -> Any:
        return {"id": "viewer", "entity": ENTITY, "username": ENTITY, "email": "t@example.org", "flags": "{}"}

    def _server_info(self, _: dict[str, Any]) -> Any:
        return {"cliVersionInfo": {"max_cli_version": "9.0.0"}, "latestLocalVersionInfo": None}

    def _model(self, variables: dict[str, Any]) -> Any:
        run = self.runs.get(variables["name"])
        project = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": ENTITY}}
        return {**project, "bucket": None if run is None else self._bucket(run)}

    def _bucket(self, run: ServedRun) -> dict[str, Any]:
        history = [text for _, text in sorted(run.lines.get("wandb-history.jsonl", {}).items())]
        return {
            "id": base64.b64encode(f"Run:v1:{run.name}:{run.project}:{ENTITY}".encode()).decode(),
            "name": run.name,
            "displayName": run.last("displayName"),
            "config": json.dumps(run.config),
            "wandbConfig": json.dumps({"t": 1}),
            "summaryMetrics": json.dumps(run.summary),
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": "[]",
            "historyLineCount": len(history),
            "eventsLineCount": len(run.lines.get("wandb-events.jsonl", {})),
            "logLineCount": len(run.lines.get("output.log", {})),
            "tags": run.last("tags") or [],
            "notes": run.last("notes"),
            "project": {"id": "p", "name": run.project, "entity": {"id": "e", "name": ENTITY}},
            "state": "finished" if run.exit_codes else "running",
            "user": {"name": ENTITY, "username": ENTITY},
            "stopped": False,
            "projectId": 1,
            "createdAt": "2026-01-01T00:00:00",
            "group": run.last("groupName"),
        }

    def _upsert_bucket(self, variables: dict[str, Any]) -> Any:
        name, project = variables["name"], variables.get("project") or "uncategorized"
        inserted = name not in self.runs
        run = self.runs.setdefault(name, ServedRun(name, project))
        self.projects.add(project)
        run.upserts.append(variables)
        if variables.get("config"):
            run.config = json.loads(variables["config"])
        if variables.get("summaryMetrics"):
            run.summary = json.loads(variables["summaryMetrics"])
        return {"bucket": self._bucket(run), "inserted": inserted}

    def _upsert_model(self, variables: dict[str, Any]) -> Any:
        self.projects.add(variables["name"])
        return {"model": project_node(variables["name"], ENTITY), "inserted": True}

    def _models(self, _: dict[str, Any]) -> Any:
        return {
            "edges": [{"node": project_node(name, ENTITY)} for name in sorted(self.projects)],
            "pageInfo": LAST_PAGE,
        }

    def _project(self, variables: dict[str, Any]) -> Any:
        names = [variables.get(key) for key in ("project", "projectName", "name")]
        project = next((name for name in names if name in self.projects), None)
        if project is None:
            return None
        runs = [run for run in self.runs.values() if run.project == project]
        views = [view for view in self.views.values() if view["projectName"] == project]
        wanted = [
            view
            for view in views
            if variables.get("viewName") in (None, view["name"]) and variables.get("viewType") in (None, view["type"])
        ]
        one = next((run for run in runs if run.name in (variables.get("run"), variables.get("name"))), None)
        return {
            **project_node(project, ENTITY),
            "runCount": len(runs),
            "runs": {
                "edges": [{"node": self._bucket(run), "cursor": run.name} for run in runs],
                "pageInfo": LAST_PAGE,
                "totalCount": len(runs),
            },
            "run": None if one is None else self._bucket(one),
            "bucket": None if one is None else self._bucket(one),
            "allViews": {
                "edges": [{"node": view, "cursor": view["id"]} for view in wanted],
                "pageInfo": LAST_PAGE,
            },
            "artifactCollectionMembership": self._artifact_named(str(variables.get("name"))),
        }

    def _upsert_view(self, variables: dict[str, Any]) -> Any:
        found = next((view for view in self.views.values() if view["id"] == variables.get("id")), None)
        view = {**variables, "id": found["id"] if found else f"view{len(self.views)}"}
        view["project"] = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
        self.views[view["id"]] = view
        return {"view": view, "inserted": found is None}

    def _notify_scriptable_run_alert(self, variables: dict[str, Any]) -> Any:
        self.alerts.append(variables)
        return {"success": True}

    def _create_run_files(self, variables: dict[str, Any]) -> Any:
        files = [
            {"name": name, "uploadUrl": f"{self.url}/upload/run/{variables['run']}/{name}"}
            for name in variables["files"]
        ]
        return {"runID": variables["run"], "uploadHeaders": [], "files": files}

    def _create_artifact(self, variables: dict[str, Any]) -> Any:
        same = [at for at in self.artifacts if at["name"] == variables["artifactCollectionName"]]
        names = [alias["alias"] for alias in variables.get("aliases") or []]
        found = next((at for at in same if at["digest"] == variables["digest"]), None)
        if found is None:
            found = {
                "id": base64.b64encode(f"artifact{len(self.artifacts)}".encode()).decode(),
                "name": variables["artifactCollectionName"],
                "state": "PENDING",
                "version": len(same),
                "aliases": [],
                **{key: variables.get(key) for key in ("digest", "metadata", "description")},
                "type": variables["artifactTypeName"],
                "project": variables["projectName"],
                "manifest": None,
            }
            self.artifacts.append(found)
        for other in same:
            other["aliases"] = [alias for alias in other["aliases"] if alias not in names]
        found["aliases"] = [*found["aliases"], *names]
        sequence = {"id": f"sequence-{found['name']}", "latestArtifact": None}
        return {"artifact": {**found, "versionIndex": found["version"], "artifactSequence": sequence}}

    def _artifact_of(self, artifact_id: str) -> dict[str, Any]:
        return next(artifact for artifact in self.artifacts if artifact["id"] == artifact_id)

    def _artifact_named(self, name: str) -> Any:
        """A version of a collection, e.g. `weights-abc:best`, as the collection's member."""
        collection, _, alias = name.partition(":")
        for artifact in reversed(self.artifacts):
            if artifact["name"] == collection and alias in (*artifact["aliases"], f"v{artifact['version']}"):
                return membership(artifact, project_node(artifact["project"], ENTITY))
        return None

    def _artifact(self, variables: dict[str, Any]) -> Any:
        """By its id."""
        found = self._artifact_of(variables["id"])
        return membership(found, project_node(found["project"], ENTITY))["artifact"]

    def _create_artifact_manifest(self, variables: dict[str, Any]) -> Any:
        artifact_id = variables["artifactID"]
        url = f"{self.url}/upload/manifest/{artifact_id}"
        return {"artifactManifest": {"id": artifact_id, "file": {"id": "f", "uploadUrl": url, "uploadHeaders": []}}}

    def _update_artifact_manifest(self, variables: dict[str, Any]) -> Any:
        return self._create_artifact_manifest({"artifactID": variables["artifactManifestID"]})

    def _create_artifact_files(self, variables: dict[str, Any]) -> Any:
        edges = []
        for wanted in variables["artifactFiles"]:
            path = f"{wanted['artifactID']}/{wanted['name']}"
            node = {"storagePath": path, "uploadUrl": f"{self.url}/upload/artifact/{path}", "uploadHeaders": []}
            edges.append({"node": {**node, "artifact": {"id": wanted["artifactID"]}}})
        return {"files": {"edges": edges}}

    def _commit_artifact(self, variables: dict[str, Any]) -> Any:
        artifact = self._artifact_of(variables["artifactID"])
        artifact["state"] = "COMMITTED"
        return {"artifact": artifact}

    def _use_artifact(self, variables: dict[str, Any]) -> Any:
        self.used.append((variables["runName"], variables["artifactID"]))
        return {"artifact": self._artifact_of(variables["artifactID"])}

    def _link_artifact(self, variables: dict[str, Any]) -> Any:
        self.links.append(variables)
        return {"versionIndex": len(self.links) - 1}

    def upload(self, path: str, body: bytes) -> None:
        """Take an uploaded file: of a run, of an artifact, or an artifact's manifest."""
        kind, _, rest = unquote(path).partition("/")
        owner, _, name = rest.partition("/")
        if kind == "run":
            self.runs[owner].files[name] = body
        elif kind == "manifest":
            self._artifact_of(owner)["manifest"] = json.loads(body)
        self.uploads[rest] = body

    def stream(self, run_name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Take a piece of a run's file stream: lines of files from an offset on, and how the run ended."""
        run = self.runs[run_name]
        for name, piece in (body.get("files") or {}).items():
            lines = run.lines.setdefault(name, {})
            for number, text in enumerate(piece["content"], start=piece["offset"]):
                lines[number] = text
            if name == "wandb-summary.json":
                run.summary = json.loads(piece["content"][-1])
        if body.get("complete"):
            run.exit_codes.append(body["exitcode"])
        return {"exitcode": None, "limits": {}}


def _snake(name: str) -> str:
    return re.sub(r"(?=[A-Z])", "_", name).lower()
