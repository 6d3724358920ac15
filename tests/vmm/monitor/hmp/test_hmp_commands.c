/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor's commands: QEMU's formats, expressions, arguments, and hostile lines. */
#include "tests/vmm/monitor/hmp/hmp_rig.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/log.h"
#include "util/trace.h"
#include "vmm/monitor/hmp/hmp_complete.h"

/* The end of QEMU's BIOS, so that the expected lines below equal the output of QEMU 7.2. */
static const uint8_t bios_end[] = {0xea, 0x5b, 0xe0, 0x00, 0xf0, '0', '6',  '/',
                                   '2',  '3',  '/',  '9',  '9',  0,   0xfc, 0};

static void load_bios_end(void)
{
    memcpy(hmp_rig_ram + 0xffff0, bios_end, sizeof(bios_end));
}

/* ---- memory ---- */

static void xp_prints_as_qemu_does(void **state)
{
    QmpRig *rig = *state;
    load_bios_end();
    assert_prints(rig, "xp /4xb 0xffff0", "00000000000ffff0: 0xea 0x5b 0xe0 0x00\n");
    assert_prints(rig, "xp /4ob 0xffff0", "00000000000ffff0: 0352 0133 0340   0\n");
    assert_prints(rig, "xp /4dh 0xffff0", "00000000000ffff0: 23530   224 12528 12086\n");
    assert_prints(rig, "xp /4xw 0xffff0",
                  "00000000000ffff0: 0x00e05bea 0x2f3630f0 0x392f3332 0x00fc0039\n");
    assert_prints(rig, "xp /6uw 0xffff0",
                  "00000000000ffff0:   14703594  792080624  959394610   16515129\n"
                  "0000000000100000:          0          0\n");
    assert_prints(rig, "xp /9cb 0xffff0",
                  "00000000000ffff0: '\\xea' '[' '\\xe0' '\\x00' '\\xf0' '0' '6' '/'\n"
                  "00000000000ffff8: '2'\n");
    assert_prints(rig, "xp /3og 0xffff0",
                  "00000000000ffff0: 0274661417000070055752   03740003447113631462\n"
                  "0000000000100000:                      0\n");
    hmp_rig_ram[0] = '\n', hmp_rig_ram[1] = '\'', hmp_rig_ram[2] = '\\', hmp_rig_ram[3] = '\r';
    assert_prints(rig, "xp /4c 0", "0000000000000000: '\\n' '\\'' '\\\\' '\\r'\n");
}

static void xp_has_defaults(void **state)
{
    QmpRig *rig = *state;
    load_bios_end();
    assert_prints(rig, "xp 0xffff0", "00000000000ffff0: 0x00e05bea\n");
    assert_prints(rig, "xp/2 0xffff0", "00000000000ffff0: 0x00e05bea 0x2f3630f0\n");
    assert_prints(rig, "xp /b 0xffff0", "00000000000ffff0: 0xea\n");
    assert_prints(rig, "xp /wd 0xffff0", "00000000000ffff0:   14703594\n");
    assert_prints(rig, "xp /0 0xffff0", "");
}

static void xp_stops_at_the_end_of_memory(void **state)
{
    QmpRig *rig = *state;
    assert_prints(rig, "xp /8xw 0x1ffff0",
                  "00000000001ffff0: 0x00000000 0x00000000 0x00000000 0x00000000\n"
                  "0000000000200000: Cannot access memory\n");
    assert_prints(rig, "xp 0x1ffffe", "00000000001ffffe: Cannot access memory\n");
    assert_prints(rig, "xp -1", "ffffffffffffffff: Cannot access memory\n");
}

static void xp_bounds_the_count_and_refuses_to_disassemble(void **state)
{
    QmpRig *rig = *state;
    assert_prints_part(rig, "xp /99999999999999999999x 0", "at most 1048576 bytes");
    assert_prints_part(rig, "xp /1048577b 0", "at most 1048576 bytes");
    assert_prints_part(rig, "xp /4i 0", "no disassembler; nearest is gdb");
    assert_prints_part(rig, "xp /4z 0", "invalid char in format: 'z'");
    assert_prints_part(rig, "xp /-4x 0", "invalid char in format: '-'");
}

