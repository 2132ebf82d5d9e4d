"""Runs the tests of this directory and prints a summary line."""

import sys
import unittest
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tools")]

names = sys.argv[1:] or sorted(file.stem for file in HERE.glob("test_*.py"))
suite = unittest.defaultTestLoader.loadTestsFromNames(names)
result = unittest.TextTestRunner(stream=sys.stdout).run(suite)

failed = len(result.failures) + len(result.errors)
skipped = len(result.skipped)
for reason, count in Counter(reason for _, reason in result.skipped).items():
    print(f"skipped: {count} ({reason})")
print(f"openwrt: {result.testsRun - failed - skipped} passed, {failed} failed")
sys.exit(failed != 0)
