/* SPDX-License-Identifier: Apache-2.0 */
/* Events of network back ends. tests/hw/net/test_net_stream.c tests when they come. */
#include <sys/socket.h>
#include <unistd.h>
#include "hw/net/net_stream.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"

static const NetType *const types[] = {&net_stream_type, NULL};

static void add(void *opaque)
{
    enter_main();
    enter_coroutine();
    g_autoptr(OptDict) opts = opt_dict_parse(opaque, "type", NULL);
    assert_true(net_co_add(opts, NULL));
}

static void remove_all(void *opaque)
{
    enter_main();
    enter_coroutine();
    net_co_shutdown();
}

static void a_connection_is_announced_with_its_address(void **state)
{
    QmpRig *rig = *state;
    int fds[2];
    enter_main();
    net_setup(types, rig->vm.ctx);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    g_autofree char *options = g_strdup_printf("stream,id=n,addr.type=fd,addr.str=%d", fds[0]);
    g_autofree char *wanted = g_strdup_printf(
        "NETDEV_STREAM_CONNECTED{\"netdev-id\":\"n\",\"addr\":{\"type\":\"fd\",\"str\":\"%d\"}}",
        fds[0]);
    co_start(rig->vm.ctx, add, options);
    rig_settle(rig);
    assert_string_equal(rig->events->str, wanted);
    co_start(rig->vm.ctx, remove_all, NULL);
    rig_settle(rig);
    close(fds[1]);
}

/* More than there may be at a time. */
static void an_announcement_that_is_replaced_does_not_count(void **state)
{
    QmpRig *rig = *state;
    enter_main();
    net_setup(types, rig->vm.ctx);
    aio_context_set_virtual_time(rig->vm.ctx, 0);
    for (unsigned i = 0; i < 40; i++) {
        qmp_returns(rig, "announce-self",
                    "{'initial':1000,'max':1000,'rounds':2,'step':0,'id':'a'}", "{}");
        rig_settle(rig);
    }
    aio_context_set_virtual_time(rig->vm.ctx, INT64_C(2000000000));
    rig_settle(rig);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        QMP_TEST(a_connection_is_announced_with_its_address),
        QMP_TEST(an_announcement_that_is_replaced_does_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
