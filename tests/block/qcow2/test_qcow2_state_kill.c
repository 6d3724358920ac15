/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 900 */
/*
 * A process that creates, applies and deletes snapshots with the state of a machine is killed at random
 * moments. Afterwards the image has no errors but leaks, or it has the dirty bit and flags COPIED that do not
 * match, which opening it repairs. It lists the snapshots from before or after the operation that was cut.
 * Each has its disk and its state, and the disk has what was flushed. The next process goes on with
 * the image.
 *
 * The process appends to a log what begins and what has ended; the file keeps it. The kernel keeps what was
 * written, so the process does not wait for the disk.
 */
#include <signal.h>
#include "block/qcow2/qcow2_header.h"
#include "tests/block/qcow2/qcow2_state_test.h"
#include "tests/support/rounds.h"

#define KILL_DISK ((uint64_t)1 << 20)
#define KILL_MARK ((uint64_t)64 << 10) /* bytes at the start of the disk that have its number */
#define KILL_STATE ((uint64_t)3 << 20)
#define KILL_KEPT 3u       /* snapshots at most */
#define KILL_MOST_MS 1000u /* of a process, from its first line on */
#define KILL_BEGIN_MS 20000u

/* ---- contents ---- */

/* Page @page of something with that number. */
static void kill_fill(uint8_t *data, uint64_t bytes, unsigned number)
{
    for (uint64_t i = 0; i < bytes / sizeof(uint32_t); i++) {
        uint32_t word = number * 2654435761u + (uint32_t)i / 1024 * 7919u;
        memcpy(data + i * sizeof(word), &word, sizeof(word));
    }
}

/* What the state of snapshot @number has: holes between pages. */
static uint8_t *kill_model(unsigned number)
{
    uint8_t *model = g_malloc0(KILL_STATE);
    kill_fill(model, KILL_STATE, number);
    for (uint64_t at = 0; at < KILL_STATE; at += 40 * STATE_PAGE) {
        memset(model + at, 0, MIN((number % 30) * STATE_PAGE, KILL_STATE - at));
    }
    return model;
}

/* ---- the process ---- */

typedef struct KillChild {
    int log;
    BlockBackend *blk;
    unsigned list[KILL_KEPT + 1]; /* numbers of snapshots */
    unsigned count, next;
} KillChild;

static KillChild kill_child;

static void __attribute__((format(printf, 1, 2))) kill_log(const char *format, ...)
{
    char line[80];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    assert_int_equal(write(kill_child.log, line, (size_t)length), length);
}

