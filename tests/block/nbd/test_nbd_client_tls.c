/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD client with TLS, against nbdkit, with keys and certificates that the test makes. */
#include "tests/block/block_test.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <libnbd.h>
#include "block/drivers.h"
#include "util/tls_options.h"

static char *dir;
static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *command = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_autofree char *line =
        g_strdup_printf("set -e; umask 077; mkdir -p '%s'; cd '%s'; %s", dir, dir, command);
    const char *argv[] = {"bash", "-c", line, NULL};
    int status;
    assert_true(g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
                             NULL, NULL, &status, NULL));
    if (status != 0) {
        fail_msg("failed: %s", command);
    }
}

/* Keys of alice and of mallory; two authorities, one with a certificate of "localhost" for the server. */
static int make_credentials(void **state)
{
    dir = g_strdup_printf("/tmp/skiff-tls-%d", (int)getpid());
    shell("mkdir psk other ca x509 wrong; echo alice:%064x >psk/keys.psk; echo alice:%064x "
          ">other/keys.psk; cp psk/keys.psk server.psk",
          0xa11ce, 0xbad);
    shell("for ca in x509 wrong; do certtool --generate-privkey --key-type=ed25519 --outfile "
          "$ca.key; "
          "printf 'cn=%%s\\nca\\ncert_signing_key\\n' $ca >t; certtool --generate-self-signed "
          "--load-privkey $ca.key --template t --outfile $ca/ca-cert.pem; done 2>log");
    shell(
        "certtool --generate-privkey --key-type=ed25519 --outfile ca/server-key.pem 2>log; printf "
        "'cn=server\\ndns_name=localhost\\ntls_www_server\\nsigning_key\\n' >t; certtool "
        "--generate-certificate --load-ca-certificate x509/ca-cert.pem --load-ca-privkey "
        "x509.key --load-privkey ca/server-key.pem --template t --outfile ca/server-cert.pem "
        "2>log; cp x509/ca-cert.pem ca/ca-cert.pem");
    int ret = block_test_setup(state);
    return ret;
}

static int remove_credentials(void **state)
{
    shell("rm -rf '%s'", dir);
    rmdir(dir);
    return block_test_teardown(state);
}

/* ---- the server ---- */

static GPid server;
static unsigned port;

/* A port that nobody listens on. */
static unsigned free_port(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &length), 0);
    close(fd);
    return ntohs(in.sin_port);
}

/* nbdkit on a UNIX socket or a port. */
static void server_start(const char *tls, bool tcp)
{
    port = tcp ? free_port() : 0;
    g_autofree char *address = tcp ? g_strdup_printf("-p %u", port) : g_strdup("-U socket");
    g_autofree char *line =
        g_strdup_printf("cd '%s'; exec nbdkit -f --exit-with-parent %s -P pid %s %s "
                        "memory 1M",
                        dir, tcp ? "-i localhost" : "", address, tls);
    shell("rm -f pid socket");
    const char *argv[] = {"bash", "-c", line, NULL};
    g_autofree char *pid = g_strdup_printf("%s/pid", dir);
    assert_true(g_spawn_async(NULL, (char **)(uintptr_t)argv, NULL,
                              G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
                                  G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
                              NULL, NULL, &server, NULL));
    while (access(pid, F_OK) != 0) { /* written when it listens */
        int status;
        assert_int_equal(waitpid(server, &status, WNOHANG), 0);
        g_usleep(2000);
    }
}

static void server_stop(void)
{
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
}

/* Makes the credentials that the id "t" means. */
static void use_creds(TlsKind kind, const char *folder, bool verify)
{
    enter_main();
    g_autofree char *path = g_strdup_printf("%s/%s", dir, folder);
    TlsConfig config = {.kind = kind,
                        .dir = kind == TLS_ANON ? NULL : path,
                        .verify_peer = verify,
                        .username = kind == TLS_PSK ? "alice" : NULL};
    g_autoptr(GError) error = NULL;
    TlsCreds *creds = tls_creds_new(&config, &error);
    if (creds == NULL) {
        fail_msg("%s", error->message);
    }
    tls_objects_add("t", creds);
}

static void drop_creds(void)
{
    enter_main();
    tls_objects_remove("t");
}

static char *unix_options(const char *more)
{
    return g_strdup_printf("nbd,server.type=unix,server.path=%s/socket,%s", dir, more);
}

static char *tcp_options(const char *host, const char *more)
{
    return g_strdup_printf("nbd,server.type=inet,server.host=%s,server.port=%u,%s", host, port,
                           more);
}

