/* SPDX-License-Identifier: Apache-2.0 */
/* The flash's state: saved, loaded and reset in every mode; and the disks that a power cut leaves. */
#include "tests/hw/firmware/pflash_bench.h"
#include "tests/support/power_cut.h"
#include "tests/support/rounds.h"

#define SIZE 0x10000u

static int tear_down(void **state)
{
    flash_bench_free(*state);
    return 0;
}

static int set_up(void **state)
{
    *state = flash_bench_new("size=64K", "drive=disk");
    return 0;
}

static void the_state_table_is_complete(void **state)
{
    g_autoptr(GError) error = NULL;
    assert_true(state_check_coverage(pflash_type.state, &error));
}

/* ---- the array in a saved machine's memory ---- */

static const RamBlock *array_block(const FlashBench *f)
{
    for (unsigned i = 0; i < f->m->ram.count; i++) {
        if (f->m->ram.blocks[i].gpa == FLASH_GPA) {
            return &f->m->ram.blocks[i];
        }
    }
    return NULL;
}

/* The array is in the machine's memory, which is saved while the guest programs it. */
static void a_program_marks_the_array(void **state)
{
    FlashBench *f = *state;
    uint64_t dirty = 0;
    enter_main();
    flash_program(f, 0x3004, 0x55);
    guest_ram_log_take(array_block(f), 0, SIZE / GUEST_RAM_PAGE, &dirty);
    assert_int_equal(dirty, 1 << 3);
    flash_write(f, 0x5000, 0x20, 1);
    flash_write(f, 0x5000, 0xd0, 1);
    dirty = 0;
    guest_ram_log_take(array_block(f), 0, SIZE / GUEST_RAM_PAGE, &dirty);
    assert_int_equal(dirty, 1 << 5);
}

/* ---- every mode ---- */

static const struct {
    CfiMode mode;
    unsigned count;
    uint8_t values[4];
} ways[] = {
    {CFI_ARRAY, 1, {0xff}},
    {CFI_STATUS, 1, {0x70}},
    {CFI_ID, 1, {0x90}},
    {CFI_QUERY, 1, {0x98}},
    {CFI_PROGRAM, 1, {0x40}},
    {CFI_ERASE, 1, {0x20}},
    {CFI_LOCK, 1, {0x60}},
    {CFI_BUFFER_COUNT, 1, {0xe8}},
    {CFI_BUFFER_DATA, 3, {0xe8, 1, 0x77}},
    {CFI_BUFFER_CONFIRM, 4, {0xe8, 1, 0x77, 0x66}},
};

static void lead_to(FlashBench *f, unsigned way)
{
    for (unsigned i = 0; i < ways[way].count; i++) {
        flash_write(f, 0x2000 + (i > 2 ? i - 2 : 0), ways[way].values[i], 1);
    }
    assert_int_equal(flash_of(f)->state.mode, ways[way].mode);
}

static void erase_first(FlashBench *f)
{
    flash_write(f, 0x2000, 0x20, 1);
    flash_write(f, 0x2000, 0xd0, 1);
    flash_write(f, 0x2000, 0xff, 1);
}

/* The command that was caught goes on after the load. */
static void each_mode_is_saved_and_loaded(void **state)
{
    FlashBench *f = *state;
    assert_int_equal(G_N_ELEMENTS(ways), CFI_MODE_COUNT);
    for (unsigned way = 0; way < G_N_ELEMENTS(ways); way++) {
        virtio_bench_reset(f->bench, f->dev);
        erase_first(f);
        lead_to(f, way);
        CfiState before = flash_of(f)->state;
        g_autoptr(GByteArray) saved = virtio_bench_save(f->bench, f->dev);
        virtio_bench_reset(f->bench, f->dev);
        assert_false(f->m->rom_hidden);
        assert_null(virtio_bench_load(f->bench, f->dev, saved));
        assert_memory_equal(&flash_of(f)->state, &before, sizeof(before));
        assert_int_equal(f->m->rom_hidden, ways[way].mode != CFI_ARRAY);
        if (ways[way].mode == CFI_BUFFER_CONFIRM) {
            flash_write(f, 0x2000, 0xd0, 1);
            assert_int_equal(pflash_array(f->dev)[0x2000], 0x77);
            assert_int_equal(pflash_array(f->dev)[0x2001], 0x66);
        }
        if (ways[way].mode == CFI_ERASE) {
            flash_write(f, 0x2000, 0xd0, 1);
            assert_int_equal(flash_read(f, 0, 1), CFI_SR_READY);
        }
    }
}

