"""How much memory a process needed."""

from pathlib import Path


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MB.

    Not from getrusage: there a program begins with the memory of the one that started it.

    Example:
        >>> peak_memory_mb() > 1
        True
    """
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
