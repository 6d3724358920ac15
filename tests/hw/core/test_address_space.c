/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "hw/core/address_space.h"

/* A region of byte-wide registers that records its accesses. */
typedef struct Probe {
    IoRegion region;
    IoRegionOps ops;
    uint8_t bytes[64];
    struct {
        uint64_t offset, value;
        unsigned size;
        bool is_write;
    } seen[32];
    unsigned count;
    unsigned pend_at; /* pends the access of that number (1 is the first) */
    Pended pended;
    unsigned maps, unmaps;
} Probe;

static MmioResult probe_access(void *opaque, IoAccess *access)
{
    Probe *p = opaque;
    assert_bql();
    unsigned n = p->count++;
    assert_true(n < G_N_ELEMENTS(p->seen));
    p->seen[n].offset = access->offset;
    p->seen[n].value = access->value;
    p->seen[n].size = access->size;
    p->seen[n].is_write = access->is_write;
    if (p->pend_at == p->count) {
        return pended_wait_for(&p->pended, access);
    }
    assert_true(access->offset + access->size <= p->region.size);
    if (access->is_write) {
        memcpy(p->bytes + access->offset, &access->value, access->size);
    } else {
        memcpy(&access->value, p->bytes + access->offset, access->size);
    }
    return MMIO_DONE;
}

static void probe_mapped(void *opaque, bool mapped)
{
    Probe *p = opaque;
    p->maps += mapped;
    p->unmaps += !mapped;
    assert_non_null(p->region.space);
}

static void probe_init(Probe *p, uint64_t size, unsigned min, unsigned max, bool unaligned)
{
    memset(p, 0, sizeof(*p));
    p->ops = (IoRegionOps){.access = probe_access,
                           .min_size = (uint8_t)min,
                           .max_size = (uint8_t)max,
                           .unaligned = unaligned,
                           .mapped = probe_mapped};
    p->region = (IoRegion){.name = "probe", .ops = &p->ops, .opaque = p, .size = size};
    for (unsigned i = 0; i < sizeof(p->bytes); i++) {
        p->bytes[i] = (uint8_t)(0x10 + i);
    }
}

static AddressSpace *space;

static int set_up(void **unused)
{
    if (thread_role() == THREAD_NONE) {
        thread_adopt_role(THREAD_MAIN, "main");
    }
    space = address_space_new("test");
    bql_lock();
    return 0;
}

static int tear_down(void **unused)
{
    bql_unlock();
    address_space_free(space);
    return 0;
}

static uint64_t read_at(uint64_t address, unsigned size, bool *claimed)
{
    IoAccess access = {.size = (uint8_t)size};
    assert_int_equal(address_space_dispatch(space, address, &access, claimed), MMIO_DONE);
    return access.value;
}

static void write_at(uint64_t address, uint64_t value, unsigned size)
{
    IoAccess access = {.size = (uint8_t)size, .is_write = true, .value = value};
    assert_int_equal(address_space_dispatch(space, address, &access, NULL), MMIO_DONE);
}

static void test_unclaimed_reads_all_ones(void **unused)
{
    bool claimed = true;
    assert_int_equal(read_at(0x1234, 4, &claimed), 0xffffffff);
    assert_false(claimed);
    assert_true(read_at(UINT64_MAX, 8, &claimed) == UINT64_MAX);
    write_at(0x1234, 1, 1);
}

static void test_access_reaches_the_region_with_its_offset(void **unused)
{
    Probe p;
    probe_init(&p, 64, 0, 0, false);
    address_space_map(space, &p.region, 0x1000, 0);
    bool claimed = false;
    assert_int_equal(read_at(0x1008, 4, &claimed), 0x1b1a1918);
    assert_true(claimed);
    assert_int_equal(p.seen[0].offset, 8);
    assert_int_equal(p.seen[0].size, 4);
    write_at(0x1002, 0xbeef, 2);
    assert_int_equal(p.bytes[2], 0xef);
    assert_int_equal(p.bytes[3], 0xbe);
}

