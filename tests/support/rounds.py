# SPDX-License-Identifier: Apache-2.0
"""The number of rounds of a test, by where it runs; like `rounds` of tests/guest/common.bash."""
import os


def rounds(lab, check, long):
    """Returns the argument that TEST_ROUNDS names (set by tests/run); `check` if it is not set."""
    return {"lab": lab, "check": check, "long": long}[os.environ.get("TEST_ROUNDS", "check")]
