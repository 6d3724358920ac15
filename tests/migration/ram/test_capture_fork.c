/* SPDX-License-Identifier: Apache-2.0 */
/* The frozen copy: what is read is of one instant while threads write on; its child holds nothing and goes
 * with its parent. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "migration/ram/capture.h"
#include "migration/ram/capture_fork.h"
#include "tests/migration/ram/ram_writers.h"

typedef struct ForkCall {
    const GuestRam *ram;
    CaptureFork *c;
    GError *error;
} ForkCall;

static int fork_begin(void *opaque)
{
    ForkCall *f = opaque;
    enter_worker();
    f->c = capture_fork_begin(f->ram, &f->error);
    return 0;
}

static int fork_free(void *opaque)
{
    enter_worker();
    capture_fork_free(opaque);
    return 0;
}

static coroutine_fn RUNS_IN_MAIN CaptureFork *fork_ok(RamTest *t)
{
    ForkCall f = {.ram = &t->ram};
    co_run_in_worker(fork_begin, &f);
    if (f.c == NULL) {
        fail_msg("%s", f.error->message);
    }
    return f.c;
}

static coroutine_fn RUNS_IN_MAIN CaptureFork *fork_parked(RamTest *t)
{
    writers_wait_parked();
    CaptureFork *c = fork_ok(t);
    memset(t->host + RAM_TEST_LOW - 4096 + 8, 0x11, 64); /* after the instant; not in the copy */
    writers_go_on();
    return c;
}

BLOCK_TEST(images_are_of_one_instant_while_threads_write_on)
{
    RamTest t, b;
    ram_test_init(&t);
    ram_test_init(&b);
    writers_begin(t.host);
    BlockBackend *blk = test_blk("d", "mem,size=16M", true);
    for (unsigned round = 0; round < 20; round++) {
        memset(t.host + RAM_TEST_LOW - 4096 + 8, 0, 64);
        CaptureFork *c = fork_parked(&t);
        writers_wait_for(3 * WRITER_PAGES); /* all pages have changed before the first is read */
        RamImage image;
        assert_true(ram_image_plan(&image, &t.ram, NULL));
        RamTestCall s = {
            .save = {.blk = blk, .offset = RAM_TEST_OFFSET, .read = capture_fork_read, .opaque = c},
            .image = &image};
        co_call_in(test_home, ram_test_run, &s);
        test_event_wait(&s.done);
        assert_int_equal(s.ret, 0);
        co_run_in_worker(fork_free, c);
        assert_null(ram_test_load(blk, &b));
        writers_check(b.host);
        assert_int_equal(b.host[RAM_TEST_LOW - 4096 + 8], 0);
    }
    writers_end();
    blk_co_free(blk);
    ram_test_clear(&t);
    ram_test_clear(&b);
}

BLOCK_TEST(after_the_end_reads_fail_and_the_child_is_gone)
{
    RamTest t;
    ram_test_init(&t);
    CaptureFork *c = fork_ok(&t);
    int pid = capture_fork_pid(c);
    assert_int_equal(kill(pid, 0), 0);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    capture_fork_end(c);
    capture_fork_end(c);
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 60000), 1);
    uint8_t byte;
    assert_int_equal(capture_fork_read(c, 0, 0, &byte, 1), -ESRCH);
    co_run_in_worker(fork_free, c);
    assert_int_equal(kill(pid, 0), -1);
    close(pidfd);
    ram_test_clear(&t);
}

/* Memory that process @pid shares with another, in kB; from /proc/PID/smaps_rollup. */
static unsigned long shared_memory(int pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/smaps_rollup", pid);
    g_autofree char *text = NULL;
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    const char *shared = strstr(text, "Shared_Dirty:");
    assert_non_null(shared);
    return strtoul(shared + strlen("Shared_Dirty:"), NULL, 10);
}

BLOCK_TEST(a_read_gives_the_child_no_memory_of_its_own)
{
    RamTest t;
    ram_test_init(&t);
    const RamBlock *b = &t.ram.blocks[0];
    memset(b->host, 1, b->size);
    CaptureFork *c = fork_ok(&t);
    unsigned long before = shared_memory(capture_fork_pid(c));
    assert_true(before >= b->size / 1024);
    g_autofree uint8_t *copy = g_malloc(b->size);
    assert_int_equal(capture_fork_read(c, 0, 0, copy, b->size), 0);
    assert_memory_equal(copy, b->host, b->size);
    assert_true(shared_memory(capture_fork_pid(c)) + b->size / 1024 / 2 > before);
    co_run_in_worker(fork_free, c);
    ram_test_clear(&t);
}

