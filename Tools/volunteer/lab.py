"""A temporary folder in which daemons run, what they have printed there, and the limits under which a peer trains whatever else the machine does."""
import os
import sys
import tempfile
import time

# No sensor keeps such a peer from work.
LIMITS = {"ATOLL_LIMIT_PRIORITY": "normal", "ATOLL_LIMIT_UNSEEN": "work", "ATOLL_LIMIT_ON_BATTERY": "work"}


class Folder:
    def __init__(self, prefix):
        self.path = tempfile.mkdtemp(prefix=prefix)

    def read(self, name):
        """What a file has so far; nothing where there is none."""
        try:
            with open(os.path.join(self.path, name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def waited(self, what, seconds, asks):
        """The first answer that is something; the program ends where none comes in so many seconds."""
        end = time.time() + seconds
        while time.time() < end:
            found = asks()
            if found:
                return found
            time.sleep(0.05)
        sys.exit("not done: %s in %d s; logs are in %s" % (what, seconds, self.path))
