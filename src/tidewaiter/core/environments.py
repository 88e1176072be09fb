"""The environments that a policy knows."""

from typing import Literal, get_args

Environment = Literal["research", "staging", "production"]

ENVIRONMENTS: tuple[Environment, ...] = get_args(Environment)
"""The mildest first."""


def strictest(*environments: Environment) -> Environment:
    """Of one or more."""
    return max(environments, key=ENVIRONMENTS.index)
