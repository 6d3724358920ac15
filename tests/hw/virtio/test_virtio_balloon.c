/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon: pages given back, the size, statistics; stops in the middle of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sched.h>
#include <string.h>
#include "hw/virtio/virtio_balloon.h"
#include "tests/support/virtio_guest.h"
#include "util/loop/sched_point.h"

#define PAGE 4096u
#define PAGES 64u
#define BUFFER_BYTES 0x4000u
#define CONFIG_NUM_PAGES 0
#define CONFIG_ACTUAL 4
#define CONFIG_POISON 12
#define MIB (UINT64_C(1) << 20)

typedef struct Fixture {
    VirtioBench *bench;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queues[4];
    uint64_t data;   /* gpa of PAGES pages full of 0xaa */
    uint64_t buffer; /* gpa of BUFFER_BYTES */
    unsigned changes;
    uint64_t actual;
} Fixture;

static void balloon_changed(void *opaque, uint64_t actual)
{
    Fixture *f = opaque;
    f->changes++;
    f->actual = actual;
}

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    f->bench->machine->env.balloon_changed = balloon_changed;
    f->data = virtio_bench_alloc(f->bench, PAGES * PAGE);
    f->buffer = virtio_bench_alloc(f->bench, BUFFER_BYTES);
    memset(virtio_bench_ram(f->bench, f->data, PAGES * PAGE), 0xaa, PAGES * PAGE);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    if (f->dev) {
        virtio_bench_unplug(f->bench, f->dev);
    }
    sched_point_reset();
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

static void bring_up_again(Fixture *f, uint64_t features)
{
    assert_true(virtio_guest_negotiate(&f->guest, features));
    for (unsigned i = 0; i < ((VirtioPci *)(void *)f->dev)->vdev.num_queues; i++) {
        virtio_guest_queue(&f->guest, &f->queues[i], i, 0, VIRTIO_NO_VECTOR);
    }
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
}

static void bring_up(Fixture *f, const char *properties, uint64_t features)
{
    f->dev = virtio_bench_device(f->bench, "virtio-balloon-pci", properties);
    f->bench->machine->env.opaque =
        f; /* of balloon_changed(); find_iothread() is not called again */
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    bring_up_again(f, features);
}

/* The workers are not part of the bench's idea of an idle machine. */
static void await_used(Fixture *f, unsigned queue)
{
    uint32_t id, len;
    while (!virtio_guest_used(&f->queues[queue], &id, &len)) {
        sched_yield();
    }
    assert_int_equal(len, 0);
}

static void assert_nothing_used(Fixture *f, unsigned queue)
{
    uint32_t id, len;
    assert_false(virtio_guest_used(&f->queues[queue], &id, &len));
}

static void put_pfns(Fixture *f, const uint32_t *pfns, unsigned count, unsigned extra_bytes)
{
    VringBuffer b = {f->buffer, (uint32_t)(count * sizeof(*pfns)) + extra_bytes, false};
    memcpy(virtio_bench_ram(f->bench, f->buffer, BUFFER_BYTES), pfns, count * sizeof(*pfns));
    virtio_guest_add(&f->queues[VIRTIO_BALLOON_INFLATE], &b, 1);
}

static uint32_t pfn_of(const Fixture *f, unsigned page)
{
    return (uint32_t)(f->data / PAGE + page);
}

/* Whether the page has all bytes as @byte. */
static bool page_is(Fixture *f, unsigned page, uint8_t byte)
{
    const uint8_t *at = virtio_bench_ram(f->bench, f->data + page * PAGE, PAGE);
    for (unsigned i = 0; i < PAGE; i++) {
        if (at[i] != byte) {
            return false;
        }
    }
    return true;
}

static bool page_is_dirty(Fixture *f, unsigned page)
{
    const RamBlock *b = &f->bench->machine->ram.blocks[0];
    uint64_t n = f->data / PAGE + page;
    return atomic_load(&b->dirty[n / 64]) >> (n % 64) & 1;
}

/* ---- pages ---- */

