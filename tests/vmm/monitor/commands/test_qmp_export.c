/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the NBD server and of block exports, by QMP and by the human monitor. */
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "block/nbd/nbd_protocol.h"
#include "block/node.h"
#include "tests/vmm/monitor/hmp/hmp_rig.h"
#include "vmm/backends/drive_options.h"

static char *export_socket;

static char *export_start_args(const char *more)
{
    return g_strdup_printf("{'addr':{'type':'unix','data':{'path':'%s'}}%s}", export_socket, more);
}

static void export_start(QmpRig *rig)
{
    export_socket = export_socket != NULL
                        ? export_socket
                        : g_strdup_printf("/tmp/skiff-nbd-test-%d", (int)getpid());
    g_autofree char *start = export_start_args("");
    g_free(qmp_ok(rig, "nbd-server-start", start));
    g_free(qmp_ok(rig, "blockdev-add",
                  "{'driver':'null-co','node-name':'n','size':1048576,'read-zeroes':true}"));
}

static void export_stop(QmpRig *rig)
{
    g_free(qmp_ok(rig, "nbd-server-stop", NULL));
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'n'}"));
    assert_int_not_equal(access(export_socket, F_OK), 0);
}

/* A client that stays connected to the export @name. */
static int export_connect(QmpRig *rig, const char *name)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    uint8_t bytes[256], reply[4096];
    g_strlcpy(un.sun_path, export_socket, sizeof(un.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&un, sizeof(un)), 0);
    uint8_t *p = nbd_put64(nbd_put32(bytes, 3), NBD_OPTION_MAGIC);
    p = nbd_put32(nbd_put32(p, NBD_OPT_EXPORT_NAME), (uint32_t)strlen(name));
    memcpy(p, name, strlen(name));
    assert_true(write(fd, bytes, (size_t)(p - bytes) + strlen(name)) > 0);
    for (ssize_t got = 0; got < NBD_GREETING_SIZE + 10;) {
        aio_context_step(rig->vm.ctx, false);
        ssize_t n = recv(fd, reply, sizeof(reply), MSG_DONTWAIT);
        got += n > 0 ? n : 0;
    }
    return fd;
}

static void export_await_event(QmpRig *rig, const char *event)
{
    while (strstr(rig->events->str, event) == NULL) {
        aio_context_step(rig->vm.ctx, true);
    }
}

static void exports_are_added_listed_and_removed(void **state)
{
    QmpRig *rig = *state;
    export_start(rig);
    qmp_returns(rig, "query-block-exports", NULL, "[]");
    g_free(qmp_ok(rig, "block-export-add",
                  "{'type':'nbd','id':'e0','node-name':'n','name':'disk','description':'text',"
                  "'writable':true,'writethrough':true,'allocation-depth':true}"));
    qmp_returns(rig, "query-block-exports", NULL,
                "[{\"id\":\"e0\",\"type\":\"nbd\",\"node-name\":\"n\",\"shutting-down\":false}]");
    qmp_fails(rig, "blockdev-del", "{'node-name':'n'}", "GenericError",
              "Node n is in use: export 'e0' uses it");
    int fd = export_connect(rig, "disk");
    qmp_fails(rig, "block-export-del", "{'id':'e0'}", "GenericError", "export 'e0' still in use");
    qmp_fails(rig, "nbd-server-remove", "{'name':'e0','mode':'safe'}", "GenericError",
              "export 'e0' still in use");
    g_free(qmp_ok(rig, "block-export-del", "{'id':'e0','mode':'hard'}"));
    export_await_event(rig, "BLOCK_EXPORT_DELETED{\"id\":\"e0\"}");
    close(fd);
    qmp_fails(rig, "block-export-del", "{'id':'e0'}", "GenericError", "Export 'e0' is not found");
    qmp_returns(rig, "query-block-exports", NULL, "[]");
    export_stop(rig);
}

