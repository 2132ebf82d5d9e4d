"""Runs the tests of this folder and ends with a line that counts them."""

import sys
import unittest
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tools")]

names = sys.argv[1:] or sorted(file.stem for file in HERE.glob("test_*.py"))
suite = unittest.defaultTestLoader.loadTestsFromNames(names)
result = unittest.TextTestRunner(stream=sys.stdout).run(suite)

bad = len(result.failures) + len(result.errors)
over = len(result.skipped)
for test, reason in result.skipped:
    print(f"passed over: {test}: {reason}")
print(f"openwrt: {result.testsRun - bad - over} passed, {bad} failed")
sys.exit(bad != 0)