static void inflated_pages_are_given_back(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    uint32_t pfns[] = {pfn_of(f, 9), pfn_of(f, 3), pfn_of(f, 4), pfn_of(f, 9), pfn_of(f, 5)};
    put_pfns(f, pfns, G_N_ELEMENTS(pfns), 0);
    await_used(f, VIRTIO_BALLOON_INFLATE);
    for (unsigned page = 0; page < 12; page++) {
        bool given = page == 9 || (page >= 3 && page <= 5);
        assert_true(page_is(f, page, given ? 0 : 0xaa));
        assert_int_equal(page_is_dirty(f, page), given);
    }
}

static void addresses_that_are_not_ram_are_skipped(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    uint32_t end = FAKE_RAM_SIZE / PAGE;
    uint32_t pfns[] = {end, end + 1, UINT32_MAX, pfn_of(f, 1), 0x80000};
    put_pfns(f, pfns, G_N_ELEMENTS(pfns), 0);
    await_used(f, VIRTIO_BALLOON_INFLATE);
    assert_true(page_is(f, 1, 0));
    assert_true(page_is(f, 2, 0xaa));
    assert_false(virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET);
}

static void a_run_over_the_end_of_ram_frees_what_is_ram(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    uint32_t end = FAKE_RAM_SIZE / PAGE;
    uint32_t pfns[] = {end - 1, end, end - 2};
    memset(virtio_bench_ram(f->bench, FAKE_RAM_SIZE - 3 * PAGE, 3 * PAGE), 0x55, 3 * PAGE);
    put_pfns(f, pfns, G_N_ELEMENTS(pfns), 0);
    await_used(f, VIRTIO_BALLOON_INFLATE);
    const uint8_t *at = virtio_bench_ram(f->bench, FAKE_RAM_SIZE - 3 * PAGE, 3 * PAGE);
    assert_int_equal(at[0], 0x55);
    assert_int_equal(at[PAGE], 0);
    assert_int_equal(at[2 * PAGE], 0);
}

static void a_part_of_a_number_is_ignored(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    uint32_t pfns[] = {pfn_of(f, 0), pfn_of(f, 1)};
    put_pfns(f, pfns, 1, 3);
    await_used(f, VIRTIO_BALLOON_INFLATE);
    assert_true(page_is(f, 0, 0));
    assert_true(page_is(f, 1, 0xaa));
    put_pfns(f, pfns, 0, 2);
    await_used(f, VIRTIO_BALLOON_INFLATE);
}

static void a_deflation_is_answered(void **state)
{
    Fixture *f = *state;
    VringBuffer b = {f->buffer, 4, false};
    bring_up(f, NULL, ~0ull);
    virtio_guest_add(&f->queues[VIRTIO_BALLOON_DEFLATE], &b, 1);
    await_used(f, VIRTIO_BALLOON_DEFLATE);
    assert_true(page_is(f, 0, 0xaa));
}

static void reported_pages_are_given_back(void **state)
{
    Fixture *f = *state;
    VringBuffer chain[] = {{f->data + 2 * PAGE, 3 * PAGE, true},
                           {f->data + 8 * PAGE + 1, 2 * PAGE, true}, /* one whole page */
                           {f->data + 20 * PAGE + 16, 64, true}};    /* none */
    bring_up(f, "free-page-reporting=on", ~0ull);
    virtio_guest_add(&f->queues[VIRTIO_BALLOON_REPORTING], chain, 3);
    await_used(f, VIRTIO_BALLOON_REPORTING);
    for (unsigned page = 0; page < 24; page++) {
        assert_true(page_is(f, page, (page >= 2 && page <= 4) || page == 9 ? 0 : 0xaa));
    }
    assert_true(page_is_dirty(f, 3));
}

static void a_guest_that_poisons_pages_keeps_what_it_reports(void **state)
{
    Fixture *f = *state;
    VringBuffer b = {f->data, PAGE, true};
    bring_up(f, "free-page-reporting=on", ~0ull);
    virtio_guest_write(&f->guest, f->guest.config + CONFIG_POISON, 0xaaaaaaaa, 4);
    virtio_guest_add(&f->queues[VIRTIO_BALLOON_REPORTING], &b, 1);
    await_used(f, VIRTIO_BALLOON_REPORTING);
    assert_true(page_is(f, 0, 0xaa));
    virtio_guest_write(&f->guest, f->guest.config + CONFIG_POISON, 0, 4);
    virtio_guest_add(&f->queues[VIRTIO_BALLOON_REPORTING], &b, 1);
    await_used(f, VIRTIO_BALLOON_REPORTING);
    assert_true(page_is(f, 0, 0));
}

