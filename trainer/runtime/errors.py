"""What is wrong with a recipe or a folder, where the errors of `features/errors.py` cannot be imported."""

from __future__ import annotations


class FieldError(ValueError):
    """Something is wrong that a user can mend.

    Args:
        what: What is wrong, in a few words.
        field: The field, file or folder that is wrong, with dots for nested fields.
        value: The value found there.
        remedy: What would be right.

    Example:
        >>> print(FieldError("unknown field", field="widht", value=64, remedy="use one of: width"))
        unknown field: widht = 64; use one of: width
    """

    def __init__(self, what: str, *, field: str, value: object, remedy: str) -> None:
        self.what, self.field, self.value, self.remedy = what, field, value, remedy
        super().__init__(f"{what}: {field} = {value!r}; {remedy}")


class BundleError(FieldError):
    """A bundle cannot be read by this code."""


class TokensError(FieldError):
    """A folder of content tokens cannot be read."""
