"""Keeps caches of what a program's plug-ins can do from going stale.

One decorator keeps a function's value in a file until the plug-ins change:

    @modstamp.cached("~/.cache/example")
    def devices(program: str) -> list[str]:
        "Asks QEMU, which takes seconds."

A program that keeps its answers itself observes, then probes, then stores:

    witness = modstamp.observe()
    answer = probe()
    if witness.disturbed() is None:
        store(answer, str(witness))

Later it checks before it uses the answer:

    verdict = modstamp.check(stored_witness)
    if not verdict.is_fresh:
        print("asking again:", *verdict.reasons)

A profile is "qemu", the name of another profile, or the path of a profile's file, which has a "/"
in it. modstamp-profile(5) describes profiles, and libmodstamp(3) the C library that does the work.

Any number of threads may call these functions at the same time. A call does not stop other threads.
The library reads the environment, so no other thread may change `os.environ` during a call. A
thread needs a stack of 256 KiB (`threading.stack_size`).
"""

from modstamp._cached import cached
from modstamp._library import Error, version
from modstamp._witness import Verdict, Witness, check, observe, touch

__all__ = ["Error", "Verdict", "Witness", "cached", "check", "observe", "touch", "version"]