/* ---- stops ---- */

static void release_worker(void *arg, const void *object)
{
    sched_point_release("virtio_balloon.worker");
}

/* Two pieces; the queues stop during the first one. */
static void a_stop_waits_for_one_piece_and_the_buffer_is_taken_again(void **state)
{
    Fixture *f = *state;
    uint32_t pfns[VIRTIO_BALLOON_PIECE_PAGES + 1];
    bring_up(f, NULL, ~0ull);
    for (unsigned i = 0; i < G_N_ELEMENTS(pfns); i++) {
        pfns[i] = pfn_of(f, i < VIRTIO_BALLOON_PIECE_PAGES ? i % 8 : 10);
    }
    sched_point_hold("virtio_balloon.worker");
    put_pfns(f, pfns, G_N_ELEMENTS(pfns), 0);
    sched_point_await("virtio_balloon.worker");
    sched_point_hook("virtio.command", release_worker, NULL);
    virtio_bench_stop(f->bench, f->dev);
    assert_int_equal(sched_point_count("virtio_balloon.worker"), 1);
    assert_nothing_used(f, VIRTIO_BALLOON_INFLATE);
    assert_true(page_is(f, 10, 0xaa));
    sched_point_hook("virtio.command", NULL, NULL);
    virtio_bench_start(f->bench, f->dev);
    await_used(f, VIRTIO_BALLOON_INFLATE);
    assert_true(page_is(f, 10, 0));
    assert_int_equal(sched_point_count("virtio_balloon.worker"), 3);
}

static void a_reset_during_a_piece_drops_the_buffer(void **state)
{
    Fixture *f = *state;
    uint32_t pfns[VIRTIO_BALLOON_PIECE_PAGES + 1] = {0};
    bring_up(f, NULL, ~0ull);
    for (unsigned i = 0; i < G_N_ELEMENTS(pfns); i++) {
        pfns[i] = pfn_of(f, i < VIRTIO_BALLOON_PIECE_PAGES ? 1 : 10);
    }
    sched_point_hold("virtio_balloon.worker");
    put_pfns(f, pfns, G_N_ELEMENTS(pfns), 0);
    sched_point_await("virtio_balloon.worker");
    sched_point_hook("virtio.command", release_worker, NULL);
    virtio_guest_reset(&f->guest);
    bring_up_again(f, ~0ull);
    assert_true(page_is(f, 10, 0xaa));
    put_pfns(f, pfns, 1, 0);
    await_used(f, VIRTIO_BALLOON_INFLATE);
}

/* ---- size ---- */

static uint32_t config(Fixture *f, unsigned offset)
{
    return (uint32_t)virtio_guest_read(&f->guest, f->guest.config + offset, 4);
}

static void the_target_reaches_the_guest(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    virtio_balloon_set_target(f->dev, FAKE_RAM_SIZE - 5 * MIB);
    assert_int_equal(config(f, CONFIG_NUM_PAGES), 5 * MIB / PAGE);
    virtio_balloon_set_target(f->dev, UINT64_MAX);
    assert_int_equal(config(f, CONFIG_NUM_PAGES), 0);
    virtio_balloon_set_target(f->dev, 1);
    assert_int_equal(config(f, CONFIG_NUM_PAGES), FAKE_RAM_SIZE / PAGE - 1);
}

static void a_change_of_the_target_interrupts_the_guest(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    virtio_balloon_set_target(f->dev, MIB);
    assert_true(virtio_guest_read(&f->guest, f->guest.isr, 1) & VIRTIO_ISR_CONFIG);
}