static void a_node_moves_to_the_iothread_of_its_export_if_it_can(void **state)
{
    QmpRig *rig = *state;
    export_start(rig);
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'iothread','id':'io1'}"));
    g_free(qmp_ok(rig, "block-export-add",
                  "{'type':'nbd','id':'e0','node-name':'n','iothread':'io1'}"));
    assert_ptr_equal(block_node_home(block_node_find("n")),
                     iothread_context(backends_find_iothread(&rig->vm.backends, "io1")));
    g_free(qmp_ok(rig, "block-export-add", /* it stays */
                  "{'type':'nbd','id':'e1','node-name':'n','name':'x','iothread':'default'}"));
    qmp_fails(rig, "block-export-add",
              "{'type':'nbd','id':'e2','node-name':'n','name':'y','iothread':'default',"
              "'fixed-iothread':true}",
              "GenericError", "cannot move");
    qmp_fails(rig, "object-del", "{'id':'io1'}", "GenericError", "is in use");
    export_stop(rig);
    g_free(qmp_ok(rig, "object-del", "{'id':'io1'}"));
}

static void wrong_arguments_are_refused_in_qemus_words(void **state)
{
    QmpRig *rig = *state;
    qmp_fails(rig, "nbd-server-stop", NULL, "GenericError", "NBD server not running");
    qmp_fails(rig, "block-export-add", "{'type':'nbd','id':'e0','node-name':'none'}",
              "GenericError", "Cannot find device='' nor node-name='none'");
    export_start(rig);
    g_autofree char *again = export_start_args("");
    static const char *const cases[][3] = {
        {"block-export-add", "{'type':'nbd','id':'0x','node-name':'n'}", "Invalid block export id"},
        {"block-export-add", "{'type':'fuse','id':'e0','node-name':'n'}", "fuse"},
        {"block-export-add", "{'type':'nbd','id':'e0','node-name':'n','iothread':'none'}",
         "iothread \"none\" not found"},
        {"block-export-add", "{'type':'nbd','id':'e0','node-name':'n','bitmaps':['b']}",
         "Bitmap 'b' is not found"},
        {"block-export-add",
         "{'type':'nbd','id':'e0','node-name':'n','bitmaps':[{'node':'x','name':'b'}]}",
         "Node 'x' not found"},
        {"nbd-server-add", "{'device':'none'}", "Cannot find device='none' nor node-name='none'"},
        {"nbd-server-add", "{'device':'n','name':'1'}", "Invalid block export id"},
        {"nbd-server-remove", "{'name':'n'}", "Export 'n' is not found"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        qmp_fails(rig, cases[i][0], cases[i][1], "GenericError", cases[i][2]);
    }
    qmp_fails(rig, "nbd-server-start", again, "GenericError", "NBD server already running");
    export_stop(rig);
    g_autofree char *authz = export_start_args(",'tls-authz':'a'");
    qmp_fails(rig, "nbd-server-start", authz, "GenericError", "skiff has no authorization objects");
    g_autofree char *none = export_start_args(",'tls-creds':'none'");
    qmp_fails(rig, "nbd-server-start", none, "GenericError", "No TLS credentials with id 'none'");
}

static void the_node_of_a_bitmap_is_named_by_a_drive_too(void **state)
{
    QmpRig *rig = *state;
    export_start(rig);
    g_free(qmp_ok(rig, "block-dirty-bitmap-add", "{'node':'n','name':'b'}"));
    BlockEdge root = {.node = block_node_find("n")};
    BlockDrive drive = {.id = (char *)"d0", .root = &root};
    g_ptr_array_add(rig->vm.backends.drives, &drive);
    g_free(qmp_ok(rig, "block-export-add",
                  "{'type':'nbd','id':'e0','node-name':'n','writable':true,"
                  "'bitmaps':[{'node':'d0','name':'b'}]}"));
    g_ptr_array_remove(rig->vm.backends.drives, &drive);
    export_stop(rig);
}

static void a_read_only_disk_is_exported_read_only(void **state)
{
    QmpRig *rig = *state;
    export_start(rig);
    g_free(qmp_ok(rig, "blockdev-reopen",
                  "{'options':[{'driver':'null-co','node-name':'n','size':1048576,"
                  "'read-zeroes':true,'read-only':true}]}"));
    qmp_fails(rig, "block-export-add", "{'type':'nbd','id':'e0','node-name':'n','writable':true}",
              "GenericError", "Cannot export read-only node as writable");
    g_free(qmp_ok(rig, "nbd-server-add", "{'device':'n','writable':true}"));
    qmp_returns(rig, "query-block-exports", NULL, "\"id\":\"n\"");
    export_stop(rig);
}

static void tls_credentials_are_objects(void **state)
{
    QmpRig *rig = *state;
    g_free(
        qmp_ok(rig, "object-add", "{'qom-type':'tls-creds-anon','id':'t0','endpoint':'server'}"));
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'tls-creds-anon','id':'t1'}"));
    qmp_fails(rig, "object-add", "{'qom-type':'tls-creds-anon','id':'t0'}", "GenericError",
              "taken");
    qmp_fails(rig, "object-add", "{'qom-type':'tls-creds-psk','id':'t2','endpoint':'server'}",
              "GenericError", "dir is missing");
    qmp_fails(rig, "object-add",
              "{'qom-type':'tls-creds-x509','id':'t2','endpoint':'server','dir':'/nowhere'}",
              "GenericError", "/nowhere/ca-cert.pem");
    qmp_fails(rig, "object-add", "{'qom-type':'tls-creds-x509','id':'t2','endpoint':'peer'}",
              "GenericError", "neither client nor server");
    export_start(rig);
    g_free(qmp_ok(rig, "nbd-server-stop", NULL));
    g_autofree char *client = export_start_args(",'tls-creds':'t1'");
    qmp_fails(rig, "nbd-server-start", client, "GenericError",
              "Expecting TLS credentials with a server endpoint");
    g_autofree char *server = export_start_args(",'tls-creds':'t0'");
    g_free(qmp_ok(rig, "nbd-server-start", server));
    g_free(qmp_ok(rig, "object-del", "{'id':'t0'}")); /* the server keeps what it uses */
    g_free(qmp_ok(rig, "object-del", "{'id':'t1'}"));
    export_stop(rig);
}

