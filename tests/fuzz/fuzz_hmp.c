/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile people at the human monitor: keys, lines that fit and do not, garbage, readers that are
 * slow, leave and come back, and a disk that hangs. The VM is one of counters with a little RAM,
 * and a vCPU on /dev/kvm that stands still. What must hold:
 *   - what is written is UTF-8 without control bytes, but for the few sequences of the line editor;
 *   - a line executed by itself prints whole lines, and no more than is allowed;
 *   - whatever came before, a line typed after Ctrl-C is answered.
 *
 *   fuzz_hmp [--seconds N] [--seed N] [--steps N]
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "tests/support/fake_chardev.h"
#include "tests/support/fake_vm.h"
#include "tests/support/fuzzer.h"
#include "tests/support/host_kvm.h"
#include "util/log.h"
#include "vmm/monitor/hmp/hmp.h"
#include "vmm/monitor/commands/qmp_events.h"

#define FUZZ_RAM 65536u
#define FUZZ_INPUT_MAX 4096 /* what an idle monitor takes at once */

typedef struct Fuzz {
    AioContext
        *ctx; /* one for all: a worker may look at it for a moment longer than it is needed */
    Vm vm;
    VmConfig config;
    uint8_t *ram;
    FakeChardev *chardev;
    HmpMonitor *monitor;
    FakeRun run;
} Fuzz;

static int64_t fuzz_now_ns = 1;

static void fuzz_settle(Fuzz *z)
{
    while (aio_context_step(z->ctx, false)) {
    }
}

/* The disk answers, and what waits for a time has waited long enough. */
static void fuzz_settle_all(Fuzz *z)
{
    z->run.disk_hangs = false;
    fake_run_release_disk(&z->run);
    fuzz_settle(z);
    fuzz_now_ns += INT64_C(1000000000);
    aio_context_set_virtual_time(z->ctx, fuzz_now_ns);
    fuzz_settle(z);
}

/* ---- the vCPU: one for all ---- */

static Kvm fuzz_kvm;
static ArchCpus fuzz_cpus;
static VcpuSet *fuzz_vcpus;

static void fuzz_make_vcpu(void *opaque)
{
    enter_main();
    enter_coroutine();
    VcpuSetConfig config = {.kvm = &fuzz_kvm,
                            .cpus = &fuzz_cpus,
                            .count = 1,
                            .mmio = address_space_new("memory"),
                            .pio = address_space_new("I/O")};
    g_autoptr(GError) error = NULL;
    fuzz_vcpus = vcpus_co_new(&config, &error);
    fuzz_require(fuzz_vcpus != NULL, "no vCPU", error != NULL ? error->message : "");
}

static RUNS_IN_MAIN void fuzz_open_kvm(AioContext *ctx)
{
    static const GuestRam no_ram;
    host_kvm_open(&fuzz_kvm, &fuzz_cpus, &no_ram, 1);
    co_start(ctx, fuzz_make_vcpu, NULL);
    while (fuzz_vcpus == NULL) {
        aio_context_step(ctx, true);
    }
}

/* Also what a vCPU or a worker does has come to its end, and all that was typed is answered. */
static RUNS_IN_MAIN void fuzz_wait_idle(Fuzz *z)
{
    const Chardev *c = &z->chardev->base;
    fake_chardev_make_room(z->chardev, SIZE_MAX);
    for (unsigned tries = 0; c->frontend->can_receive(c->frontend_opaque) < FUZZ_INPUT_MAX;
         tries++) {
        fuzz_require(tries < 10000000, "no end of it", "");
        fuzz_settle_all(z);
        sched_yield();
    }
}

static Fuzz *fuzz_new(AioContext *ctx)
{
    Fuzz *z = g_new0(Fuzz, 1);
    enter_main();
    vm_config_init(&z->config);
    z->ctx = ctx;
    fake_run_init(&z->run);
    z->ram = g_malloc(FUZZ_RAM); /* so that a read past its end is seen */
    for (unsigned i = 0; i < FUZZ_RAM; i++) {
        z->ram[i] = (uint8_t)fuzz_below(256);
    }
    vm_init(&z->vm, &z->config, z->ctx);
    qmp_events_init(&z->vm);
    z->vm.backends.drives = g_ptr_array_new();
    z->vm.machine.vcpus = fuzz_vcpus;
    z->vm.built = true;
    guest_ram_add(&z->vm.machine.ram, &(RamBlock){.size = FUZZ_RAM, .host = z->ram, .name = "ram"});
    run_state_init(&z->vm.run, z->ctx, &fake_run_ops, &z->run);
    z->chardev = fake_chardev_new("mon");
    z->monitor = hmp_monitor_new(&z->vm, &z->chardev->base);
    return z;
}