static void sum_computes_the_bsd_checksum(void **state)
{
    QmpRig *rig = *state;
    memcpy(hmp_rig_ram + 0x1000, "hello\n", 6); /* echo hello | sum */
    assert_prints(rig, "sum 0x1000 6", "36979\n");
    assert_prints(rig, "sum 0x1000 0", "00000\n");
    assert_prints_part(rig, "sum 0x1ff000 0x2000", "Error: there is no RAM");
    assert_prints_part(rig, "sum 0 -1", "at most");
    assert_prints_part(rig, "sum 0 ", "'size' is missing");
    assert_prints_part(rig, "dump-guest-memory -z file", "unsupported option -z");
    assert_prints_part(rig, "dump-guest-memory -d -p", "'filename' is missing");
}

/* ---- expressions ---- */

static void print_evaluates_expressions(void **state)
{
    QmpRig *rig = *state;
    assert_prints(rig, "print 5+3*2", "0xb\n");
    assert_prints(rig, "p/d 5-9", "-4\n");
    assert_prints(rig, "print/o 9", "011\n");
    assert_prints(rig, "print/c 65", "'A'\n");
    assert_prints(rig, "print/u 5 - 9", "18446744073709551612\n");
    assert_prints(rig, "print (5+3) * 2 % 7", "0x2\n");
    assert_prints(rig, "print 0x10|1&0x11^1", "0x10\n"); /* one level, from left to right */
    assert_prints(rig, "print ~0", "0xffffffffffffffff\n");
    assert_prints(rig, "print -0x8000000000000000", "0x8000000000000000\n");
    assert_prints(rig, "print !0 + !5 + +1", "0x2\n");
    assert_prints(rig, "print 'a' - 'b' + 017", "0xe\n");
    assert_prints(rig, "print 7/2*2", "0x6\n");
}

