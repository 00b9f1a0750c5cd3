"""What a step touches, and which steps of two clients may be swapped without changing anything.

The relation is conservative: whatever is not understood conflicts with everything. On PostgreSQL it knows multi-version
concurrency (a plain read does not meet another's uncommitted write, only the commit that publishes it):

- BEGIN meets nothing; sent together with the first statement of its transaction it adds nothing to it.
- A plain read meets the commit (or autocommit write) of another's change to what it reads.
- Writes and row locks of one table meet each other, and the commit or rollback that lets go of them.
- Two inserts into a table meet only if their values could collide in a unique index: the keys are compared where the statement
  gives them as literals or parameters, and are taken to collide where it does not.
- A commit or rollback stands for all that its transaction touched. Two commits do not meet.
- Sequences and advisory locks act at once, not at commit. Unknown functions, triggers and DDL meet everything.
- At REPEATABLE READ, and in a MongoDB transaction, the first statement takes the snapshot: it reads the world, and those after
  it read nothing new. Under SERIALIZABLE every statement reads the world, and reads also meet writes.
- A view stands for the tables that it reads; the tables of one inheritance tree (partitions) stand for one another. What rules,
  triggers, policies, or functions of the user's may do, and writes through views, meets everything.
- A row is told apart from its table's others where a statement names it by its whole primary key (``_id``), and changes nothing
  that a unique index looks at.

Weakness: other rows that a statement reads, updates or locks are not told apart, only tables. It costs executions, never bugs.
What is not seen: in which order generated ids and the clock's times are drawn. Two inserts that draw nothing else may be swapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlglot
from bson import ObjectId
from sqlglot import expressions as exp

from harness.wire.base import Step, StepKind

WORLD = "*"
"""A table name that stands for all of them."""

ROW = "\0"
"""Between a table's name and the key of one of its rows."""

SNAPSHOT = frozenset({"(the transaction's snapshot)"})
"""What is read by a statement that sees nothing new."""

ANY = "*"
"""A key that collides with every other of its index."""

PURE_FUNCTIONS = frozenset(
    {"hashtext", "to_regclass", "lpad", "generate_series", "jsonb_build_object", "to_jsonb", "clock_timestamp", "pg_backend_pid"}
)
SEQUENCE_FUNCTIONS = frozenset({"nextval", "setval"})
ADVISORY = ("pg_advisory_", "pg_try_advisory_")


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """What a step touches.

    ``reads``, ``writes`` (row locks included) and ``inserts`` are tables, or rows of them (table, `ROW`, key). ``keys`` are what
    inserts put into unique indexes: the index and the key, `ANY` where it is not known. ``at_once`` are resources that know no
    transaction. ``publishes``: what is written is visible afterwards (a commit, or a statement that commits by itself).
    ``bare``: a commit or rollback, which does nothing else.
    """

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    inserts: frozenset[str] = frozenset()
    keys: frozenset[tuple[str, str]] = frozenset()
    at_once: frozenset[str] = frozenset()
    publishes: bool = False
    bare: bool = False
    unknown: bool = False
    serializable: bool = False

    def __or__(self, other: Footprint) -> Footprint:
        return Footprint(
            reads=self.reads | other.reads,
            writes=self.writes | other.writes,
            inserts=self.inserts | other.inserts,
            keys=self.keys | other.keys,
            at_once=self.at_once | other.at_once,
            publishes=self.publishes or other.publishes,
            unknown=self.unknown or other.unknown,
            serializable=self.serializable or other.serializable,
        )


NOTHING = Footprint()
UNKNOWN = Footprint(unknown=True)
UNDONE = Footprint(publishes=True, bare=True)
"""The end of a transaction that touched nothing."""


def independent(one: Footprint, other: Footprint) -> bool:
    """Tell whether two steps of different clients may be swapped."""
    if one.unknown or other.unknown:
        return NOTHING in (one, other)
    if one.at_once & other.at_once:
        return False
    if one.bare and other.bare and not (one.serializable or other.serializable):
        return True
    if (
        _collide(one.keys, other.keys)
        or _meet(one.writes, other.writes)
        or _meet(one.writes, other.inserts)
        or _meet(one.inserts, other.writes)
    ):
        return False
    for a, b in ((one, other), (other, one)):
        if (a.publishes or a.serializable or b.serializable) and _meet(a.writes | a.inserts, b.reads):
            return False
    return True


