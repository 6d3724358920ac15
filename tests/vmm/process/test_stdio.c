/* SPDX-License-Identifier: Apache-2.0 */
/* Standard input and output as a chardev when they are pipes or files: effects on shared
 * descriptors. A terminal: test_terminal. */
#include <fcntl.h>
#include "tests/vmm/process/stdio_guest.h"

typedef struct Pipes {
    int in[2], out[2];
} Pipes;

static void use_pipes(Pipes *p)
{
    CHECK(pipe2(p->in, O_CLOEXEC) == 0 && pipe2(p->out, O_CLOEXEC) == 0);
    CHECK(dup2(p->in[0], STDIN_FILENO) == STDIN_FILENO);
    CHECK(dup2(p->out[1], STDOUT_FILENO) == STDOUT_FILENO);
    close(p->in[0]);
    close(p->out[1]);
}

static void child_pipes(void *arg)
{
    Pipes p;
    char buf[16];
    Guest g;

    use_pipes(&p);
    g = guest_begin("stdio,id=a");
    CHECK(write(p.in[1], "input", 5) == 5);
    guest_await(&g, "input");
    guest_put(&g, "output");
    chardev_harness_settle(g.ctx);
    CHECK(read(p.out[0], buf, sizeof(buf)) == 6);
    CHECK(!(fcntl(STDIN_FILENO, F_GETFL) & O_NONBLOCK));
    CHECK(!(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK));
    /* End of input: the loop becomes idle, and output continues. */
    close(p.in[1]);
    chardev_harness_settle(g.ctx);
    CHECK(!aio_context_step(g.ctx, false));
    CHECK(chardev_connected(g.c));
    guest_put(&g, "more");
    chardev_harness_settle(g.ctx);
    CHECK(read(p.out[0], buf, sizeof(buf)) == 4);
}

static void pipes_stay_blocking_and_end_of_input_is_no_event(void **state)
{
    run_in_child(child_pipes, NULL);
}

static void child_slow_pipe(void *arg)
{
    static char line[1024], buf[1024];
    size_t sent = 0, got = 0;
    Pipes p;
    Guest g;

    memset(line, 'x', sizeof(line));
    use_pipes(&p);
    CHECK(fcntl(p.out[0], F_SETFL, O_NONBLOCK) == 0);
    g = guest_begin("stdio,id=a");
    for (;;) { /* pipe, then ring, are full */
        size_t n = chardev_write(g.c, (const uint8_t *)line, sizeof(line));

        sent += n;
        chardev_harness_settle(g.ctx);
        if (n < sizeof(line)) {
            break;
        }
    }
    CHECK(!aio_context_step(g.ctx, false));
    while (got < sent) {
        ssize_t n = read(p.out[0], buf, sizeof(buf));

        if (n > 0) {
            got += (size_t)n;
        } else {
            aio_context_step(g.ctx, true);
        }
    }
    STEP_UNTIL(g.ctx, g.f->writable > 0);
}

static void a_slow_reader_gets_every_byte(void **state)
{
    run_in_child(child_slow_pipe, NULL);
}

static void child_broken_pipe(void *arg)
{
    Pipes p;
    Guest g;

    use_pipes(&p);
    g = guest_begin("stdio,id=a");
    close(p.out[0]);
    for (int i = 0; i < 100; i++) {
        g_autofree char *big = g_strnfill(10000, 'x');

        guest_put(&g, big);
        chardev_harness_settle(g.ctx);
    }
    CHECK(!aio_context_step(g.ctx, false));
    CHECK(write(p.in[1], "input", 5) == 5);
    guest_await(&g, "input");
}

static void a_closed_reader_loses_the_output_only(void **state)
{
    run_in_child(child_broken_pipe, NULL);
}

static void child_files(void *arg)
{
    char name[] = "/tmp/skiff-stdio-XXXXXX", buf[64] = "";
    int in = open("/dev/null", O_RDONLY), out = mkstemp(name);
    Guest g;

    CHECK(dup2(in, STDIN_FILENO) == STDIN_FILENO && dup2(out, STDOUT_FILENO) == STDOUT_FILENO);
    CHECK(write(STDOUT_FILENO, "before ", 7) == 7);
    g = guest_begin("stdio,id=a");
    guest_put(&g, "during ");
    enter_main();
    CHECK(chardev_flush_all_blocking(10000));
    CHECK(write(STDOUT_FILENO, "after", 5) == 5);
    CHECK(pread(out, buf, sizeof(buf) - 1, 0) == 19);
    CHECK(!strcmp(buf, "before during after"));
    unlink(name);
}

static void a_shared_file_keeps_its_position(void **state)
{
    run_in_child(child_files, NULL);
}

static void child_script(void *arg)
{
    char name[] = "/tmp/skiff-stdio-XXXXXX";
    int in = mkstemp(name), null = open("/dev/null", O_WRONLY);
    Guest g;

    unlink(name);
    for (int i = 0; i < 2000; i++) {
        CHECK(write(in, "command\n", 8) == 8);
    }
    CHECK(lseek(in, 0, SEEK_SET) == 0);
    CHECK(dup2(in, STDIN_FILENO) == STDIN_FILENO && dup2(null, STDOUT_FILENO) == STDOUT_FILENO);
    g = guest_begin("stdio,id=a");
    STEP_UNTIL(g.ctx, g.f->received->len == 16000);
    guest_put(&g, "into the void");
    chardev_harness_settle(g.ctx);
}

static void input_from_a_file_arrives_completely(void **state)
{
    run_in_child(child_script, NULL);
}

static void child_twice(void *arg)
{
    Pipes p;
    Guest g;
    char *message;

    use_pipes(&p);
    g = guest_begin("stdio,id=a");
    message = chardev_harness_add(g.ctx, "stdio,id=b");
    CHECK(message && strstr(message, "stdio is used already"));
}

static void stdio_is_used_once(void **state)
{
    run_in_child(child_twice, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipes_stay_blocking_and_end_of_input_is_no_event),
        cmocka_unit_test(a_slow_reader_gets_every_byte),
        cmocka_unit_test(a_closed_reader_loses_the_output_only),
        cmocka_unit_test(a_shared_file_keeps_its_position),
        cmocka_unit_test(input_from_a_file_arrives_completely),
        cmocka_unit_test(stdio_is_used_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
