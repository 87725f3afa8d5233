"""Shows a cached probe: a program's output is kept in a file, and asked for again after a change.

    python3 examples/cached.py qemu DIRECTORY qemu-system-x86_64 -device help

Instead of `qemu`, name any profile, or the path of a profile's file.
"""

import logging
import subprocess
import sys

import modstamp

if len(sys.argv) < 4:
    sys.exit("usage: cached.py PROFILE DIRECTORY PROGRAM [ARGUMENT]...")
profile, directory, *command = sys.argv[1:]
logging.basicConfig(level=logging.INFO, format="%(message)s")

# developers.md: cached in Python
@modstamp.cached(directory, profile)  # for example "~/.cache/example", "qemu"
def ask(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
# developers.md: end

print(ask(*command), end="")
