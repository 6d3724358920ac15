/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 300 */
/*
 * Power cuts and errors while the options of an image change. The image opens, has no errors except
 * leaks, and the same contents, whatever is on disk.
 */
#include "block/driver/fault.h"
#include "block/driver/mem.h"
#include "block/qcow2/qcow2_amend.h"
#include "tests/block/qcow2/qcow2_test.h"
#include "tests/support/power_cut.h"
#include "tests/support/rounds.h"

#define AMEND_FILE ((uint64_t)4 << 20)
#define AMEND_DISK ((size_t)1 << 20)

typedef struct AmendCase {
    const char *options; /* of qemu-img create */
    bool backing, snapshot;
    Qcow2Amend change;
} AmendCase;

static const AmendCase amend_cases[] = {
    {"cluster_size=512", false, true, {.has_refcount_bits = true, .refcount_bits = 64}},
    {"cluster_size=4096", true, true, {.has_refcount_bits = true, .refcount_bits = 8}},
    {"cluster_size=4096,compat=0.10", true, true, {.version = 3}},
    {"cluster_size=4096", true, false, {.version = 2}},
    {"cluster_size=512,lazy_refcounts=on",
     false,
     false,
     {.version = 2, .lazy_refcounts = QCOW2_AMEND_OFF}},
    {"cluster_size=4096", true, false, {.lazy_refcounts = QCOW2_AMEND_ON}},
};

typedef struct AmendRig {
    const AmendCase *c;
    char *dir;
    BlockNode *mem, *fault;
    BlockBackend *blk;
    uint8_t *initial, *model;
    BlockMemJournal journal;
    BlockFault hit;
    GError *error;
    bool ok;
} AmendRig;

/* ---- in the home ---- */

static void amend_prepare_at_home(void *opaque)
{
    AmendRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(block_mem_data(rig->mem), rig->initial, AMEND_FILE);
    block_mem_set_journal(rig->mem, &rig->journal);
}

static void amend_save_at_home(void *opaque)
{
    AmendRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(rig->initial, block_mem_data(rig->mem), AMEND_FILE);
}

static void amend_arm_at_home(void *opaque)
{
    AmendRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_set(rig->fault, &rig->hit);
}

static void amend_at_home(void *opaque)
{
    AmendRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    rig->ok = qcow2_co_amend(blk_root(rig->blk), &rig->c->change, &rig->error);
}

/* ---- the image ---- */

static void amend_create(AmendRig *rig)
{
    size_t size;
    qcow2_shell(rig->dir,
                "rm -f t.qcow2 && qemu-img create -q -f raw base 1M && "
                "qemu-io -f raw -c 'write -q -P 201 0 1M' base && "
                "qemu-img create -q -f qcow2 -o %s%s t.qcow2 1M && "
                "qemu-io -f qcow2 -c 'write -q -P 3 10k 50k' -c 'write -q -c -P 4 64k 4k' "
                "-c 'write -q -z 100k 60k' -c 'write -q -z 600k 4k' t.qcow2",
                rig->c->options, rig->c->backing ? ",backing_file=base,backing_fmt=raw" : "");
    if (rig->c->snapshot) {
        qcow2_shell(rig->dir, "qemu-img snapshot -c one t.qcow2 && "
                              "qemu-io -f qcow2 -c 'write -q -P 5 20k 20k' t.qcow2");
    }
    qcow2_shell(rig->dir, "qemu-img convert -f qcow2 -O raw t.qcow2 before.raw");
    g_autofree uint8_t *image = qcow2_file_bytes(rig->dir, "t.qcow2", &size);
    assert_true(size <= AMEND_FILE);
    rig->initial = g_malloc0(AMEND_FILE);
    memcpy(rig->initial, image, size);
    rig->model = qcow2_file_bytes(rig->dir, "before.raw", &size);
    assert_int_equal(size, AMEND_DISK);
}

static coroutine_fn RUNS_IN_MAIN void amend_open(AmendRig *rig)
{
    g_autofree char *text = g_strdup_printf(
        "qcow2,discard=unmap,file=f%s%s%s",
        rig->c->backing ? ",backing.driver=raw,backing.file.driver=file,backing.file.filename="
                        : "",
        rig->c->backing ? rig->dir : "", rig->c->backing ? "/base" : "");
    rig->mem = test_node_add("mem,node-name=m,size=4M,discard=unmap");
    block_mem_journal_init(&rig->journal);
    test_in_home(amend_prepare_at_home, rig);
    rig->fault = test_node_add("fault,node-name=f,discard=unmap,file=m");
    rig->blk = test_blk("d", text, true);
}

static coroutine_fn RUNS_IN_MAIN void amend_close(AmendRig *rig)
{
    blk_co_free(rig->blk);
    test_in_home(amend_save_at_home, rig);
    test_node_del("f");
    test_node_del("m");
}

static void amend_free(AmendRig *rig)
{
    block_mem_journal_clear(&rig->journal);
    g_free(rig->initial);
    g_free(rig->model);
}

