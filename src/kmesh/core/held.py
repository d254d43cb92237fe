"""What is held of one resource type, and which of it may be claimed on a new stream."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from kmesh.core.model import Resource

# Tag and length bytes of a map entry around name and version, for names below 2 MiB.
_ENTRY_BYTES = 12
_UTF8_WORST = 4
_BLOCK = 512


class Claims(Mapping[str, str]):
    """Name to version of the first ``count`` held resources, read lazily.

    100,000 entries are never copied; the view is valid until the next change of what is held.
    """

    __slots__ = ("_count", "_doubtful", "_items", "_left_out")

    def __init__(
        self,
        items: Mapping[str, Resource],
        count: int,
        left_out: Collection[str],
        doubtful: Collection[str],
    ) -> None:
        self._items, self._count = items, count
        self._left_out, self._doubtful = left_out, doubtful

    def __getitem__(self, name: str) -> str:
        if name in self._left_out:
            raise KeyError(name)
        return "" if name in self._doubtful else self._items[name].version

    def __iter__(self) -> Iterator[str]:
        return islice(self._items, self._count)

    def __len__(self) -> int:
        return self._count

    def items(self) -> Any:
        """As of any mapping, without a look-up for each name."""
        held, doubtful = islice(self._items.items(), self._count), self._doubtful
        return ((name, "" if name in doubtful else one.version) for name, one in held)


class TypeStatistics(NamedTuple):
    """One resource type since the start; ``held`` is now, ``bytes`` are of whole messages."""

    held: int = 0
    responses: int = 0
    resources: int = 0
    rejected: int = 0
    removed: int = 0
    swept: int = 0
    nacks: int = 0
    bytes: int = 0


class Held:
    """Resources of one type by name, in the order in which they first came."""

    __slots__ = ("_ascii", "_version", "awaited", "counts", "items", "unclaimed")

    def __init__(self) -> None:
        self.items: dict[str, Resource] = {}
        # Held from an earlier stream but not claimed on this one: swept unless answered.
        self.unclaimed: set[str] = set()
        self.awaited = True
        self.counts = TypeStatistics()
        self._ascii = True
        self._version = 0

    @property
    def view(self) -> Mapping[str, Resource]:
        """Everything that is held; live, not a copy."""
        return self.items

    def arrived(self) -> bool:
        """Whether anything was held since the last question without ``put``."""
        return False

    def refused(self, names: Iterable[str]) -> None:
        """A newer version of these could not be taken: they are news when they come again."""

    def revise(self, revision: int) -> None:
        """The revision of what is held from now on without ``put``."""

    def changed_since(self, revision: int) -> Iterable[str]:
        """Names of what is held without ``put`` and changed after a revision."""
        return ()

    def answered(self, names: Iterable[str]) -> None:
        """These were heard of on this stream."""
        if self.unclaimed:
            self.unclaimed.difference_update(names)

    def put(self, resources: Sequence[Resource]) -> None:
        """Hold these; an earlier version is replaced."""
        items = self.items
        names = [resource.name for resource in resources]
        items.update(zip(names, resources, strict=True))
        versions = [resource.version for resource in resources]
        self._ascii = self._ascii and all(map(str.isascii, chain(names, versions)))
        self._version = max(self._version, max(map(len, versions), default=0))
        self.answered(names)
        self.count(resources=len(resources))

    def drop(self, names: Sequence[str]) -> None:
        """Forget these; names that are not held are fine."""
        for name in names:
            self.items.pop(name, None)
        self.answered(names)

    def claim(self, budget: int, doubtful: Collection[str]) -> Mapping[str, str]:
        """Claims for a new stream that encode to at most ``budget`` bytes.

        Names in ``doubtful`` are claimed with an empty version, so that the control plane sends
        them again but still reports their removal. What does not fit becomes ``unclaimed``.
        """
        return self._claim(budget, doubtful)[0]

    def _claim(self, budget: int, doubtful: Collection[str]) -> tuple[Claims, int]:
        """The claims and how much of the budget they leave."""
        self.awaited = True
        count, left = self._fitting(budget)
        self.unclaimed = set(islice(self.items, count, None))
        return Claims(self.items, count, self.unclaimed, doubtful), left

    def _fitting(self, budget: int) -> tuple[int, int]:
        width = 1 if self._ascii else _UTF8_WORST
        fixed = _ENTRY_BYTES + self._version * width
        count, lengths = 0, map(len, self.items)
        # Whole blocks first: summed in C, a quarter of the time of one by one.
        while block := list(islice(lengths, _BLOCK)):
            size = sum(block) * width + fixed * len(block)
            if size > budget:
                break
            budget -= size
            count += len(block)
        for length in block:
            if budget < fixed + length * width:
                return count, 0
            budget -= fixed + length * width
            count += 1
        return count, budget

    def sweep(self) -> tuple[str, ...]:
        """Names that were not claimed and not answered either: they are gone."""
        if not self.unclaimed:
            return ()
        swept = tuple(name for name in self.items if name in self.unclaimed)
        self.unclaimed = set()
        self.count(swept=len(swept))
        return swept

    def count(self, **more: int) -> None:
        """Add to the counters named."""
        counts = self.counts
        self.counts = counts._replace(
            **{name: getattr(counts, name) + value for name, value in more.items()}
        )

    def statistics(self) -> TypeStatistics:
        """The counters and how much is held now."""
        return self.counts._replace(held=len(self.items))