static void test_wide_access_is_split_low_address_first(void **unused)
{
    Probe p;
    probe_init(&p, 64, 1, 2, false);
    address_space_map(space, &p.region, 0, 0);
    assert_true(read_at(0, 8, NULL) == UINT64_C(0x1716151413121110));
    assert_int_equal(p.count, 4);
    assert_int_equal(p.seen[1].offset, 2);
    write_at(4, 0x44332211, 4);
    assert_int_equal(p.seen[4].value, 0x2211);
    assert_int_equal(p.seen[5].value, 0x4433);
}

static void test_odd_sizes_become_aligned_pieces(void **unused)
{
    Probe p;
    probe_init(&p, 64, 1, 4, false);
    address_space_map(space, &p.region, 0, 0);
    assert_int_equal(read_at(1, 3, NULL), 0x131211);
    assert_int_equal(p.count, 2);
    assert_int_equal(p.seen[0].size, 1);
    assert_int_equal(p.seen[1].size, 2);
    assert_true(read_at(1, 7, NULL) == UINT64_C(0x17161514131211));
}

static void test_narrow_and_unaligned_accesses_are_dropped(void **unused)
{
    Probe p;
    probe_init(&p, 64, 2, 4, false);
    address_space_map(space, &p.region, 0, 0);
    assert_int_equal(read_at(0, 1, NULL), 0xff);
    assert_int_equal(read_at(1, 2, NULL), 0xffff);
    write_at(2, 0, 1);
    assert_int_equal(p.count, 0);
    p.ops.unaligned = true;
    assert_int_equal(read_at(1, 2, NULL), 0x1211);
}

static void test_access_past_the_end_continues_in_the_neighbour(void **unused)
{
    Probe a, b;
    probe_init(&a, 2, 1, 1, false);
    probe_init(&b, 2, 1, 2, false);
    address_space_map(space, &a.region, 0x10, 0);
    address_space_map(space, &b.region, 0x13, 0);
    /* 0x10, 0x11: a; 0x12: nobody; 0x13: b */
    assert_int_equal(read_at(0x10, 4, NULL), 0x10ff1110);
    assert_int_equal(b.seen[0].size, 1);
}

static void test_higher_priority_then_later_mapping_wins(void **unused)
{
    Probe bottom, top, late;
    probe_init(&bottom, 8, 1, 4, true);
    probe_init(&top, 1, 1, 1, false);
    probe_init(&late, 4, 1, 4, false);
    memset(bottom.bytes, 0xaa, sizeof(bottom.bytes));
    address_space_map(space, &top.region, 0xcf9, 1);
    address_space_map(space, &bottom.region, 0xcf8, 0);
    assert_int_equal(read_at(0xcf9, 1, NULL), 0x10);
    /* The owner of the first byte gets the access whole. */
    assert_int_equal(read_at(0xcf8, 4, NULL), 0xaaaaaaaa);
    assert_int_equal(bottom.seen[0].size, 4);
    address_space_map(space, &late.region, 0xcfc, 0);
    assert_int_equal(read_at(0xcfc, 1, NULL), 0x10);
    address_space_unmap(&late.region);
    assert_int_equal(read_at(0xcfc, 1, NULL), 0xaa);
    address_space_unmap(&late.region); /* not mapped: nothing */
}

static void test_region_may_end_at_the_top_of_the_space(void **unused)
{
    Probe p;
    probe_init(&p, 64, 1, 8, true);
    address_space_map(space, &p.region, UINT64_MAX - 63, 0);
    assert_int_equal(read_at(UINT64_MAX, 1, NULL), 0x10 + 63);
    assert_int_equal(read_at(UINT64_MAX, 2, NULL), 0xff00 | (0x10 + 63));
    assert_int_equal(read_at(UINT64_MAX - 64, 1, NULL), 0xff);
}

