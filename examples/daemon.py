"""Shows a daemon that checks its answer before each use, and says why it asks again.

    python3 examples/daemon.py qemu qemu-system-x86_64 -device help

Each line of standard input is a request for the answer. Instead of `qemu`, name any profile, or the
path of a profile's file.
"""

from __future__ import annotations

import subprocess
import sys

import modstamp

if len(sys.argv) < 3:
    sys.exit("usage: daemon.py PROFILE PROGRAM [ARGUMENT]...")
profile, *command = sys.argv[1:]


def probe() -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


kept: tuple[str, modstamp.Witness] | None = None
for _ in sys.stdin:
    # developers.md: check in Python
    if kept is not None:
        answer, witness = kept
        verdict = witness.check()
        if not verdict.is_fresh:
            print("asking again:", verdict.reasons[0])
            kept = None
    # developers.md: end
    if kept is not None:
        print("kept:", answer, flush=True)
        continue
    # developers.md: by hand in Python
    before = modstamp.observe(profile)  # before the probe
    answer = probe()
    reason = before.disturbed()
    if reason is None:
        kept = answer, before  # or store both, with the text str(before)
    else:
        print("used once:", reason)
    # developers.md: end
    print("new:", answer, flush=True)
