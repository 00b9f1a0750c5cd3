"""The stress engine: many operating-system processes, many clients in each, full speed."""

from harness.engines.stress.engine import Progress, StressEngine, StressOutcome
from harness.engines.stress.plan import StressPlan

__all__ = ["Progress", "StressEngine", "StressOutcome", "StressPlan"]
