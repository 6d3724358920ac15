/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev user: its options, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include "hw/net/net_user.h"
#include "tests/support/net_rig.h"

static const NetType *const types[] = {&net_user_type, NULL};

typedef struct Fixture {
    NetRig *rig;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->rig = net_rig_new(types);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    net_rig_free(f->rig);
    g_free(f);
    return 0;
}

static void options_are_checked(void **state)
{
    Fixture *f = *state;
    static const char *const wrong[][2] = {
        {"net=x", "net=x: is no IPv4 address"},
        {"net=10.0.0.0/31", "4 to 30 bits"},
        {"net=10.0.0.0/255.0.255.0", "4 to 30 bits"},
        {"net=10.1.0.0/16,host=10.2.0.1", "host=10.2.0.1: is not in the network"},
        {"dns=1.2.3.4", "dns=1.2.3.4: is not in the network"},
        {"dns=10.0.2.2", "must be different"},
        {"dhcpstart=10.0.2.2", "dhcpstart= must be another address"},
        {"ipv4=off,ipv6=off", "both off"},
        {"ipv4=maybe", "ipv4="},
        {"ipv6-net=fec0::/127", "1 to 126 bits"},
        {"ipv6-net=10.0.0.0", "is no IPv6 address"},
        {"ipv6-host=fec1::1", "is not in the network of ipv6-net="},
        {"ipv6-net=fec0::/64,ipv6-prefix=fec0::", "excludes"},
        {"smb=/tmp", "-virtiofs"},
        {"hostfwd=tcp::1", "Invalid host forwarding rule"},
        {"guestfwd=tcp:10.0.2.100:80-tcp:1.2.3.4:80", "-cmd:COMMAND"},
        {"guestfwd=tcp:10.0.2.2:80-cmd:true", "unused address"},
        {"hostname=a23456789012345678901234567890123456789", "is too long"},
        {"vlan=1", "vlan"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree char *options = g_strconcat("user,id=n,", wrong[i][0], NULL);
        net_rig_refused(f->rig, options, wrong[i][1]);
    }
    net_rig_add(f->rig,
                "user,id=n,net=172.16.5.0,ipv6=on,ipv4=on,dnssearch=a.example,dnssearch=b.example");
}

static void defaults_are_those_of_qemu(void **state)
{
    static const struct {
        const char *net;
        uint32_t network, mask;
    } nets[] = {
        {NULL, 0x0a000200, 0xffffff00},         {"10.0.2.0", 0x0a000000, 0xff000000},
        {"172.20.1.0", 0xac100000, 0xfff00000}, {"192.168.5.9", 0xc0a80000, 0xffff0000},
        {"193.1.2.0", 0xc1010200, 0xffffff00},  {"10.9.0.0/255.255.0.0", 0x0a090000, 0xffff0000},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(nets); i++) {
        NetUserOptions o = {.net = (char *)(uintptr_t)nets[i].net};
        SlirpConfig c;
        assert_true(net_user_make_config(&o, &c, NULL));
        assert_int_equal(ntohl(c.vnetwork.s_addr), nets[i].network);
        assert_int_equal(ntohl(c.vnetmask.s_addr), nets[i].mask);
        assert_int_equal(ntohl(c.vhost.s_addr) & ~nets[i].mask, 0x0202 & ~nets[i].mask);
        assert_true(c.in_enabled && c.in6_enabled);
        assert_int_equal(c.vprefix_len, 64);
        assert_int_equal(c.vhost6.s6_addr[15], 2);
    }
    NetUserOptions only6 = {.ipv6 = (char *)(uintptr_t) "on"};
    SlirpConfig c;
    assert_true(net_user_make_config(&only6, &c, NULL));
    assert_false(c.in_enabled);
}

static void commands_can_be_forbidden(void **state)
{
    Fixture *f = *state;
    enter_main();
    net_rig_add(f->rig, "user,id=n,guestfwd=tcp:10.0.2.100:80-cmd:true");
    net_rig_remove(f->rig, "n");
    net_user_forbid_commands();
    net_rig_refused(f->rig, "user,id=n,guestfwd=tcp:10.0.2.100:80-cmd:true", "-sandbox on");
    net_rig_add(f->rig, "user,id=n,guestfwd=tcp:10.0.2.100:80-unix:/tmp/socket");
}

/* A network that reads files, which may block, is in no NIC's home. */
static void a_nic_is_served_near_its_network_unless_that_reads_files(void **state)
{
    Fixture *f = *state;
    enter_main();
    net_rig_add(f->rig, "user,id=n");
    net_rig_add(f->rig, "user,id=files,tftp=/tmp");
    assert_non_null(net_find("n")->nic_thread);
    assert_null(net_find("files")->nic_thread);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(options_are_checked),
        T(defaults_are_those_of_qemu),
        T(a_nic_is_served_near_its_network_unless_that_reads_files),
        T(commands_can_be_forbidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
