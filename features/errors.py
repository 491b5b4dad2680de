"""Errors that a user can act on: what field, what value, what to do; each kind has its exit code."""

from __future__ import annotations


class FreshrankError(Exception):
    """An error with one clear line for the user.

    Args:
        what: What is wrong, in a few words.
        field: The setting, argument, column or file that is wrong.
        value: The value found there.
        remedy: What the user can do about it.

    Example:
        >>> print(DataError("price is negative", field="price_minor", value=-3, remedy="publish a price of 0 or more"))
        price is negative: price_minor = -3; publish a price of 0 or more
    """

    exit_code = 1
    code = "error"

    def __init__(self, what: str, *, field: str | None = None, value: object = None, remedy: str | None = None) -> None:
        self.what, self.field, self.value, self.remedy = what, field, value, remedy
        super().__init__(what)

    def __str__(self) -> str:
        line = self.what
        if self.field is not None:
            shown = repr(self.value)
            line += f": {self.field} = {shown if len(shown) <= 200 else shown[:197] + '...'}"
        return f"{line}; {self.remedy}" if self.remedy else line


class UsageError(FreshrankError):
    """Arguments or settings are wrong; trying again does not help."""

    exit_code, code = 2, "usage"


class DataError(FreshrankError):
    """Data are wrong; trying again does not help."""

    exit_code, code = 3, "bad_data"


class NotReadyError(FreshrankError):
    """Something this step needs does not exist yet; try again later."""

    exit_code, code = 4, "not_ready"


class UnreachableError(FreshrankError):
    """A server does not answer; try again later."""

    exit_code, code = 5, "unreachable"


class LockedError(FreshrankError):
    """Another process does this very thing at the moment; try again later."""

    exit_code, code = 6, "locked"


class WorkerDiedError(FreshrankError):
    """A process of this step was killed or lost; trying again goes on where it stood."""

    exit_code, code = 7, "worker_died"
