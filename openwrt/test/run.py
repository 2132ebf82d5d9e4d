"""Runs the tests of this folder and ends with a line that counts them."""

import sys
import unittest
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tools")]

names = sys.argv[1:] or sorted(file.stem for file in HERE.glob("test_*.py"))
suite = unittest.defaultTestLoader.loadTestsFromNames(names)
result = unittest.TextTestRunner(stream=sys.stdout).run(suite)

bad = len(result.failures) + len(result.errors)
over = len(result.skipped)
for reason, times in Counter(reason for _, reason in result.skipped).items():
    print(f"passed over: {times} because: {reason}")
print(f"openwrt: {result.testsRun - bad - over} passed, {bad} failed")
sys.exit(bad != 0)
