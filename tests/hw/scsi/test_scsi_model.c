/* SPDX-License-Identifier: Apache-2.0 */
/* Generated reads, writes, zeroes, UNMAPs and verifications against a model of the disk. */
#include "tests/hw/scsi/scsi_bench.h"
#include "tests/support/rounds.h"

#define DISK_BYTES (1u << 20)
#define STEPS 150

typedef struct Model {
    Fixture *f;
    GRand *random;
    uint32_t block;
    uint8_t bytes[DISK_BYTES];
    bool known[DISK_BYTES / 512]; /* false: unmapped, reads give anything */
} Model;

static uint32_t below(Model *m, uint32_t n)
{
    return (uint32_t)g_rand_int_range(m->random, 0, (gint32)n);
}

static void put32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (24 - 8 * i));
    }
}

/* A CDB of one of the forms 10, 12 and 16; 0: no such form. */
static void make_cdb(Model *m, uint8_t *cdb, const uint8_t forms[3], uint8_t flags, uint32_t lba,
                     uint32_t blocks)
{
    unsigned form;
    do {
        form = below(m, 3);
    } while (!forms[form]);
    memset(cdb, 0, 16);
    cdb[0] = forms[form];
    cdb[1] = flags;
    if (form == 2) {
        put32(cdb + 6, lba);
        put32(cdb + 10, blocks);
        return;
    }
    put32(cdb + 2, lba);
    if (form == 1) {
        put32(cdb + 6, blocks);
    } else {
        cdb[7] = (uint8_t)(blocks >> 8);
        cdb[8] = (uint8_t)blocks;
    }
}

static bool range_known(const Model *m, uint32_t offset, uint32_t bytes)
{
    for (uint32_t s = offset / 512; s < (offset + bytes) / 512; s++) {
        if (!m->known[s]) {
            return false;
        }
    }
    return true;
}

static void set_known(Model *m, uint32_t offset, uint32_t bytes, bool known)
{
    for (uint32_t s = offset / 512; s < (offset + bytes) / 512; s++) {
        m->known[s] = known;
    }
}

static uint8_t *random_data(Model *m, uint32_t bytes)
{
    uint8_t *data = scsi_call_data(&m->f->call);
    uint32_t kind = below(m, 4), seed = below(m, 256);
    for (uint32_t i = 0; i < bytes; i++) {
        data[i] = kind == 0 ? 0 : (uint8_t)(seed + i * (kind + 1) + i / 512);
    }
    return data;
}

static void do_read(Model *m, uint32_t lba, uint32_t blocks)
{
    uint8_t cdb[16], *data = scsi_call_data(&m->f->call);
    uint32_t bytes = blocks * m->block, offset = lba * m->block;
    make_cdb(m, cdb, (const uint8_t[]){0x28, 0xa8, 0x88}, (uint8_t)(below(m, 4) << 3), lba, blocks);
    memset(data, 0xdd, bytes);
    assert_int_equal(scsi_call_run(&m->f->call, cdb, SCSI_DIR_IN, bytes), GOOD);
    for (uint32_t at = 0; at < bytes; at += 512) {
        if (m->known[(offset + at) / 512]) {
            assert_memory_equal(data + at, m->bytes + offset + at, 512);
        }
    }
}

static void do_write(Model *m, uint32_t lba, uint32_t blocks)
{
    uint8_t cdb[16], *data = random_data(m, blocks * m->block);
    uint32_t bytes = blocks * m->block, offset = lba * m->block;
    make_cdb(m, cdb, (const uint8_t[]){0x2a, 0xaa, 0x8a}, (uint8_t)(below(m, 4) << 3), lba, blocks);
    assert_int_equal(scsi_call_run(&m->f->call, cdb, SCSI_DIR_OUT, bytes), GOOD);
    memcpy(m->bytes + offset, data, bytes);
    set_known(m, offset, bytes, true);
}

