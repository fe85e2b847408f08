"""Which keys this process has met lately: a guess at which way to an answer is the shorter one."""

import threading
from uuid import UUID


class Recent:
    """The last ``size`` digests. Right or wrong, the answer to a request is the same."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._digests: dict[UUID, None] = {}  # in the order of their arrival

    def meet(self, digest: UUID) -> bool:
        """Tell whether the digest has been met lately, and remember it."""
        with self._lock:
            if digest in self._digests:
                return True
            self._digests[digest] = None
            if len(self._digests) > self._size:
                del self._digests[next(iter(self._digests))]
            return False
