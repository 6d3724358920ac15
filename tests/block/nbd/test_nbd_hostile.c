/* SPDX-License-Identifier: Apache-2.0 */
/* A few steps of tests/fuzz/fuzz_nbd. */
#include "tests/block/nbd/nbd_hostile.h"

NBD_TEST(hostile_clients_harm_nobody)
{
    char *arguments[] = {(char[]){""},    (char[]){"--seed"},    (char[]){"7"}, (char[]){"--steps"},
                         (char[]){"500"}, (char[]){"--seconds"}, (char[]){"3"}};
    fuzz_begin("#", G_N_ELEMENTS(arguments), arguments);
    hostile_begin();
    while (fuzz_goes_on()) {
        hostile_step();
    }
    rig_end();
}

int main(void)
{
    block_setup(block_drivers);
    const struct CMUnitTest tests[] = {cmocka_unit_test(hostile_clients_harm_nobody)};
    return block_test_main(tests);
}