static void do_write_same(Model *m, uint32_t lba, uint32_t blocks)
{
    uint8_t cdb[16], *data = random_data(m, m->block);
    uint32_t bytes = blocks * m->block, offset = lba * m->block;
    make_cdb(m, cdb, (const uint8_t[]){0x41, 0, 0x93}, below(m, 2) ? 8 : 0, lba, blocks);
    if (!blocks) {
        assert_int_equal(scsi_call_run(&m->f->call, cdb, SCSI_DIR_OUT, m->block), CHECK);
        return;
    }
    assert_int_equal(scsi_call_run(&m->f->call, cdb, SCSI_DIR_OUT, m->block), GOOD);
    for (uint32_t at = 0; at < bytes; at += m->block) {
        memcpy(m->bytes + offset + at, data, m->block);
    }
    set_known(m, offset, bytes, true);
}

static void do_unmap(Model *m, uint32_t lba, uint32_t blocks)
{
    uint8_t *list = scsi_call_data(&m->f->call);
    uint32_t first = blocks / 2; /* two descriptors */
    memset(list, 0, 40);
    list[1] = 38;
    list[3] = 32;
    put32(list + 12, lba);
    put32(list + 16, first);
    put32(list + 28, lba + first);
    put32(list + 32, blocks - first);
    assert_int_equal(RUN_OUT(m->f, 40, 0x42, 0, 0, 0, 0, 0, 0, 0, 40), GOOD);
    set_known(m, lba * m->block, blocks * m->block, false);
}

static void do_verify(Model *m, uint32_t lba, uint32_t blocks)
{
    uint8_t cdb[16], *data = scsi_call_data(&m->f->call);
    uint32_t bytes = blocks * m->block, offset = lba * m->block;
    if (!range_known(m, offset, bytes)) {
        return;
    }
    bool differs = bytes && below(m, 2);
    memcpy(data, m->bytes + offset, bytes);
    if (differs) {
        data[below(m, bytes)] ^= 0x40;
    }
    make_cdb(m, cdb, (const uint8_t[]){0x2f, 0xaf, 0x8f}, 2, lba, blocks);
    assert_int_equal(scsi_call_run(&m->f->call, cdb, SCSI_DIR_OUT, bytes), differs ? CHECK : GOOD);
}

static void one_step(Model *m)
{
    static void (*const steps[])(Model *, uint32_t, uint32_t) = {
        do_read, do_read, do_write, do_write, do_write_same, do_unmap, do_verify};
    uint32_t capacity = DISK_BYTES / m->block;
    uint32_t blocks = below(m, MIN(200u, (256u << 10) / m->block));
    uint32_t lba = below(m, capacity - blocks + 1);
    if (below(m, 4) == 0) { /* often at the same place */
        lba = MIN(7, capacity - blocks);
    }
    steps[below(m, G_N_ELEMENTS(steps))](m, lba, blocks);
}

static void run_schedules(void **state, uint32_t block)
{
    Fixture *f = *state;
    TestSeeds seeds = test_seeds(test_rounds(2, 12, 400));
    g_autofree char *properties =
        g_strdup_printf("logical_block_size=%u,physical_block_size=%u", block, block);
    g_autofree Model *m = g_new0(Model, 1);
    bring_up(f, properties);
    m->f = f;
    m->block = block;
    memset(m->known, true, sizeof(m->known));
    for (unsigned seed = seeds.first; seed < seeds.end; seed++) {
        m->random = g_rand_new_with_seed(seed);
        for (unsigned i = 0; i < STEPS; i++) {
            one_step(m);
        }
        g_rand_free(m->random);
    }
    const uint8_t *disk = blk_disk_data(&f->g.disk);
    for (uint32_t at = 0; at < DISK_BYTES; at += 512) {
        if (m->known[at / 512]) {
            assert_memory_equal(disk + at, m->bytes + at, 512);
        }
    }
}

static void a_disk_with_small_blocks_matches_the_model(void **state)
{
    run_schedules(state, 512);
}

static void a_disk_with_large_blocks_matches_the_model(void **state)
{
    run_schedules(state, 4096);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        T(a_disk_with_small_blocks_matches_the_model),
        T(a_disk_with_large_blocks_matches_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