static void print_refuses_invalid_expressions(void **state)
{
    QmpRig *rig = *state;
    static const struct {
        const char *line, *error;
    } wrong[] = {
        {"print 3 +", "not the end of the line"},
        {"print", "'val' is missing"},
        {"print (1", "')' expected"},
        {"print 1/0", "division by zero"},
        {"print 1%(2-2)", "division by zero"},
        {"print $foo", "there is no register '$foo'"},
        {"print $", "there is no register"},
        {"print 12345678901234567890123", "does not fit"},
        {"print 0x", "does not belong to a number"},
        {"print 09", "does not belong to a number"},
        {"print 12z", "'z' does not belong"},
        {"print 'a", "expected a character"},
        {"print '", "expected a character"},
        {"print 1 2", "takes no '2'"},
        {"print ]", "expected a number"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        assert_prints_part(rig, wrong[i].line, wrong[i].error);
        assert_prints_part(rig, wrong[i].line, "usage: print|p [/fmt] val\n");
    }
    g_autofree char *parentheses = g_strnfill(4000, '(');
    g_autofree char *deep = g_strconcat("print ", parentheses, "1", NULL);
    assert_prints_part(rig, deep, "nested at most");
    g_autofree char *signs = g_strnfill(4000, '-');
    g_autofree char *minus = g_strconcat("print ", signs, "1", NULL);
    assert_prints_part(rig, minus, "nested at most");
}

/* ---- lines ---- */

static void an_unknown_command_is_refused_with_the_nearest_one(void **state)
{
    QmpRig *rig = *state;
    assert_prints(rig, "stpo", "unknown command: 'stpo'; did you mean stop?\n");
    assert_prints(rig, "info stat", "unknown command: 'info stat'; did you mean info status?\n");
    assert_prints(rig, "screendump /tmp/x",
                  "unknown command: 'screendump'; there is no display; -serial file: has the "
                  "console\n");
    assert_prints(rig, "i /b 0x60", "unknown command: 'i'; nearest is gdb, or code in the guest\n");
    assert_prints(rig, "xyzzy plugh", "unknown command: 'xyzzy'; help lists the commands\n");
    assert_prints(rig, "help stpo", "unknown command: 'stpo'; did you mean stop?\n");
    assert_prints(rig, "stop2", "unknown command: 'stop2'; did you mean stop?\n");
    assert_prints(rig, "x2/4 0", "unknown command: 'x2/4'; help lists the commands\n");
    assert_prints(rig, "", "");
    assert_prints(rig, "   \t ", "");
}

static void help_describes_all_commands_or_one(void **state)
{
    QmpRig *rig = *state;
    assert_prints_part(rig, "help", "\ncont|c -- ");
    assert_prints_part(rig, "?", "\ninfo registers [-a] [vcpu] -- ");
    assert_prints_part(rig, "help c", "cont|c -- start or continue the VM\n");
    assert_prints_part(rig, "help info jobs", "info jobs -- ");
    assert_prints_part(rig, "  help   xp  ", "xp [/fmt] addr -- ");
    g_autofree char *all = hmp_prints(rig, "help info"), *info = hmp_prints(rig, "info");
    assert_string_equal(all, info);
}

/* With the text of help. */
static void the_manual_lists_every_command(void **state)
{
    g_autofree char *manual = NULL;
    if (!g_file_get_contents("docs/monitor.md", &manual, NULL, NULL)) {
        skip(); /* not run from the top of the tree */
    }
    for (const HmpCommand *const *table = hmp_command_tables; *table != NULL; table++) {
        for (const HmpCommand *c = *table; c->name != NULL; c++) {
            g_autoptr(GString) row = g_string_new("| `");
            hmp_append_usage(row, c);
            g_string_append_printf(row, "` | %s |\n", c->help);
            g_string_replace(row, "|", "\\|", 0);
            g_string_replace(row, "\\| `", "| `", 0); /* the table's own bars */
            g_string_replace(row, "` \\| ", "` | ", 0);
            g_string_replace(row, " \\|\n", " |\n", 0);
            if (strstr(manual, row->str) == NULL) {
                fail_msg("docs/monitor.md lacks the row: %s", row->str);
            }
        }
    }
}

static void extra_blanks_between_words_are_ignored(void **state)
{
    QmpRig *rig = *state;
    assert_prints(rig, "  info \t  status  ", "VM status: paused (prelaunch)\n");
    assert_prints(rig, "xp   /1xb    0", "0000000000000000: 0x00\n");
}

/* Executes @c with too few, too many and malformed arguments. */
static void each_row_checks_its_arguments(const HmpCommand *c, QmpRig *rig)
{
    bool takes_rest = false, needs = false;
    for (const HmpParam *p = c->params; p != NULL && p->name != NULL; p++) {
        takes_rest |= p->kind == HMP_ARG_REST || p->kind == HMP_ARG_OPTS;
        needs |= !p->optional && p->kind != HMP_ARG_FLAG && p->kind != HMP_ARG_FORMAT;
    }
    g_autofree char *usage = g_strconcat(c->name, ": ", NULL);
    if (needs) {
        assert_prints_part(rig, c->name, usage);
        assert_prints_part(rig, c->name, "is missing; usage: ");
    }
    if (c->params == NULL) {
        g_autofree char *line = g_strconcat(c->name, " junk", NULL);
        assert_prints_part(rig, line, "takes no 'junk'; usage: ");
    }
    if (!takes_rest) {
        g_autofree char *line = g_strconcat(c->name, " \"unclosed", NULL);
        assert_prints_part(rig, line, "; usage: ");
    }
    assert_true((c->qmp != NULL) != (c->run != NULL));
    assert_true(c->help != NULL && g_ascii_islower(c->help[0]));
    assert_null(hmp_lacking_nearest(c->name));
}

static void every_command_checks_its_arguments(void **state)
{
    QmpRig *rig = *state;
    for (const HmpCommand *const *table = hmp_command_tables; *table != NULL; table++) {
        for (const HmpCommand *c = *table; c->name != NULL; c++) {
            if (strcmp(c->name, "info") != 0) {
                each_row_checks_its_arguments(c, rig);
            }
        }
    }
}

static void words_may_be_in_quotes(void **state)
{
    QmpRig *rig = *state;
    g_autofree char *dir = g_dir_make_tmp("skiff-hmp.XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "a \"b\" \\c", NULL);
    g_autofree char *line = g_strdup_printf("pmemsave 0 4 \"%s/a \\\"b\\\" \\\\c\"", dir);
    assert_prints(rig, line, "");
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
    rmdir(dir);
    assert_prints_part(rig, "pmemsave 0 4 \"a\\q\"", "quotes allow only");
    assert_prints_part(rig, "pmemsave 0 4 \"a\\", "quotes allow only");
    assert_prints_part(rig, "pmemsave 0 4 \"a", "not closed");
}

static void options_have_the_syntax_of_the_command_line(void **state)
{
    QmpRig *rig = *state;
    assert_prints(rig, "set_action panic=pause,reboot=shutdown", "");
    assert_int_equal(rig->vm.life.actions.panic, PANIC_PAUSE);
    assert_true(rig->vm.life.actions.no_reboot);
    assert_prints(rig, "set_action {\"panic\": \"none\"}", "");
    assert_int_equal(rig->vm.life.actions.panic, PANIC_NONE);
    assert_prints(rig, "set_action watchdog=inject-nmi", "");
    assert_int_equal(rig->vm.life.actions.watchdog, WATCHDOG_INJECT_NMI);
    assert_prints(rig, "watchdog_action pause", "");
    assert_int_equal(rig->vm.life.actions.watchdog, WATCHDOG_PAUSE);
    assert_prints_part(rig, "watchdog_action dance", "Error: Parameter 'action' does not accept");
    assert_prints_part(rig, "set_action panic=dance", "Error: Parameter 'panic' does not accept");
    assert_prints_part(rig, "set_action [1]", "Error");
    assert_prints_part(rig, "set_action {\"panic\": ", "set_action: ");
    assert_prints_part(rig, "set_action panic=pause,panic=none", "'panic' is given twice");
    assert_prints_part(rig, "object_add iothread,a.b=1,a.b=2", "'a.b' is given twice");
    assert_prints_part(rig, "device_add {}", "Error: Parameter 'driver' is missing");
    assert_prints_part(rig, "device_add ,,,=", "device_add");
}

static void sizes_are_in_mebibytes(void **state)
{
    QmpRig *rig = *state;
    assert_prints(rig, "block_resize nodisk 5",
                  "Error: Cannot find device='nodisk' nor node-name='nodisk'\n");
    assert_prints_part(rig, "block_resize nodisk -5", "'size'");
    assert_prints_part(rig, "block_resize nodisk 5Z", "'size'");
    assert_prints_part(rig, "block_resize nodisk 99999999T", "'size'");
}

static void a_line_is_utf8_of_bounded_length(void **state)
{
    QmpRig *rig = *state;
    g_autofree char *spaces = g_strnfill(HMP_LINE_MAX + 1, 'x');
    assert_prints_part(rig, spaces, "at most 4095 bytes");
    assert_prints_part(rig, "help \377", "UTF-8");
    assert_prints_part(rig, "stop \033[2J", "takes no");
    g_autofree char *out = hmp_prints(rig, "stop \033[2J");
    assert_null(strchr(out, '\033'));
    g_autofree char *unknown = hmp_prints(rig, "\033[2J");
    assert_null(strchr(unknown, '\033'));
    for (unsigned before = 0; before < 200; before++) { /* messages are cut between characters */
        g_autofree char *x = g_strnfill(before, 'x');
        g_autofree char *wide =
            g_strconcat(x, "\342\202\254\342\202\254\302\233\342\202\254", NULL);
        g_autofree char *excerpt = hmp_prints(rig, wide);
        assert_true(g_utf8_validate(excerpt, -1, NULL));
        assert_null(strstr(excerpt, "\302\233")); /* C1: equals ESC [ on a terminal */
    }
}

static void random_lines_do_no_harm(void **state)
{
    QmpRig *rig = *state;
    static const char *const words[] = {"info ",    "status ",     "xp ",         "/4xw ",
                                        "print ",   "help ",       "$rip",        "0x",
                                        "1",        "(",           ")",           "-a ",
                                        "\"",       "\\",          ",",           "=",
                                        "{",        "}",           "on ",         "off ",
                                        "+",        "*",           "%",           "/",
                                        "'",        "set_action ", "\t",          "gva",
                                        "\303\245", "panic",       "savevm ",     "block_resize ",
                                        "sum ",     "nmi2",        "trace-event "};
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);
    for (unsigned round = 0; round < 20000; round++) {
        g_autoptr(GString) line = g_string_new(NULL);
        int count = g_rand_int_range(rand, 0, 8);
        for (int i = 0; i < count; i++) {
            g_string_append(line, words[g_rand_int_range(rand, 0, G_N_ELEMENTS(words))]);
        }
        g_autofree char *out = hmp_prints(rig, line->str);
        assert_true(out[0] == '\0' || out[strlen(out) - 1] == '\n');
        assert_true(g_utf8_validate(out, -1, NULL));
    }
}

