"""Freed memory is kept: the same large allocation again costs no page faults."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys, torch
from regraft.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(12):
    torch.ones(20_000_000)
before = faults()
for _ in range(5):
    torch.ones(20_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so eagerly")
def test_the_same_tensor_again_costs_no_page_faults():
    def faults(word):
        done = subprocess.run([sys.executable, "-c", CODE, word], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < faults("usual") / 10