static coroutine_fn RUNS_IN_MAIN void kill_mark(unsigned number)
{
    g_autofree uint8_t *data = g_malloc(KILL_MARK);
    kill_fill(data, KILL_MARK, number);
    kill_log("write %u\n", number);
    assert_int_equal(test_io(kill_child.blk, TEST_WRITE, 0, KILL_MARK, data, 0), 0);
    assert_int_equal(test_io(kill_child.blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    kill_log("disk %u\n", number);
}

/* The pages that are not zeroes, a part before the switch. */
static coroutine_fn RUNS_IN_MAIN void kill_write_state(StateSave *s, const uint8_t *model,
                                                       uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to; at += 8 * STATE_PAGE) {
        uint64_t bytes = MIN(8 * STATE_PAGE, to - at);
        uint8_t *data = (uint8_t *)(uintptr_t)model + at;
        assert_int_equal(test_io(s->blk, TEST_WRITE, at, bytes, data, 0), 0);
    }
}

static coroutine_fn RUNS_IN_MAIN void kill_create(void)
{
    StateSave s;
    char name[16];
    unsigned number = kill_child.next++;
    g_autofree uint8_t *model = kill_model(number);
    snprintf(name, sizeof(name), "%u", number);
    kill_mark(number);
    kill_log("create %u\n", number);
    assert_true(state_prepare(&s, blk_root(kill_child.blk), name, KILL_STATE));
    kill_write_state(&s, model, 0, KILL_STATE / 3);
    state_switch(&s);
    kill_write_state(&s, model, KILL_STATE / 3, KILL_STATE / 2);
    block_snapshot_co_raise(s.run);
    kill_write_state(&s, model, KILL_STATE / 2, KILL_STATE);
    if (number % 4 == 3) {
        block_snapshot_cancel(s.run);
    }
    int ret = state_end(&s);
    g_free(s.model);
    kill_log("%s %u\n", ret == 0 ? "created" : "cancelled", number);
    kill_child.list[kill_child.count] = number;
    kill_child.count += ret == 0;
}

static coroutine_fn RUNS_IN_MAIN void kill_apply(unsigned number)
{
    char name[16];
    g_autoptr(GError) error = NULL;
    snprintf(name, sizeof(name), "%u", number);
    kill_log("apply %u\n", number);
    assert_int_equal(block_node_co_snapshot_apply(blk_root(kill_child.blk), name, &error), 0);
    kill_log("disk %u\n", number);
}

static coroutine_fn RUNS_IN_MAIN void kill_delete(void)
{
    char name[16];
    g_autoptr(GError) error = NULL;
    unsigned number = kill_child.list[0];
    snprintf(name, sizeof(name), "%u", number);
    kill_log("delete %u\n", number);
    assert_int_equal(block_node_co_snapshot_delete(blk_root(kill_child.blk), NULL, name, &error),
                     0);
    kill_log("deleted %u\n", number);
    kill_child.count--;
    memmove(kill_child.list, kill_child.list + 1, kill_child.count * sizeof(unsigned));
}

static coroutine_fn RUNS_IN_MAIN void kill_go_on(void)
{
    for (;;) {
        kill_create();
        kill_apply(kill_child.list[kill_child.next % kill_child.count]);
        while (kill_child.count >= KILL_KEPT) {
            kill_delete();
        }
    }
}

typedef struct KillView {
    BlockBackend *blk;
    BlockImageInfo info;
} KillView;

static void kill_view_at_home(void *opaque)
{
    KillView *v = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    assert_true(block_node_co_image_info(blk_root(v->blk), &v->info, NULL));
}

/* argv: program, folder, number of the next snapshot. */
static char **kill_argv;

BLOCK_TEST(kill_child_main)
{
    g_autofree char *log = g_build_filename(kill_argv[1], "log", NULL);
    g_autofree char *text = g_strdup_printf(
        "qcow2,discard=unmap,file.driver=file,file.cache.no-flush=on,file.filename=%s/t.qcow2",
        kill_argv[1]);
    kill_child.next = (unsigned)strtoul(kill_argv[2], NULL, 10);
    kill_child.blk = test_blk("d", text, true);
    kill_child.log = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    KillView v = {.blk = kill_child.blk};
    test_in_home(kill_view_at_home, &v);
    for (unsigned i = 0; i < v.info.snapshot_count; i++) {
        kill_child.list[kill_child.count++] = (unsigned)strtoul(v.info.snapshots[i].name, NULL, 10);
    }
    block_image_info_clear(&v.info);
    kill_go_on();
}

/* ---- the parent ---- */

typedef struct KillRig {
    char *dir;
    GRand *rand;
    GHashTable *sure, *maybe; /* numbers of snapshots */
    /* Numbers that sectors of the disk may have: the one that is sure, and those whose writes were cut since. */
    GArray *disk;
    bool applies;             /* the disk has the last one as a whole, or nothing of it */
    unsigned next, busy, cut; /* kills; those within an operation */
} KillRig;

static void kill_one(KillRig *rig)
{
    char next[16];
    snprintf(next, sizeof(next), "%u", rig->next);
    char *argv[] = {(char *)(uintptr_t) "/proc/self/exe", rig->dir, next, NULL};
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    argv[0] = self;
    GPid pid;
    GError *error = NULL;
    GSpawnFlags flags =
        G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL;
    if (!g_spawn_async(NULL, argv, NULL, flags, NULL, NULL, &pid, &error)) {
        fail_msg("%s", error->message);
    }
    g_autofree char *log = g_build_filename(rig->dir, "log", NULL);
    for (unsigned i = 0; access(log, F_OK) != 0 && i < KILL_BEGIN_MS; i++) {
        g_usleep(1000);
    }
    g_usleep((gulong)g_rand_int_range(rig->rand, 0, KILL_MOST_MS * 1000)); /* the moment */
    kill(pid, SIGKILL);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    g_spawn_close_pid(pid);
}

static void kill_take_line(KillRig *rig, const char *word, unsigned number)
{
    gpointer key = GUINT_TO_POINTER(number);
    bool begins = strcmp(word, "create") == 0 || strcmp(word, "delete") == 0;
    if (strcmp(word, "write") == 0 || strcmp(word, "apply") == 0) {
        g_array_append_val(rig->disk, number);
        rig->applies = word[0] == 'a';
    } else if (strcmp(word, "disk") == 0) {
        g_array_set_size(rig->disk, 0);
        g_array_append_val(rig->disk, number);
    } else if (begins) {
        g_hash_table_remove(rig->sure, key);
        g_hash_table_add(rig->maybe, key);
        rig->next = MAX(rig->next, number + 1);
    } else {
        g_hash_table_remove(rig->maybe, key);
        if (strcmp(word, "created") == 0) {
            g_hash_table_add(rig->sure, key);
        }
    }
    rig->next = MAX(rig->next, number + 1);
}

static void kill_read_log(KillRig *rig)
{
    g_autofree char *path = g_build_filename(rig->dir, "log", NULL), *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return; /* it was killed before */
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; lines[i] != NULL; i++) {
        char word[16];
        unsigned number;
        if (sscanf(lines[i], "%15s %u", word, &number) == 2) {
            kill_take_line(rig, word, number);
        }
    }
    unlink(path);
}

