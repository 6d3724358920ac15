/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that was never touched stays so when an image is loaded into it, and when a point is taken. */
#include "migration/ram/ram_point.h"
#include "tests/migration/ram/blank_rig.h"

static coroutine_fn RUNS_IN_MAIN void load(BlankRam *t, BlockBackend *blk)
{
    RamTestCall l = {.save = {.blk = blk, .offset = RAM_TEST_OFFSET}, .ram = &t->ram};
    co_call_in(test_home, ram_test_run, &l);
    test_event_wait(&l.done);
    assert_int_equal(l.ret, 0);
}

static uint64_t pages_with_data(const BlankRam *t)
{
    uint64_t count = 0;
    for (uint64_t page = 0; page < BLANK_PAGES; page++) {
        count += t->seeds[page] != 0;
    }
    return count;
}

BLOCK_TEST(a_load_populates_only_what_has_data)
{
    for (unsigned shared = 0; shared < 2; shared++) {
        BlankRam t, to;
        BlockBackend *blk = test_blk("d", BLANK_DISK, true);
        blank_init(&t, false);
        blank_init(&to, shared == 1);
        blank_touch_some(&t, 7);
        assert_int_equal(blank_save(&t, blk, (RamImageSave){.in_place = &t.ram}), 0);
        load(&to, blk);
        assert_int_equal(blank_populated(&to), pages_with_data(&t));
        blank_check(&t, to.host);
        /* Over other contents: what is there and zero in the image is cleared. */
        memset(to.host + BLANK_LOW / 2, 0x44, BLANK_LOW);
        load(&to, blk);
        blank_check(&t, to.host);
        blk_co_free(blk);
        blank_clear(&t);
        blank_clear(&to);
    }
}

typedef struct Point {
    const GuestRam *ram;
    RamPoint *p;
    RamPages pages;
} Point;

static int point_begin(void *opaque)
{
    Point *p = opaque;
    enter_worker();
    p->p = ram_point_new(p->ram, NULL);
    return p->p != NULL ? 0 : -1;
}

static int point_restore(void *opaque)
{
    const Point *p = opaque;
    enter_worker();
    return ram_point_restore(p->p, &p->pages);
}

static int point_free(void *opaque)
{
    enter_worker();
    ram_point_free(((Point *)opaque)->p);
    return 0;
}

/* Shared memory is copied at the point. */
BLOCK_TEST(a_point_populates_nothing_and_brings_back_what_was)
{
    BlankRam t;
    blank_init(&t, true);
    blank_touch_some(&t, 8);
    uint64_t before = blank_populated(&t);
    Point p = {.ram = &t.ram};
    assert_int_equal(co_run_in_worker(point_begin, &p), 0);
    assert_false(ram_point_copies_on_write(p.p));
    assert_int_equal(blank_populated(&t), before);
    for (unsigned i = 0; i < t.ram.count; i++) {
        assert_int_equal(ram_pages_add(&p.pages, i, t.ram.blocks[i].size), 0);
    }
    for (uint64_t page = 0; page < BLANK_PAGES; page += 13) {
        bool high = page >= BLANK_HIGH_FIRST;
        blank_write(&t, page, 99);
        ram_map_set(p.pages.maps[high], high ? page - BLANK_HIGH_FIRST : page);
    }
    assert_int_equal(co_run_in_worker(point_restore, &p), 0);
    blank_check(&t, t.host);
    co_run_in_worker(point_free, &p);
    ram_pages_free(&p.pages);
    blank_clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_load_populates_only_what_has_data),
        cmocka_unit_test(a_point_populates_nothing_and_brings_back_what_was),
    };
    return block_test_main(tests);
}
