"""racegate schema: what configurations and results look like, as JSON schemas."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Described(StrEnum):
    """What has a published schema."""

    CONFIG = "config"
    RESULT = "result"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("schema")(schema)


def schema(what: Annotated[Described, typer.Argument(help="config: racegate.toml; result: what --json writes")]) -> int:
    """Print the JSON schema of racegate.toml or of a result, for editors and pipelines.

    Example: racegate schema config > racegate-config.json
    """
    import json  # noqa: PLC0415 - not needed for --help
    from pathlib import Path  # noqa: PLC0415

    import harness.run  # noqa: PLC0415
    from harness.config.published import config_schema  # noqa: PLC0415

    if what is Described.CONFIG:
        print(json.dumps(config_schema(), indent=2))
    else:
        print((Path(harness.run.__file__).parent / "schemas" / "result-1.json").read_text(), end="")
    return 0
