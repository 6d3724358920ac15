/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile NBD clients (tests/block/nbd/nbd_hostile.h) against the server.
 *
 *   fuzz_nbd [--seconds N] [--seed N] [--steps N]
 */
#include "tests/block/nbd/nbd_hostile.h"
#include "util/log.h"

#define FUZZ_STEP_SECONDS 60u

static void fuzz_body(void)
{
    hostile_begin();
    while (fuzz_goes_on()) {
        alarm(FUZZ_STEP_SECONDS);
        hostile_step();
        alarm(0);
    }
    rig_end();
}

int main(int argc, char **argv)
{
    fuzz_begin("fuzz_nbd", argc, argv);
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    block_setup(block_drivers);
    if (block_test_setup(NULL) != 0 || !log_open("/dev/null", false)) {
        return 1;
    }
    rig_run(fuzz_body);
    block_test_teardown(NULL);
    fuzz_end("steps");
    return 0;
}