def _meet(some: frozenset[str], others: frozenset[str]) -> bool:
    if not some or not others:
        return False
    if WORLD in some or WORLD in others or some & others:
        return True
    return any(_holds(a, others) for a in some if ROW not in a) or any(_holds(b, some) for b in others if ROW not in b)


def _holds(table: str, others: frozenset[str]) -> bool:
    return any(other.startswith(table + ROW) for other in others)


def table_of(name: str) -> str:
    """Return the table of a footprint's table or row."""
    return name.partition(ROW)[0]


def _collide(some: frozenset[tuple[str, str]], others: frozenset[tuple[str, str]]) -> bool:
    return any(a[0] == b[0] and (a[1] == b[1] or ANY in (a[1], b[1])) for a in some for b in others)


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What the statements do not say.

    ``unique`` are a table's unique indexes, name and columns (none for one over an expression); ``defaults`` the columns that
    are filled in where an insert leaves them out; ``triggered`` tables with triggers; ``parents`` those that foreign keys of a
    table refer to. ``primary`` are the columns of the tables' primary keys. ``conditional`` are tables with a unique index over
    some of their rows or over an expression: any change may make two rows collide. ``isolation`` is the level of transactions
    that name none. ``loose`` are columns, by table and name, of which one value can be written in several ways: a date, a number
    with a scale, text that is padded.

    ``stands_for`` are the tables behind a name that is not that of a table of its own: those that a view reads, and one of an
    inheritance tree for all of its members. ``opaque`` are names of which nobody can say what is behind them. ``referred`` are
    the columns of a table that foreign keys refer to. ``functions`` are those that users made,
    `ANY` among them if they are behind operators or casts.
    """

    unique: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = field(default_factory=dict)
    defaults: frozenset[tuple[str, str]] = frozenset()
    triggered: frozenset[str] = frozenset()
    parents: Mapping[str, frozenset[str]] = field(default_factory=dict)
    primary: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    conditional: frozenset[str] = frozenset()
    isolation: str = "read committed"
    stands_for: Mapping[str, frozenset[str]] = field(default_factory=dict)
    opaque: frozenset[str] = frozenset()
    referred: Mapping[str, frozenset[str]] = field(default_factory=dict)
    functions: frozenset[str] = frozenset()
    loose: frozenset[tuple[str, str]] = frozenset()

    def behind(self, names: Iterable[str]) -> frozenset[str]:
        """Return the tables that these names stand for."""
        return frozenset(table for name in names for table in self.stands_for.get(name, (name,)))

    def members(self, names: Iterable[str]) -> frozenset[str]:
        """Return all tables that these may be, of those whose inheritance tree one of them stands for."""
        wanted = frozenset(names)
        return wanted | {member for member, tables in self.stands_for.items() if tables <= wanted}


def read_schema(connection: Any) -> Schema:
    """Read it from PostgreSQL's catalogue. A unique index over nothing but generated identities collides with nothing.

    Names are in lower case, as those of statements are: of two that differ in nothing else, one stands for both.
    """
    unique: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {}
    primary: dict[str, tuple[str, ...]] = {}
    for table, columns in connection.execute(
        """
        SELECT lower(c.relname), array(
            SELECT lower(a.attname) FROM unnest(i.indkey) AS k
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k ORDER BY k)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        WHERE i.indisprimary AND c.relnamespace <> 'pg_catalog'::regnamespace
        """
    ).fetchall():
        primary[table] = tuple(columns)
    conditional = connection.execute(
        "SELECT lower(c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid"
        " WHERE i.indisunique AND (i.indpred IS NOT NULL OR i.indexprs IS NOT NULL) OR i.indisexclusion"
        " OR i.indisunique AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)"
        " AND a.attgenerated <> '')"
    ).fetchall()
    loose = frozenset(connection.execute(_LOOSE).fetchall())
    for table, index, columns in connection.execute(
        """
        SELECT lower(c.relname), i.indexrelid::regclass::text,
            CASE WHEN i.indexprs IS NULL AND NOT i.indisexclusion
                AND (to_jsonb(i) ->> 'indnullsnotdistinct') IS DISTINCT FROM 'true' THEN array(
                SELECT lower(a.attname) FROM unnest(i.indkey) WITH ORDINALITY AS k (number, place)
                JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
                WHERE k.place <= i.indnkeyatts ORDER BY k.place) ELSE '{}' END
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        WHERE (i.indisunique OR i.indisexclusion) AND c.relnamespace <> 'pg_catalog'::regnamespace AND EXISTS (
            SELECT FROM unnest(i.indkey) AS k LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k
            WHERE coalesce(a.attidentity, '') <> 'a')
        """
    ).fetchall():
        unique[table] = (*unique.get(table, ()), (index, tuple(columns)))
    defaults = connection.execute(
        "SELECT lower(c.relname), lower(a.attname) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " JOIN pg_type t ON t.oid = a.atttypid"
        " WHERE (a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL) AND c.relnamespace <> 'pg_catalog'::regnamespace"
    ).fetchall()
    triggered = {name for (name,) in connection.execute(_ACTING).fetchall()}
    parents = connection.execute(
        "SELECT lower(c.relname), lower(p.relname) FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"
        " JOIN pg_class p ON p.oid = k.confrelid WHERE k.contype = 'f'"
    ).fetchall()
    referred = connection.execute(
        "SELECT lower(p.relname), lower(a.attname) FROM pg_constraint k JOIN pg_class p ON p.oid = k.confrelid"
        " JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey) WHERE k.contype = 'f'"
    ).fetchall()
    trees = _trees(connection.execute(_INHERITS).fetchall())
    for member, tree in trees.items():
        if tree & unique.keys():
            unique[member] = ((f"some index of {min(tree)}", ()),)
    triggered |= {member for member, tree in trees.items() if tree & triggered}
    read = {view: frozenset(tables) for view, tables in connection.execute(_VIEWS).fetchall()}
    opaque = {name for (name,) in connection.execute(_OPAQUE).fetchall()}
    opaque |= {member for member, tree in trees.items() if tree & opaque}
    opaque |= {name for (name,) in connection.execute("SELECT lower(relname) FROM pg_class WHERE relkind = 'S'").fetchall()}
    behind = {view: _all_behind(view, read) for view in read}
    opaque |= {view for view, tables in behind.items() if tables & opaque}
    stands_for = {member: frozenset({min(tree)}) for member, tree in trees.items()}
    for view, tables in behind.items():
        stands_for[view] = frozenset(table for name in tables for table in stands_for.get(name, (name,)))
    return Schema(
        unique=unique,
        defaults=frozenset((table, column) for table, column in defaults),
        triggered=frozenset(triggered | read.keys()),
        parents=_by_first(parents),
        primary=primary,
        conditional=frozenset(name for (name,) in conditional),
        isolation=connection.execute("SHOW default_transaction_isolation").fetchone()[0],
        stands_for=stands_for,
        opaque=frozenset(opaque),
        referred=_by_first(referred),
        loose=loose,
        functions=frozenset(name for (name,) in connection.execute(f"SELECT lower(proname) FROM ({_OWN}) AS own").fetchall())
        | ({ANY} if connection.execute(_HIDDEN).fetchone()[0] else set()),
    )


_OWN = """
    SELECT p.oid, p.proname FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.pronamespace <> 'pg_catalog'::regnamespace AND p.pronamespace <> 'information_schema'::regnamespace
    AND l.lanname NOT IN ('internal', 'c')