static void each_mode_is_reset(void **state)
{
    FlashBench *f = *state;
    for (unsigned way = 0; way < G_N_ELEMENTS(ways); way++) {
        flash_write(f, 0x2000, 0x60, 1);
        flash_write(f, 0x2000, 0x01, 1);
        lead_to(f, way);
        virtio_bench_reset(f->bench, f->dev);
        assert_false(f->m->rom_hidden);
        assert_int_equal(flash_of(f)->state.mode, CFI_ARRAY);
        assert_int_equal(flash_of(f)->state.status, CFI_SR_READY);
        flash_write(f, 0x2000, 0x90, 1);
        assert_int_equal(flash_read(f, 0x2002, 1), 0); /* unlocked */
        flash_write(f, 0x2000, 0xff, 1);
    }
}

static void a_damaged_state_is_refused(void **state)
{
    FlashBench *f = *state;
    GRand *rand = g_rand_new_with_seed(1);
    unsigned refused = 0, rounds = test_rounds(100, 1000, 20000);
    lead_to(f, 9);
    g_autoptr(GByteArray) saved = virtio_bench_save(f->bench, f->dev);
    for (unsigned i = 0; i < rounds; i++) {
        g_autoptr(GByteArray) bad = g_byte_array_new();
        g_byte_array_append(bad, saved->data, saved->len);
        bad->data[g_rand_int_range(rand, 0, 48)] = (uint8_t)g_rand_int(rand);
        g_autofree char *text = virtio_bench_load(f->bench, f->dev, bad);
        refused += text != NULL;
        assert_cfi_state(&flash_of(f)->cfi);
        flash_write(f, 0x2000, 0xd0, 1); /* whatever it is, it works on */
        flash_write(f, 0x2000, 0xff, 1);
    }
    assert_true(refused > 0);
    g_rand_free(rand);
}

/* ---- power cuts ---- */

static int set_up_wide(void **state)
{
    *state = flash_bench_new("size=64K", "drive=disk,width=4");
    return 0;
}

typedef struct Journal {
    FlashBench *f;
    BlockMemJournal *journal;
    unsigned count;
} Journal;

static void set_journal(void *opaque)
{
    Journal *j = opaque;
    enter_iothread(j->f->bench->home);
    block_mem_set_journal(j->f->disk.node, j->journal);
}

static void count_records(void *opaque)
{
    Journal *j = opaque;
    j->count = j->journal->records->len;
}

static unsigned journal_length(Journal *j)
{
    virtio_bench_at_home(j->f->bench, count_records, j);
    return j->count;
}

#define BUFFER_AT 0x4000u
#define BUFFER_BYTES 2048u
#define OPERATIONS 12u

/* What the guest did, and how much was recorded when it had retired. */
typedef struct Done {
    uint8_t before[SIZE], after[SIZE]; /* the array */
    uint32_t first, end;               /* the bytes it changes */
    bool buffered;
    unsigned records, flushed; /* journal: at its retirement, and at that of the array command */
} Done;

static void do_buffered(FlashBench *f, uint32_t at)
{
    flash_write(f, at, 0xe8, 4);
    flash_write(f, at, BUFFER_BYTES / 4 - 1, 4);
    for (uint32_t i = 0; i < BUFFER_BYTES; i += 4) {
        flash_write(f, at + i, 0x11223344 + i, 4);
    }
    flash_write(f, at, 0xd0, 4);
}