/* Compares an image of these bytes with the model; qemu-img finds no errors except leaks. */
static coroutine_fn RUNS_IN_MAIN void amend_check(const AmendRig *rig, const uint8_t *bytes,
                                                  uint64_t size, const char *what)
{
    g_autofree char *path = g_build_filename(rig->dir, "cut.qcow2", NULL);
    assert_true(g_file_set_contents(path, (const char *)bytes, (gssize)size, NULL));
    qcow2_shell(
        rig->dir, "%s qemu-img check -f qcow2 cut.qcow2 || [ $? = 3 ] || { echo %s; false; }",
        strstr(rig->c->options, "lazy") != NULL ? "qemu-img check -q -r all -f qcow2 cut.qcow2;"
                                                : "",
        what);
    if (rig->c->snapshot) {
        qcow2_shell(rig->dir, "qemu-img convert -l one -O raw cut.qcow2 one.raw && "
                              "cmp -n 10240 one.raw before.raw");
    }
    BlockBackend *blk = qcow2_open_image(rig->dir, "cut.qcow2", "");
    qcow2_compare(blk, rig->model, AMEND_DISK, 65536, what);
    blk_co_free(blk);
}

/* ---- power cuts ---- */

/* The cuts before flushes leave the most writes open. */
static coroutine_fn RUNS_IN_MAIN void amend_cut(const AmendRig *rig, const uint8_t *before,
                                                unsigned cut, GRand *rand)
{
    unsigned orders = rand != NULL ? test_rounds(2, 6, 40) : 1;
    for (unsigned i = 0; i < orders; i++) {
        g_autofree char *what = g_strdup_printf("cut %u, %s", cut, rig->c->options);
        PowerCut disk = power_cut_at(before, AMEND_FILE, &rig->journal, cut, i > 0 ? rand : NULL);
        amend_check(rig, disk.bytes, disk.size, what);
        power_cut_free(&disk);
    }
}

static coroutine_fn RUNS_IN_MAIN void amend_cut_case(char *dir, const AmendCase *c, GRand *rand)
{
    AmendRig rig = {.c = c, .dir = dir};
    amend_create(&rig);
    g_autofree uint8_t *before = g_memdup2(rig.initial, AMEND_FILE);
    amend_open(&rig);
    test_in_home(amend_at_home, &rig);
    if (!rig.ok) {
        fail_msg("%s: %s", c->options, rig.error->message);
    }
    amend_close(&rig);
    const GArray *records = rig.journal.records;
    for (unsigned cut = 1; cut < records->len; cut++) {
        if (g_array_index(records, BlockMemRecord, cut).op == BLOCK_MEM_FLUSH &&
            g_array_index(records, BlockMemRecord, cut - 1).op != BLOCK_MEM_FLUSH) {
            amend_cut(&rig, before, cut, rand);
        }
    }
    amend_cut(&rig, before, records->len, NULL);
    qcow2_shell(dir, "qemu-img check cut.qcow2"); /* the last cut: no leaks either */
    amend_free(&rig);
}

BLOCK_TEST(a_power_cut_while_options_change_leaves_a_sound_image_with_the_same_contents)
{
    char *dir = qcow2_dir_new();
    GRand *rand = g_rand_new_with_seed(3);
    for (unsigned i = 0; i < G_N_ELEMENTS(amend_cases); i++) {
        amend_cut_case(dir, &amend_cases[i], rand);
    }
    g_rand_free(rand);
    qcow2_dir_free(dir);
}

/* ---- errors ---- */

/* Returns whether an operation was hit. */
static coroutine_fn RUNS_IN_MAIN bool amend_fault(char *dir, const AmendCase *c, BlockFaultOp op,
                                                  unsigned after)
{
    AmendRig rig = {.c = c, .dir = dir};
    amend_create(&rig);
    amend_open(&rig);
    rig.hit = (BlockFault){.op = (int)op, .after = after, .count = 1, .error = EIO};
    test_in_home(amend_arm_at_home, &rig);
    test_in_home(amend_at_home, &rig);
    bool hit = block_fault_hits(rig.fault) > 0;
    assert_true(rig.ok == (rig.error == NULL));
    g_clear_error(&rig.error);
    amend_close(&rig);
    amend_check(&rig, rig.initial, AMEND_FILE, c->options);
    amend_free(&rig);
    return hit;
}

BLOCK_TEST(an_error_while_options_change_leaves_a_sound_image_with_the_same_contents)
{
    static const BlockFaultOp ops[] = {BLOCK_FAULT_WRITE, BLOCK_FAULT_FLUSH, BLOCK_FAULT_READ};
    char *dir = qcow2_dir_new();
    unsigned stride = test_rounds(13, 9, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(amend_cases); i++) {
        for (unsigned op = 0; op < G_N_ELEMENTS(ops); op++) {
            unsigned after = i % 3;
            while (amend_fault(dir, &amend_cases[i], ops[op], after)) {
                after += stride;
            }
        }
    }
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_power_cut_while_options_change_leaves_a_sound_image_with_the_same_contents),
        cmocka_unit_test(an_error_while_options_change_leaves_a_sound_image_with_the_same_contents),
    };
    return block_test_main(tests);
}