static void fuzz_free(Fuzz *z)
{
    enter_main();
    fuzz_wait_idle(z);
    hmp_monitor_free(z->monitor);
    fuzz_settle_all(z);
    fake_chardev_free(z->chardev);
    aio_timer_disarm(&z->vm.life.quit_timer); /* somebody may have found out about quit */
    fake_vm_clear(&z->vm);
    vm_config_clear(&z->config);
    fake_run_clear(&z->run);
    g_free(z->ram);
    g_free(z);
}

/* ---- what is typed ---- */

static const char *const fuzz_lines[] = {
    "help",
    "help info",
    "info",
    "info status",
    "info jobs",
    "info mtree",
    "info qtree",
    "info qdm",
    "info trace-events no_such_*",
    "stop",
    "cont",
    "s",
    "system_reset",
    "set_action panic=pause,reboot=reset",
    "trace-event no_such_* on",
    "xp /64xb 0x1000",
    "xp /999xg 0xfff0",
    "xp /3c",
    "xp /7oh 0xffff -",
    "print 'a' * (3 + 4) % 5 | ~0",
    "block_resize nothing 5G",
    "job_cancel nothing",
    "chardev-remove nothing",
    "savevm",
    "pmemsave 0 0x20000 /dev/null",
    "pmemsave 0xfff0 16 /dev/full",
    "memsave 0 16 \"/no such\\\\ file\"",
    "x /64xb 0xfff0",
    "gva2gpa $rip",
    "info registers -a",
    "info cpus",
    "cpu 0",
    "nmi",
};
static const char *const fuzz_pieces[] = {
    "info ",
    "xp ",
    "/4xw ",
    "print ",
    "(",
    ")",
    "((((((((",
    "-",
    "~",
    "+",
    "*",
    "/",
    "%",
    "0x",
    "9",
    "'",
    "\"",
    "\\",
    ",",
    "=",
    "{",
    "}",
    "[",
    "$rip",
    "on",
    "off",
    "-a",
    "\xff",
    "\xc3\xa4",
    "\xe2\x82\xac",
    "\xf0\x9f\x98\x80",
    "\xcc\x81",
    " ",
    "\t",
    "\x1b",
    "\x1b[",
    ";",
    "~",
    "help",
};
static const char *const fuzz_keys[] = {
    "\x1b[A",    "\x1b[B",    "\x1b[C", "\x1b[D", "\x1b[H", "\x1b[F", "\x1b[3~", "\x1bOH",
    "\x1bOF",    "\033b",     "\033f",  "\x01",   "\x02",   "\x03",   "\x04",    "\x05",
    "\x06",      "\x08",      "\x7f",   "\x09",   "\x0b",   "\x0c",   "\x0e",    "\x10",
    "\x1b[1;5C", "\x1b[1;5D", "\x15",   "\x17",   "\x1a",   "\x1c",
};

static void fuzz_append_line(GString *text)
{
    if (fuzz_below(2) == 0) {
        g_string_append(text, FUZZ_PICK(fuzz_lines));
    }
    for (uint64_t n = fuzz_below(3) ? 0 : fuzz_below(12); n > 0; n--) {
        g_string_append(text, FUZZ_PICK(fuzz_pieces));
    }
}

static GString *fuzz_typed(void)
{
    GString *text = g_string_new(NULL);
    for (uint64_t n = 1 + fuzz_below(4); n > 0; n--) {
        fuzz_append_line(text);
        for (uint64_t k = fuzz_below(3) ? 0 : fuzz_below(12); k > 0; k--) {
            g_string_append(text, FUZZ_PICK(fuzz_keys));
        }
        for (uint64_t k = fuzz_below(4) ? 0 : fuzz_below(8); k > 0; k--) {
            g_string_append_c(text, (char)fuzz_below(256));
        }
        g_string_append(text, fuzz_below(3) ? "\r" : fuzz_below(2) ? "\r\n" : "");
    }
    return text;
}

/* ---- what is written ---- */

static void fuzz_check_output(Fuzz *z)
{
    const GString *out = z->chardev->output;
    const char *end;
    /* What was cut off by a reader that left may end within a character. */
    bool whole = g_utf8_validate(out->str, (gssize)out->len, &end) || out->str + out->len - end < 4;
    fuzz_require(whole, "no UTF-8", end);
    for (const char *p = out->str; p < end; p++) {
        bool fine = (uint8_t)*p >= 0x20 ? *p != 0x7f : strchr("\r\n\a\b\x1b\t", *p) != NULL;
        fuzz_require(fine && *p != '\0', "a control byte", p);
    }
    g_string_truncate(z->chardev->output, 0);
}