/* ---- the VM ---- */

static void cont_reports_why_the_vm_does_not_start(void **state)
{
    QmpRig *rig = *state;
    rig->run.start_fails = true;
    assert_prints(rig, "cont", "Error: net0: no back end\n");
    assert_prints(rig, "info status", "VM status: paused (io-error)\n");
    rig->run.start_fails = false;
    assert_prints(rig, "cont", "");
    assert_prints(rig, "info status", "VM status: running\n");
}

static void a_command_that_qmp_has_is_executed_by_qmp(void **state)
{
    QmpRig *rig = *state;
    assert_prints(rig, "cont", "");
    assert_prints(rig, "info status", "VM status: running\n");
    assert_prints(rig, "s", "");
    assert_prints(rig, "info status", "VM status: paused\n");
    assert_prints(rig, "info kvm", "kvm support: enabled\n");
    assert_prints(rig, "info uuid", "00000000-0000-0000-0000-000000000000\n");
    assert_prints(rig, "info name", "");
    assert_prints(rig, "info jobs", "No jobs\n");
    assert_prints(rig, "info block-jobs", "No active jobs\n");
    assert_prints(rig, "job_cancel none", "Error: Job not found\n");
}

static void trace_events_and_the_log_file_are_set(void **state)
{
    QmpRig *rig = *state;
    g_autofree char *dir = g_dir_make_tmp("skiff-hmp.XXXXXX", NULL);
    g_autofree char *first = g_build_filename(dir, "1", NULL);
    g_autofree char *second = g_build_filename(dir, "2", NULL);
    g_autofree char *line = g_strdup_printf("logfile %s", first);
    g_autofree char *other = g_strdup_printf("logfile %s", second);
    g_autofree char *nowhere = g_strdup_printf("logfile %s/no/file", dir);
    assert_prints(rig, line, "");
    log_error("one");
    assert_prints(rig, other, "");
    log_error("two");
    assert_prints_part(rig, nowhere, "Error: Could not open");
    log_error("three");
    assert_true(log_open(NULL, false));
    g_autofree char *text = NULL, *more = NULL;
    assert_true(g_file_get_contents(first, &text, NULL, NULL));
    assert_string_equal(text, "skiff: one\n");
    assert_true(g_file_get_contents(second, &more, NULL, NULL));
    assert_string_equal(more, "skiff: two\nskiff: three\n");
    unlink(first);
    unlink(second);
    rmdir(dir);
    assert_prints_part(rig, "trace-event nosuch on", "Error: unknown event");
    assert_prints_part(rig, "trace-event * maybe", "'option' must be on or off");
    assert_prints(rig, "trace-event * off", "");
}