"""
"""Functions that users made and that may look at tables; those of extensions are written in C."""

_HIDDEN = f"""
    SELECT EXISTS (SELECT FROM pg_operator o JOIN ({_OWN}) AS own ON own.oid = o.oprcode)
    OR EXISTS (SELECT FROM pg_cast c JOIN ({_OWN}) AS own ON own.oid = c.castfunc)
"""
"""Whether such a function hides behind an operator or a cast: then any statement may call it."""

_ACTING = f"""
    SELECT lower(c.relname) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION
    SELECT lower(c.relname) FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
    WHERE r.rulename <> '_RETURN' AND c.relnamespace <> 'pg_catalog'::regnamespace
    UNION
    SELECT lower(c.relname) FROM pg_attrdef a JOIN pg_class c ON c.oid = a.adrelid
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid AND d.refclassid = 'pg_proc'::regclass
    JOIN ({_OWN}) AS own ON own.oid = d.refobjid
    UNION
    SELECT lower(c.relname) FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.refclassid = 'pg_proc'::regclass
    JOIN ({_OWN}) AS own ON own.oid = d.refobjid
    UNION
    SELECT lower(c.relname) FROM pg_constraint k JOIN pg_attribute a ON a.atttypid = k.contypid
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.refclassid = 'pg_proc'::regclass
    JOIN ({_OWN}) AS own ON own.oid = d.refobjid WHERE k.contypid <> 0
