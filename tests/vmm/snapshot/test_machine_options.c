/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a saved machine: each text comes back as it was; wrong ones are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "vmm/snapshot/machine_options.h"

static void expect_text(const char *name, const char *value, const char *text)
{
    ConfigOption *option = config_option_new(name, value);
    g_autoptr(GError) error = NULL;
    g_autofree char *written = machine_option_text(option);
    assert_string_equal(written, text);
    ConfigOption *read = machine_option_parse(text, &error);
    assert_null(error);
    assert_string_equal(read->name, name);
    assert_int_equal(g_strcmp0(read->value, value), 0);
    config_option_free(read);
    config_option_free(option);
}

static void options_are_texts_and_back(void **state)
{
    expect_text("nographic", NULL, "-nographic");
    expect_text("append", "", "-append ");
    expect_text("append", " two  blanks ", "-append  two  blanks ");
    expect_text("device", "virtio-blk-pci,drive=d0", "-device virtio-blk-pci,drive=d0");
    expect_text("device", "{\"driver\": \"isa-debug-exit\"}",
                "-device {\"driver\": \"isa-debug-exit\"}");
    expect_text("append", "a\nb\t\x7f", "-append a\\x0ab\\x09\\x7f");
    expect_text("kernel", "C:\\x41", "-kernel C:\\\\x41");
    expect_text("kernel",
                "Gr\xc3\xbc\xc3\x9f"
                "e",
                "-kernel Gr\xc3\xbc\xc3\x9f"
                "e");
    expect_text("kernel", "\xff\xc3", "-kernel \\xff\\xc3");
    expect_text("kernel", "\xc0\xaf", "-kernel \\xc0\\xaf"); /* too long a form of '/' */
}

static void texts_that_are_no_options_are_refused(void **state)
{
    static const char *const wrong[] = {
        "",        "-",        "- x",      "device x", "-de/vice x", "-m \\",       "-m \\x",
        "-m \\x4", "-m \\xg1", "-m \\x00", "-m \\n1",  "-m 1 \\q",   "-\xc3\xbc 1",
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        if (machine_option_parse(wrong[i], &error) != NULL) {
            fail_msg("accepted: %s", wrong[i]);
        }
        assert_non_null(strstr(error->message, "option that is none"));
    }
}

/* A stream with these texts, decoded. */
static StateStream *stream_of(const char *const *names, const char *const *texts, unsigned count,
                              GByteArray **bytes)
{
    g_autoptr(StateWriter) w = state_writer_new();
    for (unsigned i = 0; i < count; i++) {
        assert_true(state_writer_text(w, names[i], texts[i], NULL));
    }
    *bytes = state_writer_end(w, NULL);
    StateStream *s = state_stream_decode((*bytes)->data, (*bytes)->len, NULL);
    assert_non_null(s);
    return s;
}

static void a_missing_or_wrong_text_is_refused(void **state)
{
    static const char *const names[] = {"version", "option.000", "option.002"};
    static const char *const twice[] = {"version", "option.000", "option.001"};
    const char *texts[] = {"1", "-m 16", "-m 32"};
    g_autoptr(GByteArray) gap = NULL, good = NULL, bad = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(StateStream) with_gap = stream_of(names, texts, 3, &gap);
    assert_null(machine_options_read(with_gap, &error));
    assert_string_equal(error->message, "the saved machine has 2 options, but no text option.001");
    g_clear_error(&error);
    g_autoptr(StateStream) whole = stream_of(twice, texts, 3, &good);
    g_autoptr(GPtrArray) options = machine_options_read(whole, &error);
    assert_int_equal(options->len, 2);
    assert_string_equal(((ConfigOption *)options->pdata[1])->value, "32");
    texts[2] = "m 32";
    g_autoptr(StateStream) wrong = stream_of(twice, texts, 3, &bad);
    assert_null(machine_options_read(wrong, &error));
    assert_non_null(strstr(error->message, "'m 32'"));
}

static void a_thousand_options_fit_and_more_are_refused(void **state)
{
    g_autoptr(StateWriter) w = state_writer_new();
    g_autoptr(StateWriter) refused = state_writer_new();
    g_autoptr(GError) error = NULL;
    VmConfig config;
    vm_config_init(&config);
    for (unsigned i = 0; i < MACHINE_OPTIONS_MAX; i++) {
        vm_config_note_option(&config, "device", "virtio-rng-pci");
    }
    assert_true(machine_options_write(config.options, w, &error));
    g_autoptr(GByteArray) bytes = state_writer_end(w, &error);
    g_autoptr(StateStream) s = state_stream_decode(bytes->data, bytes->len, &error);
    assert_non_null(s);
    g_autoptr(GPtrArray) options = machine_options_read(s, &error);
    assert_int_equal(options->len, MACHINE_OPTIONS_MAX);
    vm_config_note_option(&config, "device", "virtio-rng-pci");
    assert_false(machine_options_write(config.options, refused, &error));
    assert_non_null(strstr(error->message, "1001 options"));
    vm_config_clear(&config);
}

/* ---- what the command line notes ---- */

static void the_command_line_notes_the_options_of_the_machine(void **state)
{
    char line[] = "skiff -M q35 -m 64 -qmp null --nographic -D /dev/null -pidfile p -device "
                  "virtio-rng-pci,id=r -S disk.img -timeout 5";
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    static const char *const expected[] = {
        "-machine q35", "-m 64", "-nographic", "-device virtio-rng-pci,id=r", "-hda disk.img",
    };
    VmConfig config;
    vm_config_init(&config);
    assert_int_equal(cmdline_parse(&config, (int)g_strv_length(words), words, NULL), CMDLINE_RUN);
    assert_int_equal(config.options->len, G_N_ELEMENTS(expected));
    for (unsigned i = 0; i < config.options->len; i++) {
        g_autofree char *text = machine_option_text(config.options->pdata[i]);
        assert_string_equal(text, expected[i]);
    }
    g_autofree char *directory = g_get_current_dir();
    assert_string_equal(config.directory, directory);
    vm_config_clear(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_texts_and_back),
        cmocka_unit_test(texts_that_are_no_options_are_refused),
        cmocka_unit_test(a_missing_or_wrong_text_is_refused),
        cmocka_unit_test(a_thousand_options_fit_and_more_are_refused),
        cmocka_unit_test(the_command_line_notes_the_options_of_the_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
