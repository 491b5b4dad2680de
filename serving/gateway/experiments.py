"""Experiments: which arm a user is in, and what that arm ranks by.

`experiments.toml` (read and written by `experiments_file`):

    [ranker]                      # the experiment's name
    seed = "ranker"               # of the hash; by default the name
    active = true

    [ranker.arms]                 # shares sum to 1 at most; who falls beyond them gets the champion and no arm
    uniform = { share = 0.10, policy = "uniform" }
    popularity = { share = 0.45, alias = "popularity" }
    camenn = { share = 0.45, alias = "champion" }

Assignment hashes the user id as GrowthBook does (its own functions, hash version 2), so that its SDKs agree with us.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from features.configuration import Share
from features.errors import UsageError
from features.settings import Section
from serving.state import CHAMPION

ArmName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


@dataclass(frozen=True)
class Arm(Section):
    """One arm.

    Exactly one of `alias` and `policy` says what it ranks by.
    """

    share: Annotated[Share, Field(description="Share of users.")]
    alias: Annotated[
        Literal["champion", "challenger", "popularity"] | None, Field(description="Whose bundle ranks.")
    ] = None
    policy: Annotated[Literal["uniform"] | None, Field(description="Ranks at random, with propensities.")] = None


@dataclass(frozen=True, kw_only=True)
class Experiment(Section):
    """One experiment."""

    seed: Annotated[str, Field(max_length=100, description="Seed of the hash; by default the experiment's name.")] = ""
    active: Annotated[bool, Field(description="Whether it assigns.")] = True
    arms: Annotated[dict[ArmName, Arm], Field(min_length=1, description="Arms by name, in order.")]


@dataclass(frozen=True)
class Assignment:
    """What ranks a request.

    Args:
        experiments: Experiment → arm.
        alias: The alias whose bundle ranks; None for the uniform policy.
    """

    experiments: dict[str, str]
    alias: str | None = CHAMPION


class Experiments:
    """All experiments of a file; a missing file has none, and everyone gets the champion.

    Args:
        experiments: By name. At most one may be active, for an arm says what ranks the whole request.
    """

    def __init__(self, experiments: dict[str, Experiment]) -> None:
        self.experiments = experiments
        self.active = next(((name, e) for name, e in experiments.items() if e.active), None)

    def assign(self, user_id: str) -> Assignment:
        """The arm of a user.

        Example:
            >>> Experiments({}).assign("u1")
            Assignment(experiments={}, alias='champion')
        """
        if self.active is None:
            return Assignment({})
        name, experiment = self.active
        at = variation(experiment.seed or name, user_id, [arm.share for arm in experiment.arms.values()])
        if at is None:
            return Assignment({})
        arm_name, arm = list(experiment.arms.items())[at]
        return Assignment({name: arm_name}, arm.alias)

    def preview(self, arm: str) -> Assignment | None:
        """The assignment that an arm of the active experiment stands for; None if it has no such arm.

        Args:
            arm: Name of the arm.
        """
        if self.active is None or arm not in self.active[1].arms:
            return None
        return Assignment({self.active[0]: arm}, self.active[1].arms[arm].alias)


def variation(seed: str, user_id: str, shares: list[float]) -> int | None:
    """Index of the arm that GrowthBook's hash gives a user; None beyond all shares.

    Args:
        seed: Seed of the hash.
        user_id: The user.
        shares: Share of each arm, in order.
    """
    from growthbook.core import chooseVariation, gbhash

    ends = [sum(shares[: at + 1]) for at in range(len(shares))]
    ranges = list(zip([0.0, *ends[:-1]], ends, strict=True))
    point = gbhash(seed, user_id, 2)
    found = chooseVariation(point, ranges) if point is not None else -1
    return found if found >= 0 else None


def check(experiments: dict[str, Experiment]) -> Experiments:
    """What types cannot say.

    Raises:
        UsageError: If shares exceed 1, an arm has none or two of alias and policy, or two experiments are active.
    """
    for name, experiment in experiments.items():
        if sum(arm.share for arm in experiment.arms.values()) > 1 + 1e-9:
            raise _wrong("shares exceed 1", f"{name}.arms", {n: a.share for n, a in experiment.arms.items()})
        for arm_name, arm in experiment.arms.items():
            if (arm.alias is None) == (arm.policy is None):
                raise _wrong("an arm needs an alias or a policy", f"{name}.arms.{arm_name}", asdict(arm))
    if len(active := [name for name, e in experiments.items() if e.active]) > 1:
        remedy = "stop all but one (`freshrank experiment stop`), or set active = false in experiments.toml"
        raise UsageError("two experiments are active", field="active", value=active, remedy=remedy)
    return Experiments(experiments)


def _wrong(what: str, field: str, value: object) -> UsageError:
    return UsageError(what, field=field, value=value, remedy="mend experiments.toml")
