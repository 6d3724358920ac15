/* SPDX-License-Identifier: Apache-2.0 */
/* An image in passes, of RAM that changes between and during them. */
#include "tests/migration/ram/ram_passes.h"

#define DISK "fault,node-name=f,file.driver=mem,file.size=16M"
#define PAGES ((RAM_TEST_LOW + RAM_TEST_HIGH) / GUEST_RAM_PAGE)

typedef struct Passes {
    RamTest ram;
    BlockNode *node;
    RamPasses run;
} Passes;

static coroutine_fn RUNS_IN_MAIN void passes_init(Passes *p, bool zero_target)
{
    ram_test_init(&p->ram);
    ram_test_fill(&p->ram, 1);
    p->node = test_node_add(DISK);
    p->run.blk = blk_co_new("d", p->node, true, NULL);
    p->run.save = (RamImageSave){.blk = p->run.blk,
                                 .offset = RAM_TEST_OFFSET,
                                 .read = ram_test_read,
                                 .opaque = &p->ram,
                                 .target_is_zero = zero_target};
    passes_open(&p->run, &p->ram.ram);
}

static coroutine_fn RUNS_IN_MAIN void passes_clear(Passes *p)
{
    passes_close(&p->run, &p->ram.ram);
    test_node_del("f");
    ram_test_clear(&p->ram);
}

/* @seed 0: zeroes. */
static void passes_set_page(Passes *p, uint64_t page, unsigned seed, bool mark)
{
    uint8_t *to = p->ram.host + page * GUEST_RAM_PAGE;
    if (seed == 0) {
        memset(to, 0, GUEST_RAM_PAGE);
    } else {
        test_fill(to, GUEST_RAM_PAGE, seed);
    }
    if (mark) {
        uint64_t gpa;
        assert_true(guest_ram_find_host(&p->ram.ram, to, &gpa));
        guest_ram_mark(&p->ram.ram, gpa, GUEST_RAM_PAGE);
    }
}

static coroutine_fn RUNS_IN_MAIN void passes_expect_image(Passes *p, const RamTest *expected)
{
    RamTest loaded;
    ram_test_init(&loaded);
    ram_test_fill(&loaded, 2);
    assert_null(ram_test_load(p->run.blk, &loaded));
    assert_true(ram_test_equal(&loaded, expected));
    ram_test_clear(&loaded);
    for (unsigned i = 0; i < p->run.image.count; i++) { /* what is mapped from the file */
        const RamBlock *b = &expected->ram.blocks[i];
        g_autofree uint8_t *data = g_malloc(b->size);
        uint64_t at = RAM_TEST_OFFSET + p->run.image.blocks[i].data_offset;
        assert_int_equal(test_io(p->run.blk, TEST_READ, at, b->size, data, 0), 0);
        assert_memory_equal(data, b->host, b->size);
    }
}

/* Page 1 has data at first, and page 2 none (ram_test_fill()). */
static coroutine_fn RUNS_IN_MAIN void passes_check_changes(bool zero_target)
{
    Passes p = {0};
    passes_init(&p, zero_target);
    assert_true(guest_ram_log_start(&p.ram.ram, NULL));
    assert_int_equal(passes_step(&p.run, passes_pass), 0);
    uint64_t data = p.run.save.data;
    passes_set_page(&p, 1, 0, true);
    passes_set_page(&p, 2, 77, true);
    passes_set_page(&p, 4, 78, true);
    passes_set_page(&p, 5, 0, true);
    passes_set_page(&p, PAGES - 1, 79, true);
    passes_set_page(&p, RAM_TEST_LOW / GUEST_RAM_PAGE, 80, true);
    passes_take(&p.run, &p.ram.ram, 6);
    assert_int_equal(passes_step(&p.run, passes_pass), 0);
    assert_int_equal(p.run.save.data - data, 4 * GUEST_RAM_PAGE);
    passes_set_page(&p, 2, 0, true);
    passes_set_page(&p, 1, 81, true);
    passes_take(&p.run, &p.ram.ram, 2);
    assert_int_equal(passes_step(&p.run, passes_pass), 0);
    assert_int_equal(p.run.save.data - data, 5 * GUEST_RAM_PAGE);
    assert_int_equal(passes_step(&p.run, passes_end), 0);
    passes_expect_image(&p, &p.ram);
    passes_clear(&p);
}

