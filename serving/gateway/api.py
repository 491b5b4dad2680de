"""The wire: what `POST /rank` takes and gives, and its errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from features.errors import FreshrankError

MAX_ID = 256
MAX_BODY_BYTES = 1_000_000
SHOWN_LIMIT = 1000  # items that one impression may name

Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e15, le=1e15)]
Whole = Annotated[int, Field(ge=-(10**15), le=10**15)]
Scalar = Annotated[str, StringConstraints(max_length=MAX_ID)] | bool | Whole | Number | None


class RankRequest(BaseModel):
    """Who asks for a ranking of what."""

    model_config = ConfigDict(extra="forbid", strict=True)

    request_id: Id | None = Field(None, description="Names the request; the same id gives one impression.")
    user_id: Id = Field(description="Who asks.")
    candidates: list[Id] = Field(min_length=1, description="Items to rank, each once.")
    context: dict[Annotated[str, StringConstraints(min_length=1, max_length=64)], Scalar] = Field(
        default_factory=dict, max_length=64, description="What is known of the moment: zone, hour, weather, …"
    )
    preview: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="Arm to see the list of; nobody is assigned by it and no impression is logged."
    )
    time: str | None = Field(
        None, max_length=40, description="RFC 3339; only where the gateway takes the client's time, for replays."
    )


class RankedItem(BaseModel):
    """One place of the list."""

    item_id: str = Field(description="The item.")
    position: int = Field(description="Its place, 0 first.")
    score: float | None = Field(description="Logit of a purchase, purchases of the week (fallback), or null (uniform).")


class RankResponse(BaseModel):
    """The list, and what made it."""

    request_id: str = Field(description="As asked, or made up.")
    bundle_id: str | None = Field(description="The bundle that scored; null where none did.")
    triton_model: str | None = Field(description="Triton's model.")
    triton_version: int | None = Field(description="Its version.")
    experiments: dict[str, str] = Field(description="Experiment to arm.")
    items: list[RankedItem] = Field(description="Best first.")
    fallback: Literal["popularity"] | None = Field(description="What ranked in the model's stead, if it could not.")
    unknown_items: list[str] = Field(description="Candidates that the feature store does not know.")


class ErrorDetail(BaseModel):
    """What is wrong, and what to do about it."""

    code: str = Field(description="Kind of error, for programs.")
    field: str | None = Field(description="The field that is wrong.")
    value: Any = Field(description="What it was, shortened.")
    remedy: str | None = Field(description="What would be right.")


class ErrorBody(BaseModel):
    """The body of every answer that is no list."""

    error: ErrorDetail


class ApiError(FreshrankError):
    """An answer that is no list.

    Args:
        status: HTTP status.
        code: Kind of error, for programs.
        field: The field that is wrong.
        value: What it was.
        remedy: What would be right.
    """

    def __init__(self, status: int, code: str, *, field: str | None, value: object, remedy: str) -> None:
        super().__init__(code, field=field, value=value, remedy=remedy)
        self.status, self.code = status, code

    def body(self) -> dict[str, object]:
        """The answer's body."""
        return error_body(self.code, self.field, self.value, self.remedy)


def error_body(code: str, field: str | None, value: object, remedy: str | None) -> dict[str, object]:
    """An error's body; long values are shortened, and what cannot be written as text is replaced."""
    shown = value if value is None or isinstance(value, bool | int) else str(value)
    if isinstance(shown, str):
        shown = shown.encode("utf-8", "replace").decode()
        shown = shown if len(shown) <= 200 else shown[:197] + "..."
    elif isinstance(shown, int) and abs(shown) > 2**53:
        shown = f"{str(shown)[:40]}"
    return {"error": {"code": code, "field": field, "value": shown, "remedy": remedy}}


def too_many(count: int, limit: int) -> ApiError:
    """More candidates than the gateway takes."""
    return ApiError(
        413, "too_many_candidates", field="candidates", value=count, remedy=f"send {limit} at most in one request"
    )
