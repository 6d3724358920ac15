/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of ownership, broken on purpose. Each child process dies once and has its own machine: this
 * program has a single thread. */
#include "tests/hw/virtio/virtio_rng_bench.h"
#include "tests/support/death.h"

static void main_takes_from_a_started_queue(void *arg)
{
    Fixture *f;
    void *state;
    set_up(&state);
    f = state;
    bring_up(f, VIRTIO_NO_VECTOR);
    virtio_pop(&f->guest.dev->vdev, 0);
}

static void a_started_queue_is_its_iothreads_alone(void **state)
{
    assert_dies(main_takes_from_a_started_queue, NULL, "which is not its home");
}

static void the_device_goes_while_it_runs(void *arg)
{
    Fixture *f;
    void *state;
    set_up(&state);
    f = state;
    bring_up(f, VIRTIO_NO_VECTOR);
    enter_main();
    virtio_cleanup(&f->guest.dev->vdev);
}

static void a_device_is_stopped_before_it_goes(void **state)
{
    assert_dies(the_device_goes_while_it_runs, NULL, "VIRTIO_OWNER_MAIN");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_started_queue_is_its_iothreads_alone),
        cmocka_unit_test(a_device_is_stopped_before_it_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