static void test_pended_access_is_dispatched_again_where_it_stopped(void **unused)
{
    Probe p;
    probe_init(&p, 64, 1, 4, false);
    address_space_map(space, &p.region, 0, 0);
    p.pend_at = 2; /* the second half of an 8-byte write */
    IoAccess access = {.size = 8, .is_write = true, .value = UINT64_C(0x8877665544332211)};
    bool claimed = false;
    assert_int_equal(address_space_dispatch(space, 0, &access, &claimed), MMIO_PENDING);
    assert_true(claimed);
    assert_false(completion_done(&access.waiter.done));
    pended_finish(&p.pended);
    assert_true(completion_done(&access.waiter.done));
    assert_null(p.pended.waiters);
    assert_int_equal(address_space_dispatch(space, 0, &access, &claimed), MMIO_DONE);
    assert_int_equal(p.count, 3);
    assert_int_equal(p.seen[2].offset, 4);
    assert_int_equal(p.seen[2].value, 0x88776655);
    assert_int_equal(p.bytes[0], 0x11);
}

static void test_pended_access_ends_where_it_began_below_a_new_mapping(void **unused)
{
    Probe p, cover;
    probe_init(&p, 64, 1, 4, false);
    probe_init(&cover, 64, 1, 8, false);
    address_space_map(space, &p.region, 0, 0);
    p.pend_at = 1;
    IoAccess access = {.size = 8, .is_write = true, .value = UINT64_C(0x8877665544332211)};
    assert_int_equal(address_space_dispatch(space, 0, &access, NULL), MMIO_PENDING);
    address_space_map(space, &cover.region, 0, 2);
    pended_finish(&p.pended);
    assert_int_equal(address_space_dispatch(space, 0, &access, NULL), MMIO_DONE);
    assert_int_equal(p.count, 2);
    assert_int_equal(p.bytes[3], 0x44);
    assert_int_equal(cover.count, 1); /* the other half, which was not pended */
    assert_int_equal(cover.bytes[4], 0x55);
}

static void test_pended_access_leaves_a_region_that_moved_or_went(void **unused)
{
    Probe p;
    probe_init(&p, 64, 1, 8, false);
    for (unsigned moved_on = 0; moved_on < 2; moved_on++) {
        IoAccess access = {.size = 1};
        bool claimed = true;
        address_space_map(space, &p.region, 0, 0);
        p.pend_at = p.count + 1;
        assert_int_equal(address_space_dispatch(space, 8, &access, NULL), MMIO_PENDING);
        address_space_unmap(&p.region);
        if (moved_on) {
            address_space_map(space, &p.region, 0x100, 0);
        }
        pended_finish(&p.pended);
        assert_int_equal(address_space_dispatch(space, 8, &access, &claimed), MMIO_DONE);
        assert_false(claimed);
        assert_int_equal(access.value, 0xff);
    }
}

static void test_all_waiters_of_a_device_are_woken(void **unused)
{
    Probe p;
    probe_init(&p, 64, 1, 8, false);
    address_space_map(space, &p.region, 0, 0);
    IoAccess access[3] = {{.size = 1}, {.size = 1}, {.size = 1}};
    for (unsigned i = 0; i < 3; i++) {
        p.pend_at = p.count + 1;
        assert_int_equal(address_space_dispatch(space, i, &access[i], NULL), MMIO_PENDING);
    }
    pended_finish(&p.pended);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(completion_done(&access[i].waiter.done));
    }
}

/* A handler that moves a window, as a config write moves a BAR, in the middle of a split access. */
static Probe moved;
static MmioResult mover_access(void *opaque, IoAccess *access)
{
    assert_bql();
    address_space_unmap(&moved.region);
    address_space_map(space, &moved.region, 4, 1);
    access->value = 0x77;
    return MMIO_DONE;
}

static void test_handler_may_remap_during_a_split_access(void **unused)
{
    static const IoRegionOps mover_ops = {.access = mover_access, .min_size = 1, .max_size = 4};
    IoRegion mover = {.name = "mover", .ops = &mover_ops, .size = 8};
    probe_init(&moved, 64, 1, 4, false);
    address_space_map(space, &mover, 0, 0);
    address_space_map(space, &moved.region, 0x100, 0);
    assert_true(read_at(0, 8, NULL) == UINT64_C(0x1312111000000077));
}