/* Each sector of the disk has one of the numbers. @whole: the last one is everywhere, or nowhere. */
static coroutine_fn RUNS_IN_MAIN void kill_check_disk(BlockBackend *blk, const GArray *numbers,
                                                      bool whole)
{
    g_autofree uint8_t *data = g_malloc(KILL_MARK), *model = g_malloc(KILL_MARK);
    bool known[KILL_MARK / 512] = {false};
    assert_int_equal(test_io(blk, TEST_READ, 0, KILL_MARK, data, 0), 0);
    for (unsigned i = 0; i < numbers->len; i++) {
        uint64_t step = whole && i == numbers->len - 1 ? KILL_MARK : 512;
        kill_fill(model, KILL_MARK, g_array_index(numbers, unsigned, i));
        for (uint64_t at = 0; at < KILL_MARK; at += step) {
            if (memcmp(data + at, model + at, step) == 0) {
                memset(known + at / 512, true, step / 512);
            }
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(known); i++) {
        if (!known[i]) {
            fail_msg("sector %u of the disk has none of %u numbers from %u on", i, numbers->len,
                     g_array_index(numbers, unsigned, 0));
        }
    }
}

static coroutine_fn RUNS_IN_MAIN void kill_check_snapshot(const KillRig *rig, const char *name)
{
    g_autoptr(GError) error = NULL;
    unsigned number = (unsigned)strtoul(name, NULL, 10);
    g_autofree uint8_t *model = kill_model(number);
    BlockBackend *blk = qcow2_open_image(rig->dir, "t.qcow2", "");
    state_compare(blk_root(blk), name, model, KILL_STATE);
    assert_true(block_node_co_view_snapshot(blk_root(blk), NULL, name, &error));
    g_autoptr(GArray) numbers = g_array_new(false, false, sizeof(unsigned));
    g_array_append_val(numbers, number);
    kill_check_disk(blk, numbers, true);
    blk_co_free(blk);
}

static coroutine_fn RUNS_IN_MAIN void kill_check_set(KillRig *rig)
{
    BlockBackend *blk = qcow2_open_image(rig->dir, "t.qcow2", "");
    KillView v = {.blk = blk};
    test_in_home(kill_view_at_home, &v);
    kill_check_disk(blk, rig->disk, rig->applies);
    blk_co_free(blk);
    unsigned sure = 0;
    for (unsigned i = 0; i < v.info.snapshot_count; i++) {
        gpointer key = GUINT_TO_POINTER((unsigned)strtoul(v.info.snapshots[i].name, NULL, 10));
        bool is_sure = g_hash_table_contains(rig->sure, key);
        if (!is_sure && !g_hash_table_contains(rig->maybe, key)) {
            fail_msg("snapshot %s is listed", v.info.snapshots[i].name);
        }
        sure += is_sure;
        kill_check_snapshot(rig, v.info.snapshots[i].name);
    }
    assert_int_equal(sure, g_hash_table_size(rig->sure));
    for (unsigned i = 0; i < v.info.snapshot_count; i++) { /* what is listed now is sure */
        unsigned number = (unsigned)strtoul(v.info.snapshots[i].name, NULL, 10);
        g_hash_table_add(rig->sure, GUINT_TO_POINTER(number));
    }
    g_hash_table_remove_all(rig->maybe);
    block_image_info_clear(&v.info);
}

/* No errors but leaks; with the dirty bit, flags that do not match. */
static void kill_check_errors(const KillRig *rig)
{
    size_t size;
    g_autofree uint8_t *image = qcow2_file_bytes(rig->dir, "t.qcow2", &size);
    uint64_t bits = qcow2_get64(image + offsetof(Qcow2DiskHeader, incompatible_features));
    qcow2_shell(rig->dir,
                "qemu-img check t.qcow2 >check 2>&1; s=$?; grep ^ERROR check >wrong; "
                "if { [ -s wrong ] && ! %s; } || grep -v OFLAG_COPIED wrong || [ $s = 1 ] || "
                "[ $s -gt 3 ]; then cat check; false; fi",
                (bits & QCOW2_INCOMPATIBLE_DIRTY) != 0 ? "true" : "false");
}

static coroutine_fn RUNS_IN_MAIN void kill_round(KillRig *rig)
{
    kill_one(rig);
    kill_read_log(rig);
    rig->busy += g_hash_table_size(rig->maybe) > 0;
    kill_check_errors(rig);
    kill_check_set(rig);
    g_autofree char *text =
        g_strdup_printf("qcow2,file.driver=file,file.filename=%s/t.qcow2", rig->dir);
    blk_co_free(test_blk("d", text, true)); /* repairs it */
    qcow2_shell(rig->dir, "qemu-img check -q t.qcow2 >check || [ $? = 3 ] && ! grep ERROR check");
    if (rig->cut++ % 4 == 3) {
        qcow2_shell(rig->dir, "qemu-img check -q -r leaks t.qcow2 && qemu-img check -q t.qcow2");
    }
    kill_check_set(rig);
}

BLOCK_TEST(a_process_that_is_killed_leaves_the_old_snapshots_or_the_new_ones)
{
    unsigned rounds = test_rounds(25, 15, 200);
    KillRig rig = {.dir = qcow2_dir_new(),
                   .rand = g_rand_new_with_seed((guint32)g_get_monotonic_time()),
                   .disk = g_array_new(false, false, sizeof(unsigned)),
                   .sure = g_hash_table_new(NULL, NULL),
                   .maybe = g_hash_table_new(NULL, NULL)};
    g_autofree uint8_t *mark = g_malloc(KILL_MARK);
    g_autofree char *path = g_build_filename(rig.dir, "mark", NULL);
    kill_fill(mark, KILL_MARK, 0);
    assert_true(g_file_set_contents(path, (char *)mark, KILL_MARK, NULL));
    qcow2_shell(rig.dir, "qemu-img create -q -f qcow2 -o cluster_size=4k t.qcow2 1M && "
                         "qemu-io -c 'write -q -P 7 0 1M' -c 'write -q -s mark 0 64k' t.qcow2");
    rig.next = 1;
    kill_take_line(&rig, "disk", 0);
    for (unsigned i = 0; i < rounds; i++) {
        kill_round(&rig);
    }
    printf("# %u processes, %u were killed in an operation, %u snapshots\n", rounds, rig.busy,
           rig.next);
    qcow2_dir_free(rig.dir);
    g_rand_free(rig.rand);
    g_array_unref(rig.disk);
    g_hash_table_unref(rig.sure);
    g_hash_table_unref(rig.maybe);
    assert_true(rig.busy > 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest child[] = {cmocka_unit_test(kill_child_main)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_that_is_killed_leaves_the_old_snapshots_or_the_new_ones),
    };
    kill_argv = argv;
    return argc == 3 ? block_test_main(child) : block_test_main(tests);
}