/* ---- tests ---- */

enum { REQUESTS = 64, SIZE = 12 * 1024 };

/* Many requests at once: records of TLS hold several replies and parts of them. */
static coroutine_fn RUNS_IN_MAIN void check_data(const char *options)
{
    static uint8_t written[REQUESTS][SIZE], got[REQUESTS][SIZE];
    static TestRequest r[REQUESTS];
    BlockBackend *blk = test_blk("disk", options, true);
    test_fill(written, sizeof(written), 7);
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < REQUESTS; i++) {
            r[i] = (TestRequest){.blk = blk,
                                 .op = pass == 0 ? TEST_WRITE : TEST_READ,
                                 .offset = (uint64_t)i * SIZE,
                                 .bytes = SIZE,
                                 .buf = pass == 0 ? written[i] : got[i]};
            test_start(&r[i]);
        }
        for (unsigned i = 0; i < REQUESTS; i++) {
            assert_int_equal(test_finish(&r[i]), 0);
        }
    }
    assert_memory_equal(written, got, sizeof(got));
    blk_co_free(blk);
}

BLOCK_TEST(a_key_opens_the_export)
{
    server_start("--tls=require --tls-psk=server.psk", false);
    use_creds(TLS_PSK, "psk", false);
    g_autofree char *options = unix_options("tls-creds=t,multi-conn=4");
    check_data(options);
    drop_creds();
    server_stop();
}

BLOCK_TEST(a_wrong_key_or_none_does_not)
{
    server_start("--tls=require --tls-psk=server.psk", false);
    use_creds(TLS_PSK, "other", false);
    g_autofree char *options = unix_options("tls-creds=t"), *plain = unix_options("");
    test_open_fails(options, "NBD server");
    test_open_fails(plain, "NBD server");
    drop_creds();
    server_stop();
}

BLOCK_TEST(a_server_without_tls_is_refused)
{
    server_start("", false);
    use_creds(TLS_PSK, "psk", false);
    g_autofree char *options = unix_options("tls-creds=t");
    test_open_fails(options, "TLS");
    drop_creds();
    server_stop();
}

BLOCK_TEST(a_certificate_is_checked_against_the_name_of_the_server)
{
    server_start("--tls=require --tls-certificates=ca", true);
    g_autofree char *right = tcp_options("localhost", "tls-creds=t");
    g_autofree char *wrong = tcp_options("127.0.0.1", "tls-creds=t");
    use_creds(TLS_X509, "x509", true);
    check_data(right);
    test_open_fails(wrong, "ertificate");
    drop_creds();
    use_creds(TLS_X509, "wrong", true);
    test_open_fails(right, "ertificate");
    drop_creds();
    use_creds(TLS_X509, "wrong", false); /* not checked at all */
    check_data(wrong);
    drop_creds();
    server_stop();
}

BLOCK_TEST(credentials_that_do_not_suit_are_refused_in_words)
{
    g_autofree char *none = unix_options("tls-creds=x"), *alone = unix_options("tls-hostname=x");
    g_autofree char *anon = unix_options("tls-creds=t");
    port = 1;
    g_autofree char *other = tcp_options("localhost", "tls-creds=t,tls-hostname=elsewhere");
    test_open_fails(none, "No TLS credentials with id 'x'");
    test_open_fails(alone, "tls-hostname needs tls-creds");
    use_creds(TLS_ANON, "", false);
    test_open_fails(anon, "tls-creds-psk, tls-creds-x509");
    drop_creds();
    use_creds(TLS_X509, "x509", true);
    test_open_fails(anon, "verify-peer=off");
#ifndef LIBNBD_HAVE_NBD_SET_TLS_HOSTNAME
    test_open_fails(other, "tls-hostname=elsewhere");
#endif
    drop_creds();
}

int main(void)
{
    static const char *const programs[] = {"nbdkit", "certtool", NULL};
    for (const char *const *p = programs; *p != NULL; p++) {
        g_autofree char *path = g_find_program_in_path(*p);
        if (path == NULL) {
            printf("1..0\n%s is not installed\n", *p);
            return 77;
        }
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_opens_the_export),
        cmocka_unit_test(a_wrong_key_or_none_does_not),
        cmocka_unit_test(a_server_without_tls_is_refused),
        cmocka_unit_test(a_certificate_is_checked_against_the_name_of_the_server),
        cmocka_unit_test(credentials_that_do_not_suit_are_refused_in_words),
    };
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    block_setup(block_drivers);
    return cmocka_run_group_tests(tests, make_credentials, remove_credentials);
}