static void the_human_monitor_has_the_server(void **state)
{
    QmpRig *rig = *state;
    export_start(rig);
    g_free(qmp_ok(rig, "nbd-server-stop", NULL));
    g_autofree char *start = g_strdup_printf("nbd_server_start unix:%s", export_socket);
    g_autofree char *wrong = g_strdup_printf("nbd_server_start -w unix:%s", export_socket);
    assert_prints(rig, wrong, "Error: -w only valid together with -a\n");
    assert_prints(rig, "nbd_server_start nothing", "Error: error parsing address 'nothing'\n");
    assert_prints(rig, start, "");
    assert_prints(rig, "nbd_server_add -w n disk", "");
    assert_prints(rig, "nbd_server_add n disk",
                  "Error: Block export id 'disk' is already in use\n");
    int fd = export_connect(rig, "disk");
    assert_prints(rig, "nbd_server_remove disk", "Error: export 'disk' still in use\n");
    assert_prints(rig, "nbd_server_remove -f disk", "");
    export_await_event(rig, "BLOCK_EXPORT_DELETED");
    close(fd);
    assert_prints(rig, "nbd_server_stop", "");
    assert_prints(rig, "nbd_server_stop", "Error: NBD server not running\n");
    assert_prints(rig, "nbd_server_start -a [::1]:0", "");
    assert_prints(rig, "nbd_server_stop", "");
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'n'}"));
}

/* The end of the VM disconnects clients. */
static void quitting_does_not_wait_for_clients(void **state)
{
    QmpRig *rig = *state;
    export_start(rig);
    g_free(qmp_ok(rig, "block-export-add",
                  "{'type':'nbd','id':'e0','node-name':'n','writable':true,'name':'disk'}"));
    int fd = export_connect(rig, "disk");
    uint8_t byte;
    vm_quit(&rig->vm, EXIT_STATUS_OK);
    aio_context_run(rig->vm.ctx);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
    assert_int_not_equal(access(export_socket, F_OK), 0);
    rig->vm.life.quitting = false;
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'n'}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HMP_TEST(exports_are_added_listed_and_removed),
        HMP_TEST(a_node_moves_to_the_iothread_of_its_export_if_it_can),
        HMP_TEST(wrong_arguments_are_refused_in_qemus_words),
        HMP_TEST(the_node_of_a_bitmap_is_named_by_a_drive_too),
        HMP_TEST(a_read_only_disk_is_exported_read_only),
        HMP_TEST(tls_credentials_are_objects),
        HMP_TEST(the_human_monitor_has_the_server),
        HMP_TEST(quitting_does_not_wait_for_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
