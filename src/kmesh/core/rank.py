"""How near an endpoint is: Istio's routing preference, as ztunnel ranks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.core.model import Profile, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

FIELD = {
    Scope.NETWORK: Profile._fields.index("network"),
    Scope.CLUSTER: Profile._fields.index("cluster"),
    Scope.NODE: Profile._fields.index("node"),
    Scope.REGION: Profile._fields.index("region"),
    Scope.ZONE: Profile._fields.index("zone"),
    Scope.SUBZONE: Profile._fields.index("subzone"),
}


def rank(preference: Sequence[Scope], source: Profile, endpoint: Profile) -> tuple[int, bool]:
    """(rank, whether every scope matched) of an endpoint seen from a source.

    The walk adds one for each equal scope and ends at the first that differs. A leading NETWORK
    is special: a mismatch there does not end the walk, a match adds ``len(preference) - 1`` after
    it. Only the count before that bonus decides whether every scope matched.
    """
    count = bonus = 0
    for place, scope in enumerate(preference):
        field = FIELD.get(scope)
        if field is not None and source[field] == endpoint[field]:
            count += 1
            if place == 0 and scope is Scope.NETWORK:
                bonus = len(preference) - 1
        elif place or scope is not Scope.NETWORK:
            break
    return count + bonus, count == len(preference)
