"""Quantities with the range that they must lie in, and their table."""

from dataclasses import dataclass


@dataclass
class Check:
    """A quantity and the range it must lie in."""

    name: str
    value: float
    low: float
    high: float
    reference: str

    @property
    def passed(self):
        """Whether the quantity is within its tolerance."""
        return self.low <= self.value <= self.high


def around(name, value, expected, tolerance, reference):
    """Make a check of a quantity with a relative tolerance."""
    return Check(
        name, value, expected * (1 - tolerance), expected * (1 + tolerance), reference
    )


def print_header():
    """Print the names of the table's columns."""
    print(f"{'quantity':72} {'value':>9}  allowed             reference")


def print_checks(checks):
    """Print a line for each check as it is made; return how many are outside."""
    failed = 0
    for check in checks:
        failed += not check.passed
        print(
            f"{check.name:72} {check.value:9.3g}  "
            f"{check.low:<7.3g} to {check.high:<8.3g} {check.reference}"
            f"{'' if check.passed else '  <-- OUTSIDE'}",
            flush=True,
        )
    return failed
