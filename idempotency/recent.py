"""Which keys this process has met lately: guesses at which way to an answer is the shorter one."""

import threading
from collections.abc import Hashable
from uuid import UUID


class Recent:
    """The last ``size`` digests, each by its source. Right or wrong, the answer to a request is the same."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._digests: dict[int, UUID] = {}  # by the hash of their source, in the order of their arrival

    def guess(self, source: Hashable) -> UUID | None:
        """Return the digest that came from the same source lately."""
        return self._digests.get(hash(source))

    def meet(self, source: Hashable, digest: UUID) -> bool:
        """Tell whether the digest came from this source lately, and remember it. Of the source, a hash is kept."""
        number = hash(source)
        with self._lock:
            if self._digests.get(number) == digest:
                return True
            self._digests[number] = digest
            if len(self._digests) > self._size:
                del self._digests[next(iter(self._digests))]
            return False