BLOCK_TEST(each_pass_brings_what_has_changed)
{
    passes_check_changes(false);
}

BLOCK_TEST(each_pass_brings_what_has_changed_to_a_target_of_zeroes)
{
    passes_check_changes(true);
}

/* Otherwise the test above shows nothing: a pass that copies everything would do. */
BLOCK_TEST(a_page_that_is_not_marked_stays_as_it_was)
{
    Passes p = {0};
    RamTest before;
    ram_test_init(&before);
    ram_test_fill(&before, 1);
    passes_init(&p, true);
    assert_true(guest_ram_log_start(&p.ram.ram, NULL));
    assert_int_equal(passes_step(&p.run, passes_pass), 0);
    passes_set_page(&p, 1, 90, false);
    passes_take(&p.run, &p.ram.ram, 0);
    assert_int_equal(passes_step(&p.run, passes_pass), 0);
    assert_int_equal(passes_step(&p.run, passes_end), 0);
    passes_expect_image(&p, &before);
    ram_test_clear(&before);
    passes_clear(&p);
}

static void passes_hold(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    BlockFault fault = {.op = BLOCK_FAULT_WRITE, .hold = true};
    block_fault_set(opaque, &fault);
}

static void passes_release(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    BlockFault fault = {0};
    block_fault_set(opaque, &fault);
    block_fault_release(opaque, 64);
}

/* A page that changes while its copy is being written comes again, though its bit was taken. */
BLOCK_TEST(a_page_that_changes_during_its_write_comes_with_the_next_pass)
{
    Passes p = {0};
    passes_init(&p, true);
    assert_true(guest_ram_log_start(&p.ram.ram, NULL));
    assert_int_equal(passes_step(&p.run, passes_pass), 0);
    passes_set_page(&p, 1, 91, true);
    passes_take(&p.run, &p.ram.ram, 1);
    test_in_home(passes_hold, p.node);
    passes_start(&p.run, passes_pass);
    while (block_fault_held(p.node) == 0) {
        test_settle();
    }
    passes_set_page(&p, 1, 92, true);
    test_in_home(passes_release, p.node);
    test_event_wait(&p.run.done);
    assert_int_equal(p.run.ret, 0);
    passes_take(&p.run, &p.ram.ram, 1);
    assert_int_equal(passes_step(&p.run, passes_pass), 0);
    assert_int_equal(passes_step(&p.run, passes_end), 0);
    passes_expect_image(&p, &p.ram);
    passes_clear(&p);
}

BLOCK_TEST(an_end_with_an_error_leaves_no_image)
{
    Passes p = {0};
    passes_init(&p, true);
    assert_true(guest_ram_log_start(&p.ram.ram, NULL));
    assert_int_equal(passes_step(&p.run, passes_pass), 0);
    p.run.ret = -EIO;
    assert_int_equal(passes_step(&p.run, passes_end), -EIO);
    g_autofree char *error = ram_test_load(p.run.blk, &p.ram);
    assert_non_null(strstr(error, "not completed"));
    passes_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_pass_brings_what_has_changed),
        cmocka_unit_test(each_pass_brings_what_has_changed_to_a_target_of_zeroes),
        cmocka_unit_test(a_page_that_is_not_marked_stays_as_it_was),
        cmocka_unit_test(a_page_that_changes_during_its_write_comes_with_the_next_pass),
        cmocka_unit_test(an_end_with_an_error_leaves_no_image),
    };
    return block_test_main(tests);
}
