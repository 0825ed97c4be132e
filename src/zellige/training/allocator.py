"""Keep memory that was freed: taking it anew from the system costs a fit on a CPU up to half of its time.

glibc gives every large block back as soon as it is free, and each page of the next one is cleared and mapped again at
its first touch. A network allocates the same large blocks for every batch.
"""

import ctypes
import logging

log = logging.getLogger(__name__)

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Of glibc's <malloc.h>."""
_KEPT_BYTES = 1 << 30
"""Most that is kept unused at the end of the heap."""


def keep_freed_memory() -> bool:
    """Tell the C library to keep up to 1 GiB of freed memory for the next blocks, for the rest of the process.

    Returns:
        False where the C library is not glibc; then nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        log.debug("allocator: no glibc, freed memory goes back to the system")
        return False
    # No block is mapped by itself, however large: the threshold for that cannot be set above 32 MiB.
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)) and bool(mallopt(_MMAP_MAX, 0))
