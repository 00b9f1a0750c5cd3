"""What each rule needs, which operations it goes by, and what becomes of a rule that breaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.invariants import REGISTRY, judge, registry
from harness.invariants.registry import Invariant, NotChecked
from harness.model import Books, Finding, FindingClass, History, Operation, Outcome, Policy, UsageError, Verdict
from harness.model.books import TABLES
from tests.corpus.reading import Case

NEEDS: dict[str, tuple[str, ...]] = {
    "A-MATCH": ("audit",),
    "A-DELIVER": ("audit",),
    "N-COUNTER1": ("counters",),
    "N-COUNTER>=MAX": ("counters",),
    "N-FMT": ("documents",),
    "N-PERIOD": ("documents",),
    "N-SCOPE": ("documents", "indexes"),
    "N-GAPLESS": ("documents",),
    "N-EXPLAINED": ("documents",),
    "N-GAPBUDGET": ("documents",),
    "N-MONO": (),
    "N-DURABLE": ("documents",),
    "N-IMMUT": ("documents",),
    "N-VOID": ("documents",),
    "N-UNIQ": (),
    "N-DOC1": ("documents",),
    "P-ONCE": (),
    "P-KEYMATCH": (),
    "L-RETRY": (),
    "L-PROGRESS": (),
    "O-BAL": ("orders", "installments"),
    "O-DRIFT": ("orders", "installments"),
    "O-INST": ("installments",),
    "O-CANCEL": ("orders",),
    "O-CONS": ("installments",),
    "P-TERM1": ("payments",),
    "P-PEND1": ("payments",),
    "P-CONS": ("payments", "terms"),
    "P-NOOVER": (),
    "P-REFUND": ("payments", "refunds"),
    "P-EXACT": (),
    "P-SPLIT": ("terms",),
    "S-STOCK": ("stock",),
    "S-CREDIT": ("customers",),
}


@pytest.mark.parametrize("rule", sorted(REGISTRY))
def test_a_rule_is_left_out_where_one_of_its_tables_is_not_kept(rule: str) -> None:
    plain = Case(invariant=rule, file="", verdict="", title="")
    needs = NEEDS[rule]
    for absent in needs:
        books = Books.of(**{table: [] for table in needs if table != absent})
        judgement = judge(plain.history, books, plain.policy, [rule])
        assert judgement.skipped == {rule: f"the target keeps no {absent}"}
    judgement = judge(plain.history, Books.of(**{table: [] for table in needs}), plain.policy, [rule])
    assert not any("the target keeps" in why for why in judgement.skipped.values())


@pytest.mark.parametrize(("rule", "column"), [(r.id, column) for r in REGISTRY.values() for column in r.columns])
def test_a_rule_is_left_out_where_one_of_its_columns_is_not_given(rule: str, column: str) -> None:
    plain = Case(invariant=rule, file="", verdict="", title="")
    table, name = column.split(".")
    tables: dict[str, list[dict[str, object]]] = {t: [] for t in {table, *NEEDS[rule]}}
    books = replace(Books.of(**tables), given={table: frozenset(TABLES[table]) - {name}})
    skipped = judge(plain.history, books, plain.policy, [rule]).skipped
    assert column in skipped[rule] or REGISTRY[rule].unless(plain.policy)


def test_a_rule_that_finds_nothing_to_compare_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(history: History, books: Books, policy: Policy) -> list[Finding]:
        raise NotChecked("no number could be read")

    monkeypatch.setitem(REGISTRY, "X", Invariant(id="X", summary="", tables=(), columns=(), check=nothing))
    plain = Case(invariant="X", file="", verdict="", title="")
    judgement = judge(plain.history, Books(), plain.policy, ["X"])
    assert (judgement.verdict, judgement.checked, judgement.skipped) == (Verdict.UNKNOWN, [], {"X": "no number could be read"})


CHANGES = [
    *("open_account", "submit", "approve", "reject", "cancel", "refund", "webhook", "sell", "void", "void_sale"),
    *("open_order", "import_order", "pay_installment", "discount", "cancel_order", "refund_order"),
]


def done(f: str) -> History:
    return History.of(
        [Operation(process=1, client=1, f=f, token="a", arguments={"subject": "x"}, invoked=1, completed=2, outcome=Outcome.OK)]
    )


@pytest.mark.parametrize("f", [*CHANGES, "create", "read", "deliver"])
def test_every_change_must_be_told_of_and_nothing_else(f: str) -> None:
    plain = Case(invariant="A-MATCH", file="", verdict="", title="")
    said = judge(done(f), Books.of(audit=[]), plain.policy, ["A-MATCH"]).findings
    expected = [f"the {f} of x was acknowledged to client 1 at +0.000 s and no audit row tells of it"] if f in CHANGES else []
    assert [finding.message for finding in said] == expected


@pytest.mark.parametrize(("said", "told"), [("first line\nsecond line", "first line"), ("", "")])
def test_a_rule_that_breaks_makes_the_verdict_unknown(monkeypatch: pytest.MonkeyPatch, said: str, told: str) -> None:
    def check(history: History, books: Books, policy: Policy) -> list[Finding]:
        raise ValueError(said)

    monkeypatch.setitem(REGISTRY, "X-BROKEN", Invariant(id="X-BROKEN", summary="Breaks.", tables=(), columns=(), check=check))
    judgement = judge(History.of([]), Books(), Case(invariant="", file="", verdict="", title="").policy, ["X-BROKEN"])
    assert judgement.verdict is Verdict.UNKNOWN
    (finding,) = judgement.findings
    assert finding.finding_class is FindingClass.INDETERMINATE
    assert finding.message == f"X-BROKEN could not be checked (ValueError: {told}); this is likely a bug in it"
    assert "ValueError" in str(finding.evidence["traceback"])


def test_a_rule_of_ones_own_is_registered_once_and_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(history: History, books: Books, policy: Policy) -> list[Finding]:
        """
        Nothing is wrong.

        Or so it seems.
        """
        return []

    def silent(history: History, books: Books, policy: Policy) -> list[Finding]:
        return []

    monkeypatch.setattr(registry, "REGISTRY", {})
    assert registry.invariant("X-OWN", tables=["documents"])(check) is check
    assert registry.named("X-OWN").summary == "Nothing is wrong."
    assert registry.named("X-OWN").tables == ("documents",)
    with pytest.raises(UsageError, match="X-OWN is defined twice"):
        registry.invariant("X-OWN")(check)
    with pytest.raises(UsageError, match=r"X-NEXT .* needs a docstring"):
        registry.invariant("X-NEXT")(silent)
    with pytest.raises(UsageError, match="no invariant is called 'X-OWM'.*X-OWN"):
        registry.named("X-OWM")