BLOCK_TEST(the_child_keeps_no_descriptor_open)
{
    RamTest t;
    ram_test_init(&t);
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    CaptureFork *c = fork_ok(&t);
    close(ends[1]);
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    assert_int_equal(poll(&p, 1, 60000), 1); /* hung up: the child has closed its copy */
    close(ends[0]);
    co_run_in_worker(fork_free, c);
    ram_test_clear(&t);
}

BLOCK_TEST(shared_memory_is_refused_with_the_reason)
{
    RamTest t;
    ram_test_init(&t);
    t.ram.blocks[1].fd = 0;
    ForkCall f = {.ram = &t.ram};
    co_run_in_worker(fork_begin, &f);
    assert_null(f.c);
    assert_non_null(strstr(f.error->message, "'high' is shared"));
    g_clear_error(&f.error);
    ram_test_clear(&t);
}

BLOCK_TEST(a_process_that_may_not_fork_is_refused_with_the_reason)
{
    RamTest t;
    ram_test_init(&t);
    capture_forbid("it is a test");
    ForkCall f = {.ram = &t.ram};
    co_run_in_worker(fork_begin, &f);
    assert_null(f.c);
    assert_string_equal(f.error->message, "memory cannot be frozen: it is a test");
    g_clear_error(&f.error);
    capture_forbid(NULL);
    CaptureFork *c = fork_ok(&t);
    co_run_in_worker(fork_free, c);
    ram_test_clear(&t);
}

/* A process that captures, reports the child and is killed: the child ends. */
BLOCK_TEST(the_child_ends_with_its_parent)
{
    RamTest t;
    ram_test_init(&t);
    int out[2];
    assert_int_equal(pipe(out), 0);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    pid_t parent = fork();
    if (parent == 0) {
        CaptureFork *c = capture_fork_begin(&t.ram, NULL);
        int pid = c != NULL ? capture_fork_pid(c) : -1;
        ssize_t n = write(out[1], &pid, sizeof(pid));
        for (;;) {
            pause();
        }
        (void)n;
    }
    int pid = -1;
    assert_int_equal(read(out[0], &pid, sizeof(pid)), sizeof(pid));
    assert_true(pid > 0);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    assert_true(pidfd >= 0);
    kill(parent, SIGKILL);
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 60000), 1);
    assert_int_equal(waitpid(pid, NULL, __WALL), pid);
    close(pidfd);
    close(out[0]);
    close(out[1]);
    ram_test_clear(&t);
}

typedef struct ForkPrediction {
    const GuestRam *ram;
    int64_t ns;
} ForkPrediction;

static int fork_predict(void *opaque)
{
    ForkPrediction *p = opaque;
    enter_worker();
    p->ns = capture_fork_predict_ns(p->ram);
    return 0;
}

/* Each page that is there costs the same; without a count of pages all count as such. */
BLOCK_TEST(the_cost_follows_from_the_pages_that_are_there)
{
    const uint64_t size = UINT64_C(64) << 20;
    GuestRam ram = {.count = 1};
    ForkPrediction none = {.ram = &ram}, half = {.ram = &ram}, all = {.ram = &ram};
    uint8_t *host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(host, MAP_FAILED);
    madvise(host, size, MADV_NOHUGEPAGE);
    ram.blocks[0] = (RamBlock){.size = size, .host = host, .fd = -1, .name = "m"};
    co_run_in_worker(fork_predict, &none);
    memset(host, 1, size / 2);
    co_run_in_worker(fork_predict, &half);
    memset(host, 1, size);
    co_run_in_worker(fork_predict, &all);
    assert_true(all.ns > 0 && half.ns <= all.ns && none.ns <= half.ns);
    if (none.ns == 0) {
        assert_true(llabs(half.ns * 2 - all.ns) < all.ns / 10);
    } else { /* Linux < 6.7 */
        assert_int_equal(none.ns, all.ns);
    }
    munmap(host, size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cost_follows_from_the_pages_that_are_there),
        cmocka_unit_test(images_are_of_one_instant_while_threads_write_on),
        cmocka_unit_test(after_the_end_reads_fail_and_the_child_is_gone),
        cmocka_unit_test(a_read_gives_the_child_no_memory_of_its_own),
        cmocka_unit_test(the_child_keeps_no_descriptor_open),
        cmocka_unit_test(shared_memory_is_refused_with_the_reason),
        cmocka_unit_test(a_process_that_may_not_fork_is_refused_with_the_reason),
        cmocka_unit_test(the_child_ends_with_its_parent),
    };
    return block_test_main(tests);
}
