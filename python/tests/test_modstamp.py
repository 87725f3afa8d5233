"""The Python module with the real C library, in scratch directories.

tests/root/python.rs runs each test as root, where this machine's stamps are hidden. By hand, run
them as another user: a touch of root's is the system's.
"""

import contextlib
import fcntl
import glob
import itertools
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import modstamp

IS_ROOT = os.geteuid() == 0
NOBODY = 65534
NUMBERS = itertools.count()


def write(path, text=""):
    with open(path, "w") as file:
        file.write(text)


def lines(path):
    with open(path) as file:
        return file.read().splitlines()


class Scratch(unittest.TestCase):
    """An own profile and modules in a scratch directory, which is the working directory."""

    def setUp(self):
        here = tempfile.TemporaryDirectory()
        self.addCleanup(here.cleanup)
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(here.name)
        os.environ["XDG_STATE_HOME"] = here.name
        self.here = here.name
        os.mkdir("modules")
        for name in "a", "b":
            write(f"modules/{name}.so", name)
        self.name = f"python{os.getpid()}{next(NUMBERS)}"  # Its stamp is no other test's.
        self.profile = f"{self.here}/{self.name}.toml"
        write(self.profile, f'module-directories = ["{self.here}/modules"]\n')

    def stamp(self):
        """The stamp's path. The profile is given by its path, so the stamp's name has a number."""
        states = "/var/lib/modstamp" if IS_ROOT else f"{self.here}/modstamp"
        [stamp] = glob.glob(f"{states}/{self.name}-*.stamp")
        return stamp


