#!/usr/bin/env python3
"""Python's own tests of a module, as lines of "outcome name" in a file, to be held against those of another run.

python_tests.py FILE threading|gc|subprocess|multiprocessing [--long] [NAME...]

Without --long what only waits is left out; with names only those tests run, and none that has a line in the file. The exit
status is 0 whatever they came to; it is not after a test that did not end: FILE.begun names it, the rest is for another run.
FILE.begun is empty when what did not end was no test but what comes behind one, a class's or the module's.
"""
import faulthandler
import sys
import unittest

# Whose time is waiting, or that try again what is tried beside them.
SLOW = ("TestWait", "Manager", "ThreadsTest", "TestFinalize", "TestPollEintr", "TestResourceTracker", "NoPoll", "WorkerLifetime")

# Seconds after which a test is taken for one that never ends (one that waits for a peer where there is no network, say).
PATIENCE = 20


class Outcomes(unittest.TestResult):
    """One word a test; a test with failed parts failed."""

    def __init__(self, path):
        super().__init__()
        self.words = {}
        self.path = path

    def begin(self, what):
        """Notes what comes now, and gives it its time."""
        with open(self.path + ".begun", "w") as file:
            file.write(what)
        faulthandler.dump_traceback_later(PATIENCE, exit=True)

    def startTest(self, test):
        super().startTest(test)
        self.begin(test.id())

    def stopTest(self, test):
        super().stopTest(test)
        with open(self.path, "a") as file:
            file.write(f"{self.words.get(test.id(), 'ok')} {test.id()}\n")
        self.begin("")

    def note(self, test, word):
        self.words[test.id()] = word

    def addSuccess(self, test):
        self.words.setdefault(test.id(), "ok")

    def addSubTest(self, test, part, error):
        super().addSubTest(test, part, error)
        if error:
            self.note(test, "FAILED")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.note(test, "FAILED")

    def addError(self, test, error):
        super().addError(test, error)
        self.note(test, "FAILED")

    def addSkip(self, test, why):
        self.note(test, "skipped")

    def addExpectedFailure(self, test, error):
        self.note(test, "ok")

    def addUnexpectedSuccess(self, test):
        self.note(test, "FAILED")


def tests_of(module):
    """The module's tests; those of multiprocessing for processes made by fork."""
    if module != "multiprocessing":
        return unittest.defaultTestLoader.loadTestsFromName(f"test.test_{module}")
    return unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])


def each(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from each(test)
        else:
            yield test


def main():
    path, module, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
    is_long, names = "--long" in rest, {name for name in rest if not name.startswith("-")}
    try:
        with open(path) as file:
            done = {line.split()[1] for line in file}
    except FileNotFoundError:
        done = set()
    suite = unittest.TestSuite(
        test for test in each(tests_of(module))
        if test.id() not in done
        and (test.id() in names if names else is_long or not any(slow in test.id() for slow in SLOW)))
    outcomes = Outcomes(path)
    # The end of the program has its time as well.
    suite.run(outcomes)
    for test, why in outcomes.failures + outcomes.errors:
        print(f"{test.id()}\n{why}", file=sys.stderr)


if "multiprocessing" in sys.argv[2:3]:
    # Here, where a child that is no fork finds its tests too.
    from test._test_multiprocessing import install_tests_in_module_dict
    install_tests_in_module_dict(globals(), "fork")
if __name__ == "__main__":
    main()
