"""`python -m watchme.dashboard wandb --project people`: a saved workspace and a report of a W&B project."""

import argparse
import os
import sys

from watchme.core.errors import WatchmeError
from watchme.tracking.setup import DEFAULT_PROJECT, has_key, server


def main() -> int:
    """Run the command line; the exit status is 2 where there is no key, and 1 where W&B refuses."""
    parser = argparse.ArgumentParser(prog="python -m watchme.dashboard", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    wandb = kinds.add_parser("wandb", help="a workspace and a report in W&B; run it again to bring them up to date")
    project = os.environ.get("WANDB_PROJECT", DEFAULT_PROJECT)
    wandb.add_argument("--project", default=project, help="W&B project, as tracker.project (default: %(default)s)")
    wandb.add_argument(
        "--entity", default=os.environ.get("WANDB_ENTITY"), help="team or user (default: that of the key's owner)"
    )
    wandb.add_argument("--study", help="pages of one sweep's trials alone")
    arguments = parser.parse_args()
    if not has_key():
        print(f"No W&B key for {server()}.\n    Log in with `wandb login`, or set WANDB_API_KEY", file=sys.stderr)
        return 2
    from watchme.dashboard.wandb_pages import save_pages

    try:
        pages = save_pages(arguments.project, arguments.entity, arguments.study)
    except WatchmeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"Made from {_count(pages.runs, 'run')} and {_count(pages.studies, 'sweep')}:")
    print(f"  workspace  {pages.workspace}")
    print(f"  report     {pages.report}")
    return 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


if __name__ == "__main__":
    sys.exit(main())