"""
"""Relations of which a write does more than it says: triggers, rules, and functions in defaults and checks."""

_OPAQUE = f"""
    SELECT lower(c.relname) FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
    UNION
    SELECT lower(c.relname) FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_proc'::regclass
    JOIN ({_OWN}) AS own ON own.oid = d.refobjid
"""
"""Relations that run a function of the user's, or a policy, when they are read."""

_LOOSE = """
    SELECT lower(c.relname), lower(a.attname) FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation
    WHERE c.relnamespace <> 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0
    AND (t.typname NOT IN ('int2', 'int4', 'int8', 'text', 'varchar', 'uuid') OR t.typtype <> 'b'
         OR NOT coalesce(l.collisdeterministic, true))
"""
_VIEWS = """
    SELECT lower(v.relname), array_agg(DISTINCT lower(t.relname))
    FROM pg_class v JOIN pg_rewrite r ON r.ev_class = v.oid
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
    JOIN pg_class t ON t.oid = d.refobjid AND t.oid <> v.oid
    WHERE v.relkind = 'v' AND v.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    GROUP BY lower(v.relname)
"""
_INHERITS = """
    SELECT lower(c.relname), lower(p.relname) FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent WHERE c.relkind IN ('r', 'p', 'f')
"""


def _by_first(pairs: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """Return what stands beside each first."""
    found: dict[str, frozenset[str]] = {}
    for first, second in pairs:
        found[first] = found.get(first, frozenset()) | {second}
    return found


def _trees(pairs: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """Return, for every table that inherits or is inherited from, all tables that are related to it."""
    trees: dict[str, frozenset[str]] = {}
    for child, parent in pairs:
        together = trees.get(child, frozenset({child})) | trees.get(parent, frozenset({parent}))
        trees.update(dict.fromkeys(together, together))
    return trees


def _all_behind(view: str, read: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return all that a view reads, through other views as well."""
    found: set[str] = set()
    coming = [view]
    while coming:
        new = read.get(coming.pop(), frozenset()) - found
        found |= new
        coming += new
    return frozenset(found)


def read_mongo_schema(database: Any) -> Schema:
    """Read from MongoDB which collections have a unique index other than that of ``_id``, and which are views."""
    kinds = {found["name"]: found.get("type") for found in database.list_collections()}
    plain = [name for name, kind in kinds.items() if kind == "collection"]
    conditional = {name for name in plain if any(index.get("unique") for index in database[name].list_indexes())}
    return Schema(conditional=frozenset(conditional), opaque=frozenset(kinds) - frozenset(plain))


@lru_cache(maxsize=4096)
def _published(touched: Footprint) -> Footprint:
    return replace(touched, publishes=True)


_Who = tuple[int, str]
"""A client and one of its sessions."""


class Footprints:
    """Follows the transactions of each client and says what its next step touches."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._statements: dict[str, _Statement] = {}
        self._held: dict[_Who, Footprint] = {}
        self._level: dict[_Who, str] = {}
        self._snapshot: set[_Who] = set()
        """Sessions whose transaction has its snapshot."""

    def reset(self) -> None:
        """Forget all transactions."""
        self._held.clear()
        self._level.clear()
        self._snapshot.clear()

    def forget(self, client: int, session: str) -> None:
        """Note that the transaction of a client's session is over."""
        self._held.pop((client, session), None)
        self._level.pop((client, session), None)
        self._snapshot.discard((client, session))

    def undone(self, client: int, session: str | None = None) -> Footprint:
        """Return what the end of the transaction that the client has in this session (by default: anywhere) would touch."""
        of = [held for (who, where), held in self._held.items() if who == client and session in (None, where)]
        if not of:
            return UNDONE
        held = of[0]
        for other in of[1:]:
            held |= other
        return replace(held, reads=frozenset(), publishes=True, bare=True)

    def written(self, names: Iterable[str]) -> frozenset[str]:
        """Return the tables of which rows may have been written where footprints have these names."""
        return self._schema.members(table_of(name) for name in names)

    def of(self, client: int, step: Step) -> Footprint:
        """Return what a step would touch if it came now. Changes nothing."""
        if step.body is not None:
            return self._of_command(client, step)
        if step.statements > 1:
            begin, first = _opening(step)
            return self._within(first, step, _level_of(begin), seen=False) if begin else UNKNOWN
        if step.kind is StepKind.BEGIN:
            return NOTHING
        who = client, step.session
        if step.kind in (StepKind.COMMIT, StepKind.ROLLBACK) or _rolls_back_to(step.text):
            return self._of_end(who, step.text)
        if step.status != "I":
            return self._within(step.text, step, self._level.get(who, ""), seen=who in self._snapshot)
        return _published(self._within(step.text, step, "", seen=None))

    def _of_end(self, who: _Who, text: str) -> Footprint:
        """Return what the end of a transaction touches, or of a part of one: it lets go of locks, and the transaction goes on."""
        if _rolls_back_to(text):
            return replace(self.undone(*who), bare=False)
        return UNKNOWN if {"prepared", "chain"} & set(text.lower().split()) else self.undone(*who)

    def _within(self, text: str, step: Step, level: str, *, seen: bool | None) -> Footprint:
        """Return what a statement of a transaction touches.

        ``seen``: an earlier one of the transaction took its snapshot; None: it is a transaction of its own.
        """
        touched = _touched_with(self._statement(text), step.parameters)
        level = level or step.isolation or self._schema.isolation
        if _sets(text):
            return touched
        if level == "serializable":
            return touched | Footprint(reads=frozenset({WORLD}), serializable=True)
        if level == "repeatable read" and seen is not None:
            return replace(touched, reads=SNAPSHOT if seen else frozenset({WORLD}))
        return touched

    def did(self, client: int, step: Step, footprint: Footprint) -> None:
        """Note that the step was released."""
        begin, first = _opening(step) if step.statements > 1 else ("", "")
        who = client, step.session
        if begin:
            self.forget(*who)
            self._level[who] = (_sets(first) and _level_of(first)) or _level_of(begin)
            self._held[who] = footprint
            if not _sets(first):
                self._snapshot.add(who)
        elif step.kind is StepKind.BEGIN and step.statements == 1:
            self.forget(*who)
            self._level[who] = _level_of(step.text)
            self._held[who] = NOTHING
        elif _rolls_back_to(step.text):
            pass
        elif footprint.publishes:
            self.forget(*who)
        elif _sets(step.text):
            self._level[who] = _level_of(step.text) or self._level.get(who, "")
        else:
            self._snapshot.add(who)
            self._held[who] = self._held.get(who, NOTHING) | footprint

    def _statement(self, text: str) -> _Statement:
        if text not in self._statements:
            self._statements[text] = _parsed(text, self._schema)
        return self._statements[text]

    def _of_command(self, client: int, step: Step) -> Footprint:
        body: Mapping[str, Any] = step.body
        name = next(iter(body), "")
        if name in ("commitTransaction", "abortTransaction"):
            return self.undone(client, step.session)
        in_transaction = "autocommit" in body
        concern = body.get("readConcern")
        if not in_transaction and isinstance(concern, Mapping) and concern.get("level") == "snapshot":
            return UNKNOWN  # what follows in this session reads the same past
        table = frozenset(_rows_of(name, body, self._schema))
        others = _looked_up(body.get("pipeline")) if name == "aggregate" else frozenset()
        if others is None or (others | {str(body.get(name))}) & self._schema.opaque:
            return UNKNOWN
        table |= others
        reads = (frozenset({WORLD}) if body.get("startTransaction") else SNAPSHOT) if in_transaction else table
        if name in ("find", "aggregate", "count", "distinct"):
            touched = Footprint(reads=reads)
        elif name in ("insert", "update", "delete", "findAndModify", "findandmodify"):
            held = self._held.get((client, step.session), NOTHING)  # a failure aborts the transaction, and lets go of all of it
            touched = Footprint(reads=reads, writes=table | (held.writes if in_transaction else frozenset()))
        else:
            return UNKNOWN
        return touched if in_transaction else replace(touched, publishes=True)


def _looked_up(pipeline: Any) -> frozenset[str] | None:
    """Return the other collections that an aggregation reads; None where it writes, or nobody can say."""
    found = set()
    for stage, value in _fields(pipeline):
        if stage in ("$out", "$merge"):
            return None
        if stage in ("$lookup", "$graphLookup", "$unionWith"):
            about = value if isinstance(value, Mapping) else {"from": value}
            named = about.get("from", about.get("coll"))
            if isinstance(named, str):
                found.add(named)
            elif named is not None or "pipeline" not in about:
                return None
    return frozenset(found)


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every field of a document and what it holds, at any depth."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key, inner
            yield from _fields(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _fields(inner)


def _rows_of(name: str, body: Mapping[str, Any], schema: Schema) -> list[str]:
    """Return the documents that a command names by their ``_id`` and nothing else, or its whole collection."""
    collection = str(body.get(name))
    if name in ("find", "count"):
        queries = [body.get("filter") or body.get("query")]
    elif name in ("findAndModify", "findandmodify"):
        queries = [body.get("query")]
    elif name in ("update", "delete"):
        queries = [change.get("q") for change in body.get(f"{name}s") or () if isinstance(change, Mapping)]
    else:
        return [collection]
    changes = name not in ("find", "count")
    ids = [query.get("_id") if isinstance(query, Mapping) else None for query in queries]
    if not ids or any(not isinstance(i, str | int | ObjectId) for i in ids) or (changes and collection in schema.conditional):
        return [collection]
    return [f"{collection}{ROW}{_same(str(i))}" for i in ids]


def _level_of(text: str) -> str:
    """Return the isolation level that a statement names, or nothing."""
    lower = " ".join(text.lower().split())
    return next(
        (level for level in ("serializable", "repeatable read", "read committed", "read uncommitted") if level in lower), ""
    )


def _opening(step: Step) -> tuple[str, str]:
    """Return a BEGIN and the statement that came in the same round trip, as some drivers send them; or nothing.

    Whatever else comes together is not taken apart: it conflicts with everything, and so does the end of its transaction.
    """
    begin, _, first = step.text.partition(";")
    words = [part.split()[0].lower() if part.split() else "" for part in (begin, first)]
    alone = step.statements == 2 and step.status == "I"
    if alone and words[0] in ("begin", "start") and words[1] not in ("", "commit", "end", "rollback", "abort"):
        return begin, first.strip()
    return "", ""


def _sets(text: str) -> bool:
    """Tell whether a statement touches nothing and takes no snapshot either."""
    words = text.lower().split()[:2]
    return words[:1] in (["savepoint"], ["release"], ["show"]) or (words[:1] == ["set"] and words[1:] != ["constraints"])


def _rolls_back_to(text: str) -> bool:
    """Tell whether a statement undoes a part of its transaction."""
    words = text.lower().split()[:3]
    return words[:1] == ["rollback"] and "to" in words


@dataclass(frozen=True, kw_only=True)
class _Statement:
    """A parsed statement: what it touches whatever its parameters, and where the keys of its inserts come from."""

    touched: Footprint
    keys: tuple[tuple[str, tuple[int | str | None, ...]], ...] = ()
    """Indexes, and for each column the number of a parameter (from 0), a literal, or None where it is not known."""

    row: tuple[str, tuple[int | str | None, ...]] | None = None
    """The table of which one row is named by its primary key, and where the key comes from."""


def _touched_with(statement: _Statement, parameters: Sequence[Any]) -> Footprint:
    touched = statement.touched
    if statement.keys:
        touched = replace(touched, keys=frozenset((i, _key(sources, parameters)) for i, sources in statement.keys))
    if statement.row is not None and (values := _values(statement.row[1], parameters)) is not None:
        name = statement.row[0]
        row = name + ROW + repr([_same(value) for value in values])
        return replace(touched, reads=_with_row(touched.reads, name, row), writes=_with_row(touched.writes, name, row))
    return touched


def _with_row(names: frozenset[str], table: str, row: str) -> frozenset[str]:
    return frozenset(row if name == table else name for name in names)


def _same(key: str) -> str:
    """Return a key in a form in which keys that the store takes for one are one. Others may fall together: that is harmless."""
    with suppress(ValueError):
        return repr(float(key))
    with suppress(ValueError):
        return str(UUID(key))
    return key.strip().casefold()


def _key(sources: Sequence[int | str | None], parameters: Sequence[Any]) -> str:
    return repr([_same(value) for value in values]) if (values := _values(sources, parameters)) else ANY


def _values(sources: Sequence[int | str | None], parameters: Sequence[Any]) -> list[str] | None:
    """Return what the sources stand for, or None if one of them is not known."""
    values: list[str] = []
    for source in sources:
        if isinstance(source, str):
            values.append(source)
        elif source is None or source >= len(parameters) or isinstance(parameters[source], bytes):
            return None
        else:
            values.append(str(parameters[source]))
    return values


def _parsed(text: str, schema: Schema) -> _Statement:
    if _sets(text):
        return _Statement(touched=NOTHING)
    tree = _tree(text)
    if tree is None:
        return _Statement(touched=UNKNOWN)
    touched = _touched(tree, schema)
    keys = [key for node in tree.find_all(exp.Insert) for key in _sources(node, schema)] if not touched.unknown else []
    return _Statement(touched=touched, keys=tuple(keys), row=None if touched.unknown else _row(tree, schema))


def _row(tree: exp.Expression, schema: Schema) -> tuple[str, tuple[int | str | None, ...]] | None:
    """Return the one row that a statement on one table names by its whole primary key, if it certainly meets no other."""
    where = tree.args.get("where")
    if where is None or not _is_simple(tree):
        return None
    [table] = tree.find_all(exp.Table)
    name = table.name.lower()
    primary = () if name in schema.stands_for else schema.primary.get(name, ())
    if isinstance(tree, exp.Update) and _reaches_others(tree, name, schema, primary):
        return None
    named: dict[str, int | str | None] = {}
    for condition in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
        if isinstance(condition, exp.EQ) and isinstance(condition.this, exp.Column):
            named[condition.this.name.lower()] = _source(condition.expression)
    if not primary or any(
        named.get(column) is None or named.get(column) is _NULL or (name, column) in schema.loose for column in primary
    ):
        return None
    return name, tuple(named[column] for column in primary)


def _is_simple(tree: exp.Expression) -> bool:
    """Tell whether a statement takes its rows from one table and nowhere else."""
    if not isinstance(tree, exp.Select | exp.Update | exp.Delete) or len(list(tree.find_all(exp.Table))) != 1:
        return False
    if isinstance(tree, exp.Update) and tree.args.get("from_", tree.args.get("from")) is not None:
        return False
    others = (exp.Subquery, exp.Unnest, exp.Lateral, exp.Values, exp.With, exp.Join, exp.SetOperation)
    return tree.find(*others) is None


def _reaches_others(update: exp.Update, name: str, schema: Schema, primary: Sequence[str]) -> bool:
    """Tell whether an UPDATE of one row may meet those of other rows: by a unique index, or in the row that it refers to."""
    looked_at = {column for _, columns in schema.unique.get(name, ()) for column in columns} | set(primary)
    changed = _changed(update)
    if name in schema.conditional or name in schema.parents.get(name, ()):
        return True
    return changed is None or bool(looked_at & changed)


def _touched(tree: exp.Expression, schema: Schema) -> Footprint:
    every = {t.name.lower() for t in tree.find_all(exp.Table)} - {""}  # names of WITH among them, which nobody else has
    if every & schema.opaque or _runs_unknown(tree, schema):
        return UNKNOWN
    writes: set[str] = set()
    inserts: set[str] = set()
    filled: list[exp.Table] = []
    for node in tree.find_all(exp.Insert, exp.Update, exp.Delete):
        target = node.find(exp.Table)
        if target is None:
            return UNKNOWN
        if isinstance(node, exp.Insert):
            filled.append(target)
        name = target.name.lower()
        if name in schema.referred and _may_cascade(node, schema.referred[name]):
            return UNKNOWN
        plain = isinstance(node, exp.Insert) and node.args.get("conflict") is None
        (inserts if plain else writes).add(name)
    if tree.find(exp.Lock) is not None:
        writes |= every
    if (writes | inserts) & schema.triggered:
        return UNKNOWN
    for name in writes | inserts:
        writes |= schema.parents.get(name, frozenset())
    read = {t.name.lower() for t in tree.find_all(exp.Table) if not any(t is f for f in filled)} & every
    if "to_regclass" in _functions(tree):
        read.add("pg_class")
    return Footprint(
        reads=schema.behind(read),
        writes=schema.behind(writes),
        inserts=schema.behind(inserts),
        at_once=frozenset(filter(None, map(_at_once, _functions(tree)))),
    )


def _runs_unknown(tree: exp.Expression, schema: Schema) -> bool:
    """Tell whether a statement is none whose effects are known, or calls a function of which they are not."""
    if not isinstance(tree, exp.Query | exp.Insert | exp.Update | exp.Delete) or tree.find(exp.Into) is not None:
        return True
    if any(lock.args.get("wait") is not None for lock in tree.find_all(exp.Lock)):
        return True  # SKIP LOCKED and NOWAIT tell of locks that a failed statement may have let go of already
    if any(_at_once(name) is None and name not in PURE_FUNCTIONS for name in _functions(tree)):
        return True
    named = {name.lower() for node in tree.find_all(exp.Func) for name in node.sql_names()}
    named |= {node.name.lower() for node in tree.find_all(exp.Anonymous, exp.Column, exp.Dot)}
    return ANY in schema.functions or bool(named & schema.functions)


def _at_once(function: str) -> str | None:
    """Return the resource that a function uses at once, whatever becomes of its transaction."""
    if function in SEQUENCE_FUNCTIONS:
        return "a sequence"
    return "an advisory lock" if function.startswith(ADVISORY) else None


def _may_cascade(node: exp.Expression, referred: frozenset[str]) -> bool:
    """Tell whether a change of a table may reach those whose foreign keys refer to these columns."""
    if isinstance(node, exp.Update):
        changed = _changed(node)
        return changed is None or bool(changed & referred)
    conflict = node.args.get("conflict")
    return isinstance(node, exp.Delete) or (conflict is not None and bool(conflict.expressions))


def _changed(update: exp.Update) -> set[str] | None:
    """Return the columns that an UPDATE sets; None where it names them in another way than one by one."""
    columns = [change.this for change in update.expressions]
    return {column.name.lower() for column in columns} if all(isinstance(c, exp.Column) for c in columns) else None


def _sources(insert: exp.Insert, schema: Schema) -> Iterator[tuple[str, tuple[int | str | None, ...]]]:
    """Yield, for each row and unique index, where the key comes from; a key with a NULL collides with nothing."""
    target = insert.find(exp.Table)
    name = target.name.lower() if target is not None else ""
    listed = insert.this.expressions if isinstance(insert.this, exp.Schema) else []
    columns = [column.name.lower() for column in listed]
    values = insert.expression
    rows = values.expressions if isinstance(values, exp.Values) and columns else [None]
    for index, wanted in schema.unique.get(name, ()):
        for row in rows:
            given = dict(zip(columns, row.expressions, strict=False)) if row is not None else {}
            key = [_key_source(name, c, given, schema, listed=row is not None) for c in wanted]
            if not any(part is _NULL for part in key):
                yield index, tuple(key)


class _NoValue(str):
    """Told apart from text by identity: a text may say anything."""


_NULL = _NoValue("NULL")


def _key_source(
    table: str, column: str, given: Mapping[str, exp.Expression], schema: Schema, *, listed: bool
) -> int | str | None:
    """Return where a column of a key comes from, None where that is not known; ``listed``: all values stand in the statement."""
    if column not in given:
        return None if not listed or (table, column) in schema.defaults else _NULL
    source = _source(given[column])
    return None if source is not _NULL and (table, column) in schema.loose else source


SAME_AFTER_CAST = frozenset({"INT", "BIGINT", "SMALLINT", "TEXT", "VARCHAR", "UUID"})


def _source(value: exp.Expression) -> int | str | None:
    while isinstance(value, exp.Cast | exp.Paren):
        if isinstance(value, exp.Cast) and (value.args["to"].sql() not in SAME_AFTER_CAST or isinstance(value.this, exp.Cast)):
            return None
        value = value.this
    if isinstance(value, exp.Parameter) and str(value.this.name).isdecimal():
        return int(value.this.name) - 1
    if isinstance(value, exp.Literal):
        return str(value.this)
    return _NULL if isinstance(value, exp.Null) else None


@lru_cache(maxsize=4096)
def _tree(text: str) -> exp.Expression | None:
    try:
        trees = sqlglot.parse(text, read="postgres")
    except sqlglot.errors.SqlglotError:
        return None
    return trees[0] if len(trees) == 1 and isinstance(trees[0], exp.Expression) else None


def _functions(tree: exp.Expression) -> set[str]:
    return {str(node.name).lower() for node in tree.find_all(exp.Anonymous)}
