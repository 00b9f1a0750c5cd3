"""Plain typed values that everything else speaks in: operation, outcome, history, books, finding, verdict, policy."""

from harness.model.books import TABLES, Books, table_of
from harness.model.errors import (
    DamagedHistory,
    EnvironmentProblem,
    ExitStatus,
    RacegateError,
    UnsafeStore,
    UsageError,
    nearest,
)
from harness.model.finding import Finding, FindingClass, Verdict, verdict_of, worst
from harness.model.history import COLUMNS, History
from harness.model.operation import Call, Failure, Fault, Operation, Outcome
from harness.model.policy import Continuity, GapBudget, Overflow, Period, Policy
from harness.model.scenario import Program, ProgramScenario, Scenario, Seat, ServerFault, Setting, StoreNeeds

__all__ = [
    "COLUMNS",
    "TABLES",
    "Books",
    "Call",
    "Continuity",
    "DamagedHistory",
    "EnvironmentProblem",
    "ExitStatus",
    "Failure",
    "Fault",
    "Finding",
    "FindingClass",
    "GapBudget",
    "History",
    "Operation",
    "Outcome",
    "Overflow",
    "Period",
    "Policy",
    "Program",
    "ProgramScenario",
    "RacegateError",
    "Scenario",
    "Seat",
    "ServerFault",
    "Setting",
    "StoreNeeds",
    "UnsafeStore",
    "UsageError",
    "Verdict",
    "nearest",
    "table_of",
    "verdict_of",
    "worst",
]