static void do_one(Journal *j, Done *d, unsigned n)
{
    FlashBench *f = j->f;
    memcpy(d->before, pflash_array(f->dev), SIZE);
    d->buffered = n % 2 == 0;
    d->first = d->buffered ? BUFFER_AT + n / 2 * BUFFER_BYTES : 0x1fc + n / 2 * 4;
    d->end = d->first + (d->buffered ? BUFFER_BYTES : 4);
    if (d->buffered) {
        do_buffered(f, d->first);
    } else {
        flash_write(f, d->first, 0x40, 4);
        flash_write(f, d->first, 0xdeadbeef, 4);
    }
    assert_int_equal(flash_read(f, 0, 1), CFI_SR_READY);
    memcpy(d->after, pflash_array(f->dev), SIZE);
    d->records = journal_length(j);
    flash_write(f, 0, 0xff, 4);
    d->flushed = journal_length(j);
}

/* The bytes of @d in @disk: a prefix in sectors is new, the rest is old. */
static void expect_prefix(const uint8_t *disk, const Done *d)
{
    uint32_t at = d->first;
    while (at < d->end && disk[at] == d->after[at]) {
        at++;
    }
    assert_true(at == d->end || at == d->first || at % BLOCK_SECTOR_SIZE == 0);
    assert_true(d->buffered || at == d->first || at == d->end);
    for (; at < d->end; at++) {
        assert_int_equal(disk[at], d->before[at]);
    }
}

static void a_power_cut_leaves_words_and_prefixes(void **state)
{
    FlashBench *f = *state;
    BlockMemJournal journal;
    GRand *rand = g_rand_new_with_seed(1);
    for (uint32_t at = 0; at < SIZE; at += FLASH_BLOCK) {
        flash_write(f, at, 0x20, 4);
        flash_write(f, at, 0xd0, 4);
    }
    flash_write(f, 0, 0xff, 4);
    g_autofree uint8_t *initial = g_memdup2(pflash_array(f->dev), SIZE);
    block_mem_journal_init(&journal);
    Journal j = {.f = f, .journal = &journal};
    virtio_bench_at_home(f->bench, set_journal, &j);
    g_autofree Done *done = g_new0(Done, OPERATIONS);
    for (unsigned n = 0; n < OPERATIONS; n++) {
        do_one(&j, &done[n], n);
    }
    unsigned rounds = test_rounds(4, 20, 500);
    for (unsigned cut = 0; cut <= journal.records->len; cut++) {
        for (unsigned round = 0; round < rounds; round++) {
            PowerCut disk = power_cut_at(initial, SIZE, &journal, cut, rand);
            for (unsigned n = 0; n < OPERATIONS; n++) {
                const Done *d = &done[n];
                expect_prefix(disk.bytes, d);
                if (cut >= d->flushed) { /* the array command had retired */
                    assert_memory_equal(disk.bytes + d->first, d->after + d->first,
                                        d->end - d->first);
                }
            }
            power_cut_free(&disk);
        }
    }
    /* A kill loses nothing that has retired. */
    for (unsigned n = 0; n < OPERATIONS; n++) {
        PowerCut disk = power_cut_at(initial, SIZE, &journal, done[n].records, NULL);
        assert_memory_equal(disk.bytes, done[n].after, SIZE);
        power_cut_free(&disk);
    }
    Journal none = {.f = f};
    virtio_bench_at_home(f->bench, set_journal, &none);
    block_mem_journal_clear(&journal);
    g_rand_free(rand);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_state_table_is_complete),
        TEST(a_program_marks_the_array),
        TEST(each_mode_is_saved_and_loaded),
        TEST(each_mode_is_reset),
        TEST(a_damaged_state_is_refused),
        cmocka_unit_test_setup_teardown(a_power_cut_leaves_words_and_prefixes, set_up_wide,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