/* ---- saving memory, through QMP ---- */

static void pmemsave_writes_the_contents_of_memory(void **state)
{
    QmpRig *rig = *state;
    g_autofree char *dir = g_dir_make_tmp("skiff-hmp.XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "memory", NULL);
    g_autofree char *line = g_strdup_printf("pmemsave 0xffff0 16 %s", path);
    g_autofree char *whole = g_strdup_printf("pmemsave 0 0x200000 %s", path);
    g_autofree char *text = NULL, *all = NULL;
    gsize size;
    load_bios_end();
    assert_prints(rig, line, "");
    assert_true(g_file_get_contents(path, &text, &size, NULL));
    assert_int_equal(size, 16);
    assert_memory_equal(text, bios_end, 16);
    assert_prints(rig, whole, "");
    assert_true(g_file_get_contents(path, &all, &size, NULL));
    assert_int_equal(size, HMP_RIG_RAM);
    assert_memory_equal(all, hmp_rig_ram, HMP_RIG_RAM);
    unlink(path);
    rmdir(dir);
}

static void pmemsave_reports_the_bytes_written_before_an_error(void **state)
{
    QmpRig *rig = *state;
    g_autofree char *dir = g_dir_make_tmp("skiff-hmp.XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "memory", NULL);
    g_autofree char *fifo = g_build_filename(dir, "fifo", NULL);
    g_autofree char *beyond = g_strdup_printf("pmemsave 0 0x300000 %s", path);
    g_autofree char *nowhere = g_strdup_printf("pmemsave 0 1 %s/no/file", dir);
    g_autofree char *unread = g_strdup_printf("pmemsave 0 1 %s", fifo);
    struct stat st;
    assert_prints_part(rig, beyond, "has only the first 2097152 bytes: Invalid addr");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, HMP_RIG_RAM);
    assert_prints_part(rig, nowhere, "Error: Could not open");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_prints_part(rig, unread, "Error: Could not open");
    assert_prints_part(rig, "pmemsave 0 1 /dev/full", "Error: Could not write '/dev/full'");
    assert_prints_part(rig, "pmemsave -1 1 /dev/null", "Invalid addr 0xffffffffffffffff");
    qmp_fails(rig, "pmemsave", "{'val': 0, 'size': -1, 'filename': '/dev/null'}", "GenericError",
              "'size'");
    qmp_fails(rig, "pmemsave", "{'val': 18446744073709551615, 'size': 1, 'filename': '/dev/null'}",
              "GenericError", "Invalid addr 0xffffffffffffffff");
    unlink(path);
    unlink(fifo);
    rmdir(dir);
}

/* ---- the Tab key ---- */

static RUNS_IN_MAIN void assert_completes(QmpRig *rig, const char *text, size_t begin,
                                          const char *expected)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GString) found = g_string_new(NULL);
    assert_int_equal(hmp_complete(&rig->vm, text, words), begin);
    for (unsigned i = 0; i < words->len; i++) {
        g_string_append_printf(found, "%s ", (const char *)words->pdata[i]);
    }
    if (strcmp(found->str, expected) != 0) {
        fail_msg("'%s' becomes %s, not %s", text, found->str, expected);
    }
}