static unsigned listened;
static void listen_changed(void *opaque, IoRegion *region, bool mapped)
{
    assert_ptr_equal(region->space, space);
    listened += mapped ? 1 : 100;
}

static void test_listener_and_hook_are_called_for_map_and_unmap(void **unused)
{
    Probe p;
    probe_init(&p, 64, 1, 4, false);
    listened = 0;
    address_space_set_listener(space, (AddressSpaceListener){.changed = listen_changed});
    address_space_map(space, &p.region, 0x40, 0);
    assert_int_equal(listened, 1);
    address_space_unmap(&p.region);
    assert_int_equal(listened, 101);
    assert_int_equal(p.maps, 1);
    assert_int_equal(p.unmaps, 1);
    assert_null(p.region.space);
}

static void count_ordered(const IoRegion *r, void *opaque)
{
    uint64_t *last = opaque;
    assert_true(r->base >= *last);
    *last = r->base;
}

static void test_foreach_goes_in_address_order_and_overlap_is_found(void **unused)
{
    Probe a, b;
    probe_init(&a, 8, 1, 1, false);
    probe_init(&b, 8, 1, 1, false);
    address_space_map(space, &a.region, 0x200, 5);
    address_space_map(space, &b.region, 0x100, 0);
    uint64_t last = 0;
    address_space_foreach(space, count_ordered, &last);
    assert_int_equal(last, 0x200);
    assert_ptr_equal(address_space_find_overlap(space, 0x107, 0x200), &b.region);
    assert_ptr_equal(address_space_find_overlap(space, 0x1ff, 2), &a.region);
    assert_null(address_space_find_overlap(space, 0x108, 0xf8));
}

/* The flat view against the definition, over random overlapping windows. */
static void test_dispatch_agrees_with_the_definition_of_precedence(void **unused)
{
    static Probe p[12];
    uint32_t x = 12345;
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(p); i++) {
            x = x * 1664525 + 1013904223;
            probe_init(&p[i], 1 + (x >> 28) * 2, 1, 1, false);
            memset(p[i].bytes, (int)i, sizeof(p[i].bytes));
            address_space_map(space, &p[i].region, (x >> 8) % 64, (int)((x >> 20) % 3));
        }
        for (uint64_t address = 0; address < 100; address++) {
            unsigned want = 0xff;
            int best = -1;
            for (unsigned i = 0; i < G_N_ELEMENTS(p); i++) {
                const IoRegion *r = &p[i].region;
                p[i].count = 0;
                if (address >= r->base && address < r->base + r->size && r->priority >= best) {
                    want = i;
                    best = r->priority;
                }
            }
            assert_int_equal(read_at(address, 1, NULL), want);
        }
        for (unsigned i = 0; i < G_N_ELEMENTS(p); i++) {
            address_space_unmap(&p[i].region);
        }
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_unclaimed_reads_all_ones),
        TEST(test_access_reaches_the_region_with_its_offset),
        TEST(test_wide_access_is_split_low_address_first),
        TEST(test_odd_sizes_become_aligned_pieces),
        TEST(test_narrow_and_unaligned_accesses_are_dropped),
        TEST(test_access_past_the_end_continues_in_the_neighbour),
        TEST(test_higher_priority_then_later_mapping_wins),
        TEST(test_region_may_end_at_the_top_of_the_space),
        TEST(test_pended_access_is_dispatched_again_where_it_stopped),
        TEST(test_pended_access_ends_where_it_began_below_a_new_mapping),
        TEST(test_pended_access_leaves_a_region_that_moved_or_went),
        TEST(test_all_waiters_of_a_device_are_woken),
        TEST(test_handler_may_remap_during_a_split_access),
        TEST(test_listener_and_hook_are_called_for_map_and_unmap),
        TEST(test_foreach_goes_in_address_order_and_overlap_is_found),
        TEST(test_dispatch_agrees_with_the_definition_of_precedence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
