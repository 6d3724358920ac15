/* SPDX-License-Identifier: Apache-2.0 */
/* TLS credentials: files that are missing or wrong, and the table of objects. Sessions are tested by
 * tests/block/nbd/test_nbd_tls and tests/img/test-skiff-img-serve.sh. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <glib/gstdio.h>
#include "util/tls_options.h"

static char *tls_dir;

static void tls_write(const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(tls_dir, name, NULL);
    assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void tls_remove(const char *name)
{
    g_autofree char *path = g_build_filename(tls_dir, name, NULL);
    g_unlink(path);
}

static int tls_setup(void **state)
{
    tls_dir = g_strdup("build/skiff-tls-XXXXXX");
    return g_mkdtemp(tls_dir) != NULL ? 0 : -1;
}

static int tls_teardown(void **state)
{
    static const char *const names[] = {"keys.psk", "ca-cert.pem", "server-cert.pem",
                                        "server-key.pem"};
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        tls_remove(names[i]);
    }
    g_rmdir(tls_dir);
    g_free(tls_dir);
    return 0;
}

static void tls_fails(TlsConfig config, const char *says)
{
    g_autoptr(GError) error = NULL;
    assert_null(tls_creds_new(&config, &error));
    assert_non_null(error);
    if (strstr(error->message, says) == NULL) {
        fail_msg("'%s' does not say '%s'", error->message, says);
    }
}

static TlsCreds *tls_loads(TlsConfig config)
{
    g_autoptr(GError) error = NULL;
    TlsCreds *c = tls_creds_new(&config, &error);
    if (c == NULL) {
        fail_msg("%s", error->message);
    }
    return c;
}

static void anonymous_credentials_need_no_files(void **state)
{
    tls_creds_unref(tls_loads((TlsConfig){.kind = TLS_ANON, .server = true}));
    tls_creds_unref(tls_loads((TlsConfig){.kind = TLS_ANON}));
    tls_creds_unref(NULL);
}

static void keys_are_found_by_their_user(void **state)
{
    TlsConfig server = {.kind = TLS_PSK, .server = true}, client = {.kind = TLS_PSK};
    tls_fails(server, "dir is missing");
    server.dir = client.dir = tls_dir;
    tls_fails(server, "Unable to access credentials");
    tls_write("keys.psk",
              "alice:00112233445566778899aabbccddeeff\nqemu:ffeeddccbbaa99887766554433221100\n");
    tls_creds_unref(tls_loads(server));
    tls_creds_unref(tls_loads(client)); /* qemu, the default */
    client.username = "alice";
    TlsCreds *c = tls_loads(client);
    assert_string_equal(tls_creds_config(c)->username, "alice");
    assert_string_equal(tls_creds_config(c)->dir, tls_dir);
    tls_creds_unref(c);
    client.username = "ali";
    tls_fails(client, "Username ali not found in");
    client.username = "alice";
    tls_write("keys.psk", "alice:no digits\n");
    tls_fails(client, "Cannot use the keys of");
}

static void certificates_that_are_missing_or_wrong_are_named(void **state)
{
    TlsConfig server = {.kind = TLS_X509, .server = true, .dir = tls_dir, .verify_peer = true};
    tls_fails(server, "/ca-cert.pem: No such file or directory");
    tls_write("ca-cert.pem", "");
    tls_fails(server, "Cannot load CA certificate");
    tls_write("ca-cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    tls_fails(server, "Cannot load CA certificate");
}

static void objects_are_found_until_they_are_removed(void **state)
{
    TlsCreds *c = tls_loads((TlsConfig){.kind = TLS_ANON});
    thread_adopt_role(THREAD_MAIN, "main");
    tls_objects_add("t0", c);
    tls_objects_add("t1", tls_loads((TlsConfig){.kind = TLS_ANON}));
    assert_ptr_equal(tls_objects_find("t0"), c);
    assert_null(tls_objects_find("t"));
    assert_true(tls_objects_remove("t0"));
    assert_null(tls_objects_find("t0"));
    assert_false(tls_objects_remove("t0"));
    assert_true(tls_objects_remove("t1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anonymous_credentials_need_no_files),
        cmocka_unit_test(keys_are_found_by_their_user),
        cmocka_unit_test(certificates_that_are_missing_or_wrong_are_named),
        cmocka_unit_test(objects_are_found_until_they_are_removed),
    };
    return cmocka_run_group_tests(tests, tls_setup, tls_teardown);
}