static void tab_completes_commands_and_names(void **state)
{
    enter_main();
    QmpRig *rig = *state;
    assert_completes(rig, "sto", 0, "stop ");
    assert_completes(rig, "  sto", 2, "stop ");
    assert_completes(rig, "in", 0, "info ");
    assert_completes(rig, "info ch", 5, "chardev ");
    assert_completes(rig, "info \t regi", 7, "registers ");
    assert_completes(rig, "help sto", 5, "stop ");
    assert_completes(rig, "device_add virtio-r", 11, "virtio-rng-pci ");
    assert_completes(rig, "trace-event x o", 14, "on off ");
    assert_completes(rig, "stop ", 5, "");
    assert_completes(rig, "nonsense x", 9, "");
    assert_completes(rig, "block_job_cancel -f ", 20, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HMP_TEST(xp_prints_as_qemu_does),
        HMP_TEST(xp_has_defaults),
        HMP_TEST(xp_stops_at_the_end_of_memory),
        HMP_TEST(xp_bounds_the_count_and_refuses_to_disassemble),
        HMP_TEST(sum_computes_the_bsd_checksum),
        HMP_TEST(print_evaluates_expressions),
        HMP_TEST(print_refuses_invalid_expressions),
        HMP_TEST(an_unknown_command_is_refused_with_the_nearest_one),
        HMP_TEST(help_describes_all_commands_or_one),
        HMP_TEST(the_manual_lists_every_command),
        HMP_TEST(extra_blanks_between_words_are_ignored),
        HMP_TEST(every_command_checks_its_arguments),
        HMP_TEST(words_may_be_in_quotes),
        HMP_TEST(options_have_the_syntax_of_the_command_line),
        HMP_TEST(sizes_are_in_mebibytes),
        HMP_TEST(a_line_is_utf8_of_bounded_length),
        HMP_TEST(random_lines_do_no_harm),
        HMP_TEST(cont_reports_why_the_vm_does_not_start),
        HMP_TEST(a_command_that_qmp_has_is_executed_by_qmp),
        HMP_TEST(trace_events_and_the_log_file_are_set),
        HMP_TEST(pmemsave_writes_the_contents_of_memory),
        HMP_TEST(pmemsave_reports_the_bytes_written_before_an_error),
        HMP_TEST(tab_completes_commands_and_names),
    };
    return cmocka_run_group_tests_name("vmm/monitor/hmp/commands", tests, NULL, NULL);
}