static RUNS_IN_MAIN void fuzz_type(Fuzz *z, const char *keys, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t taken = fake_chardev_input(z->chardev, keys + at, size - at);
        aio_context_step(z->ctx, false);
        if (taken == 0 && fuzz_below(4) == 0) {
            return; /* the rest is never typed */
        }
        at += taken;
    }
}

static RUNS_IN_MAIN void fuzz_require_answer(Fuzz *z)
{
    static const char line[] = "\x03p 4*5\r";
    fuzz_wait_idle(z);
    fuzz_check_output(z);
    z->vm.life.quitting = false;
    size_t taken = fake_chardev_input(z->chardev, line, sizeof(line) - 1);
    fuzz_settle_all(z);
    fuzz_require(taken == sizeof(line) - 1, "not read", "");
    fuzz_require(g_str_has_suffix(z->chardev->output->str, "p 4*5\r\n0x14\r\n(skiff) "),
                 "not answered", z->chardev->output->str);
}

/* ---- a line by itself ---- */

typedef struct FuzzLine {
    Fuzz *z;
    const char *line;
    GString *out;
    bool done;
} FuzzLine;

static void fuzz_run_line(void *opaque)
{
    enter_main();
    enter_coroutine();
    FuzzLine *l = opaque;
    hmp_co_execute(&l->z->vm, l->line, l->out);
    l->done = true;
}

static void fuzz_execute(Fuzz *z)
{
    g_autoptr(GString) text = g_string_new(NULL), out = g_string_new(NULL);
    fuzz_append_line(text);
    g_autofree char *exact = g_strdup(text->str);
    FuzzLine l = {.z = z, .line = exact, .out = out};
    fuzz_settle_all(z); /* so that its own waiting ends with its own time */
    co_start(z->ctx, fuzz_run_line, &l);
    while (!l.done) {
        fuzz_now_ns += INT64_C(200000000);
        aio_context_set_virtual_time(z->ctx, fuzz_now_ns);
        aio_context_step(z->ctx, false);
    }
    fuzz_require(out->len == 0 || out->str[out->len - 1] == '\n', "no whole line", exact);
    fuzz_require(out->len < 1 << 20, "endless output", exact);
}

/* ---- steps ---- */

static RUNS_IN_MAIN void fuzz_step(Fuzz *z)
{
    g_autoptr(GString) text = NULL;
    switch (fuzz_below(24)) {
    case 0:
        fake_chardev_event(z->chardev, CHARDEV_CLOSED);
        g_string_truncate(z->chardev->output, 0);
        fake_chardev_event(z->chardev, CHARDEV_OPENED);
        break;
    case 1:
        fake_chardev_event(z->chardev, fuzz_below(2) ? CHARDEV_FOCUSED : CHARDEV_UNFOCUSED);
        break;
    case 2:
        z->run.disk_hangs = !z->run.disk_hangs;
        break;
    case 3:
        fake_chardev_make_room(z->chardev, fuzz_below(4) ? (size_t)fuzz_below(3000) : 0);
        break;
    case 4:
        fuzz_require_answer(z);
        break;
    case 5 ... 8:
        fuzz_execute(z);
        break;
    default:
        text = fuzz_typed();
        fuzz_type(z, text->str, text->len);
        break;
    }
}

/* ---- */

/* No file can be opened any more: who types at random finds logfile and memsave some day. A
 * sanitizer's report wants to open some. */
static void fuzz_forbid_files(bool forbidden)
{
    struct rlimit limit;
    int next = dup(STDIN_FILENO);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = forbidden && next >= 0 ? (rlim_t)next : limit.rlim_max;
    close(next);
    fuzz_require(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit", "");
}

void __asan_on_error(void);
void __asan_on_error(void)
{
    fuzz_forbid_files(false);
}

/* One VM, and the people of its life. */
static RUNS_IN_MAIN void fuzz_round(AioContext *ctx)
{
    Fuzz *z = fuzz_new(ctx);
    for (uint64_t n = 1 + fuzz_below(200); n > 0; n--) {
        fuzz_step(z);
    }
    if (fuzz_below(2) == 0) {
        fuzz_require_answer(z);
    }
    fuzz_free(z);
}

int main(int argc, char **argv)
{
    fuzz_begin("fuzz_hmp", argc, argv);
    log_open("/dev/null", false); /* what skiff says of such people */
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        printf("fuzz_hmp: skipped: /dev/kvm cannot be opened\n");
        return 0;
    }
    AioContext *ctx = aio_context_new("main", NULL);
    fuzz_open_kvm(ctx);
    fuzz_forbid_files(true);
    aio_context_set_virtual_time(ctx, fuzz_now_ns);
    while (fuzz_goes_on()) {
        fuzz_round(ctx);
    }
    fuzz_forbid_files(false);
    fuzz_end("steps");
    return 0;
}