static void the_guests_size_is_announced(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    assert_int_equal(virtio_balloon_actual(f->dev), FAKE_RAM_SIZE);
    virtio_guest_write(&f->guest, f->guest.config + CONFIG_ACTUAL, 256, 4);
    virtio_bench_settle(f->bench);
    assert_int_equal(f->changes, 1);
    assert_int_equal(f->actual, FAKE_RAM_SIZE - MIB);
    virtio_guest_write(&f->guest, f->guest.config + CONFIG_ACTUAL, 256, 4); /* no change */
    virtio_guest_write(&f->guest, f->guest.config + CONFIG_NUM_PAGES, 77, 4);
    virtio_bench_settle(f->bench);
    assert_int_equal(f->changes, 1);
    assert_int_equal(config(f, CONFIG_NUM_PAGES), 0);
}

static void a_balloon_larger_than_ram_leaves_nothing(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    virtio_guest_write(&f->guest, f->guest.config + CONFIG_ACTUAL, UINT32_MAX, 4);
    assert_int_equal(virtio_balloon_actual(f->dev), 0);
}

static void a_reset_empties_the_balloon_and_keeps_the_wish(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    virtio_balloon_set_target(f->dev, FAKE_RAM_SIZE - MIB);
    virtio_guest_write(&f->guest, f->guest.config + CONFIG_ACTUAL, 256, 4);
    virtio_bench_reset(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    assert_int_equal(f->actual, FAKE_RAM_SIZE);
    bring_up_again(f, ~0ull);
    assert_int_equal(config(f, CONFIG_NUM_PAGES), MIB / PAGE);
    assert_int_equal(config(f, CONFIG_ACTUAL), 0);
}

/* ---- statistics ---- */

static void put_stat(Fixture *f, unsigned at, uint16_t tag, uint64_t value)
{
    uint8_t *p = virtio_bench_ram(f->bench, f->buffer + at * 10, 10);
    memcpy(p, &tag, sizeof(tag));
    memcpy(p + 2, &value, sizeof(value));
}

static void offer_stats(Fixture *f, unsigned count)
{
    VringBuffer b = {f->buffer, count * 10, false};
    virtio_guest_add(&f->queues[VIRTIO_BALLOON_STATS], &b, 1);
    virtio_bench_settle(f->bench);
}

static void statistics_are_read_and_the_buffer_is_kept(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    assert_int_equal(virtio_balloon_stats(f->dev)->updated_s, 0);
    put_stat(f, 0, 4, 1234);
    put_stat(f, 1, 0xffff, 5);
    put_stat(f, 2, 15, 99);
    offer_stats(f, 3);
    const VirtioBalloonStats *s = virtio_balloon_stats(f->dev);
    assert_int_equal(s->values[4], 1234);
    assert_int_equal(s->values[15], 99);
    assert_true(s->values[0] == UINT64_MAX);
    assert_true(s->updated_s > 0);
    assert_nothing_used(f, VIRTIO_BALLOON_STATS);
}

static void polling_returns_the_buffer_for_new_numbers(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    put_stat(f, 0, 4, 1);
    offer_stats(f, 1);
    virtio_balloon_set_poll_interval(f->dev, 2);
    await_used(f, VIRTIO_BALLOON_STATS); /* at once */
    put_stat(f, 0, 4, 2);
    offer_stats(f, 1);
    assert_int_equal(virtio_balloon_stats(f->dev)->values[4], 2);
    fake_machine_advance(f->bench->machine, 1999999999);
    assert_nothing_used(f, VIRTIO_BALLOON_STATS);
    fake_machine_advance(f->bench->machine, 1);
    await_used(f, VIRTIO_BALLOON_STATS);
    fake_machine_advance(f->bench->machine, 2000000000); /* nothing to return */
    virtio_bench_settle(f->bench);
    offer_stats(f, 1);
    virtio_balloon_set_poll_interval(f->dev, 0);
    fake_machine_advance(f->bench->machine, INT64_C(10000000000));
    assert_nothing_used(f, VIRTIO_BALLOON_STATS);
}

static void a_second_buffer_with_statistics_returns_the_first(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    put_stat(f, 0, 4, 1);
    offer_stats(f, 1);
    put_stat(f, 0, 4, 2);
    offer_stats(f, 1);
    await_used(f, VIRTIO_BALLOON_STATS);
    assert_nothing_used(f, VIRTIO_BALLOON_STATS);
    assert_int_equal(virtio_balloon_stats(f->dev)->values[4], 2);
}

static void a_kept_buffer_delays_no_stop_and_comes_back(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    put_stat(f, 0, 4, 7);
    offer_stats(f, 1);
    virtio_bench_stop(f->bench, f->dev);
    virtio_balloon_set_poll_interval(f->dev, 1); /* of a stopped device */
    virtio_bench_settle(f->bench);
    assert_nothing_used(f, VIRTIO_BALLOON_STATS);
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    fake_machine_advance(f->bench->machine, 1000000000);
    await_used(f, VIRTIO_BALLOON_STATS);
}

/* ---- the device ---- */

static void the_table_of_state_is_complete(void **state)
{
    GError *error = NULL;
    if (!state_check_coverage(virtio_balloon_pci_type.state, &error)) {
        fail_msg("%s", error->message);
    }
}

static void saved_state_is_loaded(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL, ~0ull);
    virtio_balloon_set_target(f->dev, FAKE_RAM_SIZE - MIB);
    virtio_guest_write(&f->guest, f->guest.config + CONFIG_ACTUAL, 128, 4);
    virtio_bench_stop(f->bench, f->dev);
    g_autoptr(GByteArray) saved = virtio_bench_save(f->bench, f->dev);
    virtio_balloon_set_target(f->dev, FAKE_RAM_SIZE);
    assert_null(virtio_bench_load(f->bench, f->dev, saved));
    assert_int_equal(virtio_balloon_actual(f->dev), FAKE_RAM_SIZE - MIB / 2);
    virtio_bench_start(f->bench, f->dev);
    assert_int_equal(config(f, CONFIG_NUM_PAGES), MIB / PAGE);
}