class Witnesses(Scratch):
    def test_a_removed_module_makes_the_python_answer_stale(self):
        stored = str(modstamp.observe(self.profile))
        self.assertEqual(modstamp.check(stored, self.profile), modstamp.Verdict(()))
        os.unlink("modules/b.so")
        verdict = modstamp.check(stored, self.profile)
        self.assertEqual(verdict.reasons, (f"module b.so removed from {self.here}/modules",))
        self.assertFalse(verdict.is_fresh)

    def test_a_stale_verdict_is_false(self):
        witness = modstamp.observe(self.profile)
        self.assertTrue(witness.check())
        write("modules/c.so")
        self.assertFalse(witness.check())

    def test_every_reason_is_an_item(self):
        witness = modstamp.observe(self.profile)
        os.unlink("modules/b.so")
        write("modules/c.so")
        self.assertEqual(len(witness.check().reasons), 2)

    def test_a_probe_that_was_disturbed_is_told(self):
        witness = modstamp.observe(self.profile)
        self.assertIsNone(witness.disturbed())
        write("modules/new.so", "comes")
        os.unlink("modules/new.so")  # and goes
        self.assertTrue(witness.check())
        self.assertIn("touched during the probe", witness.disturbed())

    def test_a_touch_from_python_moves_the_stamp(self):
        witness = modstamp.observe(self.profile)
        modstamp.touch(self.profile, "a new licence key")
        stamp = self.stamp()
        first = os.stat(stamp).st_mtime_ns
        self.assertIn("a new licence key", "".join(lines(stamp)))
        self.assertIn("stamp", witness.check().reasons[0])
        modstamp.touch(self.profile)
        self.assertGreater(os.stat(stamp).st_mtime_ns, first)

    def test_an_error_of_the_library_is_an_exception_with_its_sentence(self):
        missing = f"{self.here}/missing.toml"
        for call in modstamp.observe, modstamp.touch, lambda path: modstamp.check("", path):
            with self.assertRaisesRegex(modstamp.Error, missing):
                call(missing)
        with self.assertRaisesRegex(modstamp.Error, "there is no profile “nope”; "):
            modstamp.observe("nope")

    def test_a_text_that_is_no_witness_is_stale(self):
        whole = str(modstamp.observe(self.profile))
        for text in "", "x", whole[:-1], whole + "\0", "\0" * 4096, "\udcff", "\ud800":
            verdict = modstamp.check(text, self.profile)
            self.assertEqual(len(verdict.reasons), 1, repr(text))
            self.assertIsNotNone(modstamp.Witness(text, self.profile).disturbed(), repr(text))

    def test_a_wrong_argument_is_told_in_a_sentence(self):
        with self.assertRaisesRegex(modstamp.Error, "“profile”: it has a zero byte"):
            modstamp.observe(f"{self.profile}\0.toml")
        with self.assertRaisesRegex(modstamp.Error, "“reason”: it is not text in UTF-8"):
            modstamp.touch(self.profile, "\udcff")
        with self.assertRaisesRegex(TypeError, "“witness”: it is of the type bytes; give"):
            modstamp.check(b"", self.profile)

    def test_others_run_during_a_call(self):
        modstamp.touch(self.profile)
        states, name = os.path.split(self.stamp())
        with open(f"{states}/.{name.removesuffix('.stamp')}.lock", "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            start = time.monotonic()
            touch = threading.Thread(target=modstamp.touch, args=[self.profile])
            touch.start()
            time.sleep(0.2)  # The touch begins, and waits for the lock.
            # If this thread could not free the lock now, the touch would wait for five seconds.
            fcntl.flock(lock, fcntl.LOCK_UN)
            touch.join()
        self.assertLess(time.monotonic() - start, 3)

    def test_no_text_of_the_library_is_left_in_memory(self):
        for number in range(1000):
            write(f"modules/{number}.so")
        stored = str(modstamp.observe(self.profile))

        def call():
            for _ in range(100):
                modstamp.observe(self.profile)

        call()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        call()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.assertGreater(len(stored), 50_000)
        self.assertLess(after - before, 3_000)  # KiB. A hundred witnesses are more.

    def test_a_missing_library_is_an_import_error_with_a_sentence(self):
        program = (
            "import ctypes\n"
            "load = ctypes.CDLL\n"
            "ctypes.CDLL = lambda name: load('missing-' + name)\n"
            "import modstamp\n"
        )
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        last = ended.stderr.splitlines()[-1]
        self.assertTrue(last.startswith("ImportError: cannot load modstamp's C library: "), last)
        self.assertIn("; install the package that has libmodstamp.so.0", last)

    def test_the_version_is_the_librarys(self):
        self.assertRegex(modstamp.version(), r"^\d+\.\d+\.\d+$")


class Cached(Scratch):
    def setUp(self):
        super().setUp()
        self.during = lambda: None

        @modstamp.cached("cache", self.profile)
        def names(*args, **kwargs):
            with open("probes", "a") as probes:
                probes.write("probe\n")
            self.during()
            return [sorted(os.listdir("modules")), list(args), kwargs]

        self.names = names

    def probes(self):
        return len(lines("probes"))

    def files(self):
        """The paths of the stored values."""
        names = [name for name in os.listdir("cache") if not name.startswith(".")]
        return [f"cache/{name}" for name in names]

    def file(self):
        """The path of the only stored value."""
        [path] = self.files()
        return path

    def assert_served(self, *args):
        before = self.probes()
        value = self.names(*args)
        self.assertEqual(self.probes(), before)
        return value

    def assert_asked(self, why, *args):
        """The call asks again, and says why."""
        before = self.probes()
        with self.assertLogs("modstamp", logging.INFO) as logs:
            value = self.names(*args)
        self.assertEqual(self.probes(), before + 1)
        self.assertRegex("\n".join(logs.output), why)
        return value

    def test_a_value_is_served_until_a_module_goes(self):
        self.assertEqual(self.names(), [["a.so", "b.so"], [], {}])
        self.assertEqual(self.assert_served(), [["a.so", "b.so"], [], {}])
        os.unlink("modules/b.so")
        why = f"INFO:modstamp:asked again: module b.so removed from {self.here}/modules$"
        self.assertEqual(self.assert_asked(why), [["a.so"], [], {}])
        self.assert_served()
        modstamp.touch(self.profile)
        self.assert_asked("stamp")

    def test_a_new_process_is_served_the_value(self):
        self.names()
        child = os.fork()
        if child == 0:
            before = self.probes()
            self.names()
            os._exit(self.probes() - before)
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_each_list_of_arguments_has_its_own_value(self):
        for _ in range(2):
            for value in 1, "1", True, 1.0, None, [1]:
                given = self.names(value, key=value)[1:]
                self.assertEqual(json.dumps(given), json.dumps([[value], {"key": value}]))
        self.assertEqual(self.probes(), 6)
        self.names(x=1, y=2)
        self.names(y=2, x=1)
        self.assertEqual(self.probes(), 7)

    def test_each_function_and_each_profile_has_its_own_value(self):
        other = f"{self.here}/other.toml"
        with open(self.profile) as profile:
            write(other, profile.read())
        first, second = (lambda: "first"), (lambda: "second")
        first.__qualname__, second.__qualname__ = "first", "second"
        answers = []
        for function in first, second:
            for profile in self.profile, other:
                answers.append(modstamp.cached("cache", profile)(function)())
        self.assertEqual(answers, ["first", "first", "second", "second"])
        self.assertEqual(len(self.files()), 4)

    def test_a_file_of_another_question_is_never_served(self):
        self.names(1)
        first = self.file()
        os.rename(first, "first")
        self.names(2)
        os.rename("first", self.file())
        self.assertEqual(self.assert_asked("is to another question", 2)[1], [2])

    def test_a_file_that_others_can_write_is_never_served(self):
        self.names()
        for mode in 0o602, 0o620:
            os.chmod(self.file(), mode)
            self.assert_asked("can be written by .*, so its answer is not believed")
            self.assert_served()

    @unittest.skipUnless(IS_ROOT, "only root gives files away")
    def test_a_file_of_another_user_is_never_served(self):
        self.names()
        os.chown(self.file(), NOBODY, NOBODY)
        self.assert_asked(f"belongs to user {NOBODY}, so its answer is not believed")
        self.assert_served()

    def test_a_directory_that_others_can_write_is_never_used(self):
        self.names()
        for mode in 0o702, 0o720, 0o1777:
            os.chmod("cache", mode)
            self.assert_asked("WARNING:modstamp:not kept: .* can be written by ")
        os.chmod("cache", 0o755)
        self.assert_served()
        if IS_ROOT:
            os.chown("cache", NOBODY, NOBODY)
            self.assert_asked("WARNING:modstamp:not kept: .* belongs to user ")

    def test_no_link_is_followed(self):
        self.names()
        stored = self.file()
        os.rename(stored, "moved")
        os.symlink(f"{self.here}/moved", stored)
        self.assert_asked("not kept: cannot read ")
        os.rename("moved", stored)
        self.assert_served()
        os.rename("cache", "moved")
        os.symlink("moved", "cache")
        self.assert_asked("not kept: cannot use the directory ")

    def ask_in(self, directory, why):
        """Asks with another directory. The value is not kept, for that reason."""
        ask = modstamp.cached(directory, self.profile)(lambda: "value")
        with self.assertLogs("modstamp", logging.WARNING) as logs:
            self.assertEqual(ask(), "value")
        self.assertRegex(logs.output[0], f"^WARNING:modstamp:not kept: {why}")

    @unittest.skipUnless(IS_ROOT, "only root gives files away")
    def test_nothing_is_made_where_a_link_of_another_user_leads(self):
        os.mkdir("target")
        os.mkdir("home")
        os.symlink(f"{self.here}/target", "home/.cache")
        os.chown("home/.cache", NOBODY, NOBODY, follow_symlinks=False)
        link = "cannot use the directory '.*/home/.cache/x': '.*/home/.cache' is a symbolic link"
        self.ask_in("home/.cache/x", link)
        os.chown("home", NOBODY, NOBODY)
        home = f"cannot use the directory '.*/home/.cache/x': '.*/home' belongs to user {NOBODY}"
        before = os.environ["HOME"]
        self.addCleanup(os.environ.update, HOME=before)
        os.environ["HOME"] = f"{self.here}/home"
        self.ask_in("~/.cache/x", home)
        self.assertEqual(os.listdir("target"), [])

    @unittest.skipUnless(IS_ROOT, "only a link of root's is followed")
    def test_a_link_of_roots_leads_to_the_directory(self):
        os.makedirs("var/home")
        os.symlink("var/home", "relative")
        os.symlink(f"{self.here}/relative", "absolute")
        ask = modstamp.cached("absolute/cache/below", self.profile)(lambda: "value")
        self.assertEqual(ask(), "value")
        self.assertEqual(len(os.listdir("var/home/cache/below")), 2)
        os.symlink("circle", "circle")
        self.ask_in("circle/cache", "cannot use .* is a symbolic link")

    def test_nothing_is_made_below_a_directory_that_others_can_write(self):
        os.mkdir("open")
        for mode in 0o702, 0o777:
            os.chmod("open", mode)
            self.ask_in("open/a/b", "cannot use .* '.*/open' can be written by every user")
            self.assertEqual(os.listdir("open"), [])
        if IS_ROOT:
            os.chown("open", 0, NOBODY)
            os.chmod("open", 0o770)
            self.ask_in("open/a/b", f"cannot use .* can be written by group {NOBODY}")
        os.chmod("open", 0o1777)  # Like /tmp.
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        ask = modstamp.cached("open/a/b", self.profile)(lambda: "value")
        self.assertEqual(ask(), "value")
        for path in "open/a", "open/a/b":
            self.assertEqual(os.stat(path).st_mode & 0o7777, 0o700)
        self.assertEqual(len(os.listdir("open/a/b")), 2)

    def test_a_lock_that_others_could_have_made_is_not_waited_for(self):
        self.names()
        [lock] = [f"cache/{name}" for name in os.listdir("cache") if name.endswith(".lock")]

        def spoiled():
            yield "can be written by every user", lambda: os.chmod(lock, 0o602)
            yield "has 2 names", lambda: os.link(lock, "second")
            if IS_ROOT:
                yield "belongs to user", lambda: os.chown(lock, NOBODY, NOBODY)

        for number, (why, spoil) in enumerate(spoiled()):
            spoil()
            write(f"modules/new{number}.so")
            with open(lock) as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                signal.alarm(20)  # Ends a test that waits.
                self.assert_asked(f"not kept: the lock '.*' {why}")
                signal.alarm(0)
            os.unlink(lock)
            with contextlib.suppress(FileNotFoundError):
                os.unlink("second")
            self.names()
            self.assert_served()

    def test_what_is_made_is_the_callers_alone(self):
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.names()
        paths = ["cache"] + [f"cache/{name}" for name in os.listdir("cache")]
        self.assertEqual(len(paths), 3)
        for path in paths:
            self.assertEqual(os.stat(path).st_mode & 0o077, 0, path)

    def test_a_torn_file_is_asked_again(self):
        self.names()
        with open(self.file(), "rb") as file:
            whole = file.read()
        changed = whole.replace(b"a.so", b"z.so")
        self.assertNotEqual(changed, whole)
        torn = [whole[:length] for length in range(0, len(whole), 97)]
        for content in [*torn, whole + b" ", b"\0" * len(whole), changed]:
            with open(self.file(), "wb") as file:
                file.write(content)
            self.assert_asked("is torn, or of another version")
            self.assert_served()

    def test_a_value_of_a_disturbed_call_is_returned_and_not_kept(self):
        self.during = lambda: write("modules/c.so")
        with self.assertLogs("modstamp", logging.WARNING) as logs:
            value = self.names()
        self.assertEqual(value[0], ["a.so", "b.so", "c.so"])
        self.assertRegex(logs.output[0], "not kept: module c.so added to ")
        self.assertEqual(self.files(), [])

    def test_an_exception_is_the_callers_and_the_stored_value_stays(self):
        self.names()
        stored = self.file()
        before = os.stat(stored)
        os.rename("modules/b.so", "b.so")

        def fail():
            raise OSError("the program failed")

        self.during = fail
        with self.assertRaisesRegex(OSError, "^the program failed$"):
            self.names()
        os.rename("b.so", "modules/b.so")
        self.assertEqual(os.stat(stored).st_ino, before.st_ino)
        self.assertEqual(self.assert_served()[0], ["a.so", "b.so"])

    def test_trouble_never_costs_the_caller_a_value(self):
        write("file")
        for directory, profile, why in [
            ("cache", "nope", "there is no profile “nope”"),
            ("file", self.profile, "cannot use the directory '.*/file': "),
            ("file/below", self.profile, "cannot use the directory '.*/file/below': "),
        ]:
            ask = modstamp.cached(directory, profile)(lambda: "value")
            with self.assertLogs("modstamp", logging.WARNING) as logs:
                self.assertEqual(ask(), "value")
            self.assertRegex(logs.output[0], f"^WARNING:modstamp:not kept: {why}")

    def test_a_value_that_json_cannot_hold_is_a_type_error(self):
        for value in (1, 2), {1: 2}, {1}, float("nan"), float("inf"), b"", [(1,)], object():
            with self.assertRaisesRegex(TypeError, "cannot keep the value of .* as JSON: "):
                modstamp.cached("cache", self.profile)(lambda: value)()
            with self.assertRaisesRegex(TypeError, "cannot keep the arguments of .* as JSON: "):
                self.names(value)
        self.assertFalse(os.path.exists("probes"))

    def test_the_first_value_is_like_the_later_ones(self):
        @modstamp.cached("cache", self.profile)
        def value():
            return {"b": [1.0, True, None, "\udcff", signal.SIGKILL], "a": {}}

        first, later = value(), value()
        self.assertEqual(repr(first), repr(later))
        first["b"].clear()
        self.assertEqual(value(), later)

    def test_two_processes_at_once_share_one_probe(self):
        self.share_one_probe(self.in_processes)

    def test_two_threads_at_once_share_one_probe(self):
        self.share_one_probe(self.in_threads)

    def share_one_probe(self, at_once):
        callers = 4

        def until_the_others_wait():
            end = time.monotonic() + 5
            while self.waiting() < callers - 1 and time.monotonic() < end:
                time.sleep(0.01)

        self.during = until_the_others_wait
        at_once(callers, self.names)
        self.assertEqual(self.probes(), 1)

    def waiting(self):
        """Counts those that wait for a lock in the cache (proc_locks(5))."""
        locks = [entry.inode() for entry in os.scandir("cache") if entry.name.endswith(".lock")]
        waiting = [line.split() for line in lines("/proc/locks") if " -> " in line]
        return sum(int(words[6].rpartition(":")[2]) in locks for words in waiting)

    @staticmethod
    def in_processes(count, call):
        children = []
        for _ in range(count):
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    call()
                    os._exit(0)
                os._exit(1)
            children.append(child)
        for child in children:
            assert os.waitpid(child, 0)[1] == 0

    @staticmethod
    def in_threads(count, call):
        threads = [threading.Thread(target=call) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def test_a_killed_caller_keeps_nobody_waiting(self):
        self.names()
        before = os.stat(self.file()).st_ino
        write("modules/c.so")
        child = os.fork()
        if child == 0:
            # In the middle of the replacement, when the new file has its contents.
            os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
            self.names()
        self.assertEqual(os.waitpid(child, 0)[1], signal.SIGKILL)
        self.assertEqual(os.stat(self.file()).st_ino, before)
        self.assertTrue([name for name in os.listdir("cache") if name.endswith(".new")])
        self.assert_asked("c.so")
        self.assert_served()
        self.assertFalse([name for name in os.listdir("cache") if name.endswith(".new")])

    def test_calls_leave_no_descriptor_open(self):
        self.names()
        stored = self.file()
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            self.names()
            write("modules/c.so", str(time.monotonic()))
            self.names()
        os.unlink(stored)
        os.mkdir(stored)
        self.assert_asked("not kept: cannot read ")
        self.assertEqual(os.listdir("/proc/self/fd"), before)


if __name__ == "__main__":
    unittest.main()
