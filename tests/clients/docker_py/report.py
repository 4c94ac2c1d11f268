"""Tells what each test came to, one line of JSON a test, in the file that $REPORT names.

A pytest plug-in, loaded by name. An outcome is `passed`, `failed`, `skipped`, or for tests that the
suite itself marks so `xfailed` (failed as it expects) and `xpassed` (passed all the same).
"""

import json
import os

_tests = {}


def _outcome(report):
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    return report.outcome


def _why(report):
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    return str(report.longrepr or "")


def pytest_runtest_logreport(report):
    test = _tests.setdefault(
        report.nodeid, {"name": report.nodeid, "outcome": "passed", "why": "", "seconds": 0.0}
    )
    test["seconds"] += report.duration
    outcome = _outcome(report)
    # What failed or was skipped before or after the test counts; what passed there does not.
    if report.when == "call" or outcome != "passed":
        test["outcome"] = outcome
        test["why"] = _why(report)
    if report.when == "teardown":
        with open(os.environ["REPORT"], "a", encoding="utf-8") as file:
            file.write(json.dumps(_tests.pop(report.nodeid)) + "\n")
