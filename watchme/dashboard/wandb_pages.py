"""A W&B project's workspace and report: built from what its runs logged, saved again under the same names."""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import wandb
import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from watchme.core.errors import WatchmeError
from watchme.dashboard.contents import Contents, Study, read_contents
from watchme.dashboard.panels import COLOURS, PRUNED, sections, sweep_panels
from watchme.tracking.setup import probe, server
from watchme.tracking.wandb_view import existing_view, view_name

_COLUMNS = ("summary:status", "summary:objective_value", "summary:best_epoch", "config:model.value.name")
_TITLE = "watchme"
_DESCRIPTION = "Which run to use, and what it still gets wrong. Made by `python -m watchme.dashboard wandb`."


@dataclass(frozen=True)
class Pages:
    """What was saved.

    Attributes:
        workspace: Address of the workspace.
        report: Address of the report.
        runs: How many runs they were made from.
        studies: How many sweeps.
    """

    workspace: str
    report: str
    runs: int
    studies: int


def save_pages(project: str, entity: str | None, study: str | None) -> Pages:
    """Make or bring up to date the workspace and the report of a project, or of one study in it.

    Args:
        project: W&B project; made where there is none.
        entity: Team or user; None: the default of the key's owner.
        study: Name of a study: both pages show its trials alone.

    Raises:
        WatchmeError: If W&B refuses, or the project has no such study.
    """
    try:
        probe(server())
        # W&B prints the addresses itself, and warns on the console.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            api = wandb.Api()
            entity = entity or api.default_entity
            if entity is None:
                raise WatchmeError("W&B names no default entity for this key; give --entity")
            contents = _contents(api, entity, project)
            if study is not None and study not in contents.studies:
                known = ", ".join(contents.studies) or "none"
                raise WatchmeError(f"--study {study}: the runs of {entity}/{project} are of these studies: {known}")
            name = view_name(entity, project, study)
            workspace = build_workspace(contents, project, entity, study)
            workspace._internal_name = name
            workspace._internal_id = existing_view(api, entity, project, name) or ""
            workspace.save()
            report = build_report(contents, project, entity, study)
            found = [old for old in api.reports(f"{entity}/{project}") if old.display_name == report.title]
            if found:
                report.id = found[0].id
            report.save()
            return Pages(workspace.url, report.url, contents.runs, len(contents.studies))
    except WatchmeError:
        raise
    except ConnectionError as error:
        raise WatchmeError(str(error)) from None
    except Exception as error:  # the client's own errors have no common base
        text = " ".join(str(error).split()) or type(error).__name__
        raise WatchmeError(f"W&B refused {project}: {text[:500]}") from error


def _contents(api: Any, entity: str, project: str) -> Contents:
    try:
        return read_contents(api.runs(f"{entity}/{project}", order="-created_at", per_page=100, lazy=False))
    except ValueError as error:
        if "find project" not in str(error):
            raise
        api.create_project(project, entity)
        return read_contents([])


def build_workspace(contents: Contents, project: str, entity: str, study: str | None = None) -> Any:
    """The workspace, not yet saved.

    Args:
        contents: What the project holds.
        project: W&B project.
        entity: Team or user.
        study: Shows the trials of one study alone.

    Returns:
        A wandb_workspaces Workspace. Sections on top are open; those of sweeps come first where one is asked for.
    """
    found = {name: one for name, one in contents.studies.items() if study in (None, name)}
    made = [
        _section(title, panels, is_open=index < 3) for index, (title, panels) in enumerate(sections(contents).items())
    ]
    sweeps = [_section(f"Sweep {name}", sweep_panels(one), is_open=study == name) for name, one in found.items()]
    statuses = {run: status for one in found.values() for run, status in one.statuses.items()}
    parameters = [f"config:{_column(name)}" for one in found.values() for name in one.parameters] if study else []
    return ws.Workspace(
        entity=entity,
        project=project,
        name=_TITLE if study is None else f"{_TITLE} sweep {study}",
        sections=[*sweeps, *made] if study else [*made, *sweeps],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=24),
        runset_settings=ws.RunsetSettings(
            filters=[expr.Metric("Group") == study] if study else [],
            order=[expr.Ordering(expr.Metric("CreatedTimestamp"), ascending=False)],
            pinned_columns=["run:displayName", *_COLUMNS, *dict.fromkeys(parameters)],
            run_settings={run: ws.RunSettings(color=COLOURS[at]) for run, at in statuses.items() if at in COLOURS},
        ),
    )


def build_report(contents: Contents, project: str, entity: str, study: str | None = None) -> Any:
    """The report, not yet saved: the same sections below each other, and each sweep with its pruned trials apart."""
    everything = {"entity": entity, "project": project}
    blocks: list[Any] = [wr.TableOfContents()]
    if study is None:
        for title, panels in sections(contents).items():
            grid = wr.PanelGrid(runsets=[wr.Runset(name="runs", **everything)], panels=panels)
            blocks += [wr.H1(title), grid]
    for name, one in contents.studies.items():
        if study in (None, name):
            blocks += _sweep_blocks(one, everything)
    title = f"{_TITLE} {project}" if study is None else f"{_TITLE} sweep {study}"
    return wr.Report(
        project=project, entity=entity, title=title, description=_DESCRIPTION, blocks=blocks, width="fluid"
    )


def _sweep_blocks(study: Study, place: dict[str, str]) -> list[Any]:
    group = expr.Metric("Group") == study.name
    whole = wr.Runset(name="trials", filters=[group, expr.Summary("status") != "pruned"], **place)
    grey = {run: wr.RunSettings(color=PRUNED) for run, status in study.statuses.items() if status == "pruned"}
    text = f"{len(study.statuses)} trials, {len(grey)} of them pruned: grey, and a run set of their own."
    pruned = wr.Runset(
        name="pruned trials",
        filters=[group, expr.Summary("status") == "pruned"],
        run_settings=grey,
        **place,
    )
    return [wr.H1(f"Sweep {study.name}"), wr.P(text), wr.PanelGrid(runsets=[whole, pruned], panels=sweep_panels(study))]


def _section(title: str, panels: list[Any], *, is_open: bool) -> Any:
    layout = ws.SectionLayoutSettings(columns=3, rows=max(1, min(3, -(-len(panels) // 3))))
    return ws.Section(name=title, panels=panels, is_open=is_open, layout_settings=layout)


def _column(parameter: str) -> str:
    first, _, rest = parameter.partition(".")
    return f"{first}.value.{rest}" if rest else f"{first}.value"
