"""racegate audit: the books of a database that already exists."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.config.sections import ServiceConfig
    from harness.run.audit import Audited
    from harness.run.repairs import Repair
    from harness.stores.base import StoreKind


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("audit")(audit)


def audit(
    postgres: Annotated[
        str | None, typer.Option(help="URL of a PostgreSQL database; ${NAME} is taken from the environment")
    ] = None,
    mongo: Annotated[str | None, typer.Option(help="URL of a MongoDB database; ${NAME} is taken from the environment")] = None,
    config: Annotated[Path, typer.Option(help="how its books are read", metavar="FILE")] = Path("racegate.toml"),
    policy: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="what the numbers must obey; default: the configuration's")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="only documents dated then or later: 2026-11-01, 2026-11-01T08:00, or 24h ago", metavar="TIME"),
    ] = None,
    timeout: Annotated[
        Any, typer.Option(parser=options.seconds, metavar="TIME", help="the longest that one statement may take")
    ] = "300s",
    patience: Annotated[
        Any,
        typer.Option(
            parser=options.seconds, metavar="TIME", help="how long open transactions are waited for, where numbers miss"
        ),
    ] = "30s",
    repair: Annotated[Path | None, typer.Option(help="write the proposed repair to a file instead", metavar="FILE")] = None,
    json: options.Json = None,
) -> int:
    """Look at a live database, read only, and say what is wrong with its books.

    One read-only transaction sees everything; any role that may read will do. Reports duplicates, gaps by scope and over all,
    balances that drifted, double approvals, overpaid terms and missing audit rows, and proposes commands for a repair. It
    never runs them.

    Example: racegate audit --postgres '${DATABASE_URL}' --config racegate.toml --since 24h
    """
    from harness.cli.output import say, write_json  # noqa: PLC0415 - heavy, and not needed for --help
    from harness.cli.running import restore_interrupts  # noqa: PLC0415
    from harness.config.policy import load_policy  # noqa: PLC0415
    from harness.config.service import load_service, policy_of  # noqa: PLC0415
    from harness.run.audit import AuditRequest  # noqa: PLC0415
    from harness.run.audit import audit as look  # noqa: PLC0415
    from harness.run.repairs import repairs  # noqa: PLC0415
    from harness.run.result import exit_status_of  # noqa: PLC0415
    from harness.targets.books_stream import open_snapshot  # noqa: PLC0415

    restore_interrupts()
    service = ("target", "login", "operations", "runs")
    described = load_service(config, without=(*service, "store") if postgres or mongo else service)
    kind, url = _where(described, postgres, mongo)
    rules = load_policy(policy) if policy else policy_of(described, "unique")
    request = AuditRequest(
        config=described,
        policy=load_policy(rules) if isinstance(rules, str) else rules,
        since=_moment(since) if since else None,
        patience=patience,
    )
    snapshot = open_snapshot(kind, url, timeout=timeout)
    try:
        say(f"racegate: auditing {snapshot.description} against policy {request.policy.name}, read only")
        found = look(snapshot, request, _Progress())
    finally:
        snapshot.close()
    proposed = repairs(found, described)
    if json is not None:
        write_json(_document(found, proposed), json)
    if repair is not None:
        _write(repair, _script(proposed, kind))
    if json != "-":
        print(_text(found, proposed if repair is None else (), kind))
    return exit_status_of([found.verdict])


class _Progress:
    """Says every few seconds how far the reading is."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, table: str, count: int) -> None:
        import time  # noqa: PLC0415

        from harness.cli.output import LINE_EVERY, say  # noqa: PLC0415

        now = time.monotonic()
        if not self._last:
            self._last = now
        elif now - self._last >= LINE_EVERY:
            self._last = now
            say(f"racegate: {count:,} rows of {table} read")


def _where(config: ServiceConfig, postgres: str | None, mongo: str | None) -> tuple[StoreKind, str]:
    from harness.config.placeholders import variables, with_environment  # noqa: PLC0415
    from harness.model import UsageError  # noqa: PLC0415
    from harness.stores.base import StoreKind  # noqa: PLC0415
    from harness.stores.redaction import conceal  # noqa: PLC0415

    if postgres and mongo:
        raise UsageError("--postgres and --mongo contradict each other: the books are read from one database")
    store = config.store
    spec, kind = (postgres, StoreKind.POSTGRES) if postgres else (mongo, StoreKind.MONGO)
    if not spec:
        spec, kind = (store.postgres, StoreKind.POSTGRES) if store.postgres else (store.mongo, StoreKind.MONGO)
    conceal(variables(spec))
    url = str(with_environment(spec or "", f"--{kind}"))
    if "://" not in url:
        raise UsageError("name the database that is to be looked at: --postgres URL or --mongo URL")
    reads_mongo = any(b.collection is not None for b in config.books.values())
    if config.books and reads_mongo != (kind is StoreKind.MONGO):
        raise UsageError(f"{config.file} reads its books from {'MongoDB' if reads_mongo else 'PostgreSQL'}; give its URL")
    conceal({"url": url})
    return kind, url


def _moment(text: str) -> datetime.datetime:
    """Return the moment that a date, a date with time, or a length of time before now means; without a zone it is UTC."""
    from harness.model import UsageError  # noqa: PLC0415

    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        try:
            return datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=options.seconds(text))
        except (typer.BadParameter, OverflowError):
            raise UsageError(f"--since {text!r} is neither a date (2026-11-01), nor a length of time such as 24h") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _document(found: Audited, proposed: Sequence[Repair]) -> dict[str, Any]:
    from harness.run.result import finding_to_json  # noqa: PLC0415

    return {
        "schema": "racegate.audit/1",
        "verdict": found.verdict.value,
        "store": found.store,
        "policy": found.policy.name,
        "rows": dict(found.rows),
        "seconds": round(found.seconds, 3),
        "findings": [finding_to_json(f) for f in found.findings],
        "checked": list(found.checked),
        "skipped": dict(found.skipped),
        "repairs": [{"invariant": r.invariant, "why": r.why, "commands": list(r.commands)} for r in proposed],
    }


def _text(found: Audited, proposed: Sequence[Repair], kind: StoreKind) -> str:
    import textwrap  # noqa: PLC0415

    def folded(text: str, indent: str) -> str:
        return textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=indent)

    counted = ", ".join(f"{count:,} {table}" for table, count in found.rows.items()) or "nothing"
    lines = [
        f"{found.verdict.value.upper():<8}{found.store}",
        f"        {counted}; {found.seconds:.1f} s, policy {found.policy.name}",
    ]
    for finding in found.findings:
        lines += ["", f"  {finding.invariant:<13} {finding.finding_class.value}", folded(finding.message, "    ")]
    lines += ["", folded(f"checked: {', '.join(found.checked) or 'nothing'}", "        ")]
    if proposed:
        lines += ["", _script(proposed, kind).rstrip()]
    return "\n".join(lines)


def _script(proposed: Sequence[Repair], kind: StoreKind) -> str:
    mark = "--" if kind.value == "postgres" else "//"
    lines = [f"{mark} Proposed repair. Nothing of it was run: read it, change it, try it on a copy."]
    for repair in proposed:
        lines += [
            "",
            f"{mark} {repair.invariant}: {repair.why}",
            *(c.replace("-- ", f"{mark} ", 1) if c.startswith("-- ") else c for c in repair.commands),
        ]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    from harness.model import EnvironmentProblem  # noqa: PLC0415

    try:
        path.write_text(text)
    except OSError as e:
        raise EnvironmentProblem(f"cannot write --repair {path}: {e.strerror}") from e
