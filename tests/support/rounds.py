# SPDX-License-Identifier: Apache-2.0
"""How many rounds a test takes where it runs; `rounds` of tests/guest/common.bash, for Python."""
import os


def rounds(lab, check, long):
    """The argument that TEST_ROUNDS names, which tests/run sets; `check` without it."""
    return {"lab": lab, "check": check, "long": long}[os.environ.get("TEST_ROUNDS", "check")]
