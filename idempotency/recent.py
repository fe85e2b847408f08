"""Which keys this process has met lately: guesses at which way to an answer is the shorter one."""

import threading
from uuid import UUID


class Recent:
    """The last ``size`` digests, each by a hash of its source. Right or wrong, the answer to a request is the same."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._digests: dict[int, UUID] = {}  # in the order of their arrival

    def guess(self, source: int) -> UUID | None:
        """Return the digest that came from the same source lately."""
        return self._digests.get(source)

    def meet(self, source: int, digest: UUID) -> bool:
        """Tell whether the digest came from this source lately, and remember it."""
        with self._lock:
            if self._digests.get(source) == digest:
                return True
            self._digests[source] = digest
            if len(self._digests) > self._size:
                del self._digests[next(iter(self._digests))]
            return False