static void options_offer_their_features(void **state)
{
    Fixture *f = *state;
    bring_up(f, "deflate-on-oom=on,page-poison=off", ~0ull);
    assert_true(f->guest.features & VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
    assert_false(f->guest.features & VIRTIO_BALLOON_F_PAGE_POISON);
    assert_false(f->guest.features & VIRTIO_BALLOON_F_PAGE_REPORTING);
    assert_int_equal(f->guest.config_size, 8);
}

static void what_is_lacking_is_refused_by_name(void **state)
{
    Fixture *f = *state;
    Device *dev;
    g_autofree char *hint =
        virtio_bench_try_device(f->bench, "virtio-balloon-pci", "free-page-hint=on", NULL, &dev);
    g_autofree char *thread =
        virtio_bench_try_device(f->bench, "virtio-balloon-pci", "iothread=none", NULL, &dev);
    assert_non_null(strstr(hint, "free-page-hint=on"));
    assert_non_null(strstr(thread, "no -object iothread,id=none"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(inflated_pages_are_given_back),
        T(addresses_that_are_not_ram_are_skipped),
        T(a_run_over_the_end_of_ram_frees_what_is_ram),
        T(a_part_of_a_number_is_ignored),
        T(a_deflation_is_answered),
        T(reported_pages_are_given_back),
        T(a_guest_that_poisons_pages_keeps_what_it_reports),
        T(a_stop_waits_for_one_piece_and_the_buffer_is_taken_again),
        T(a_reset_during_a_piece_drops_the_buffer),
        T(the_target_reaches_the_guest),
        T(a_change_of_the_target_interrupts_the_guest),
        T(the_guests_size_is_announced),
        T(a_balloon_larger_than_ram_leaves_nothing),
        T(a_reset_empties_the_balloon_and_keeps_the_wish),
        T(statistics_are_read_and_the_buffer_is_kept),
        T(polling_returns_the_buffer_for_new_numbers),
        T(a_second_buffer_with_statistics_returns_the_first),
        T(a_kept_buffer_delays_no_stop_and_comes_back),
        T(the_table_of_state_is_complete),
        T(saved_state_is_loaded),
        T(options_offer_their_features),
        T(what_is_lacking_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
