"""What a process has in memory, as the kernel counts it (/proc/PID/status)."""
import re


def memory_of(pid):
    """Bytes: of what it allocated now (RssAnon), and the most that was ever resident (VmHWM). None of a process that is gone."""
    try:
        text = open(f"/proc/{pid}/status").read()
    except OSError:
        return None
    found = [re.search(rf"^{key}:\s+(\d+) kB", text, re.M) for key in ("RssAnon", "VmHWM")]
    return tuple(1024 * int(one[1]) for one in found) if all(found) else None
