/* SPDX-License-Identifier: Apache-2.0 */
/*
 * skiff-agent: runs the command of `skiff -exec` in the guest. See docs/exec.md.
 *
 *   skiff-agent [--wait SECONDS] [--poweroff] [--fd N]
 *
 * Status 0: the command was run, with any result. Status 3: there is no port. As process 1
 * (rdinit=/skiff-agent) it mounts /proc, /sys and /dev, waits for the port, and powers off.
 */
#include "guest-images/agent/agent.h"

#define REBOOT_MAGIC1 0xfee1dead
#define REBOOT_MAGIC2 0x28121969
#define REBOOT_POWER_OFF 0x4321fedc
#define MAIN_WAIT_AS_INIT_SECONDS 60

_Noreturn void agent_main(long count, char **arguments, char **environment);

typedef struct MainOptions {
    unsigned wait_seconds;
    bool power_off;
    int fd; /* -1: find the port */
} MainOptions;

static _Noreturn void main_usage(const char *what)
{
    agent_fail(AGENT_USAGE, what, " is wrong; options are --wait SECONDS, --poweroff, --fd N");
}

static unsigned main_number(const char *text)
{
    unsigned value = 0;
    if (text == NULL || *text == '\0') {
        main_usage("a number");
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || value > 100000) {
            main_usage("a number");
        }
        value = value * 10 + (unsigned)(*text - '0');
    }
    return value;
}

static void main_parse(MainOptions *options, long count, char **arguments)
{
    for (long i = 1; i < count; i++) {
        if (text_equal(arguments[i], "--wait")) {
            options->wait_seconds = main_number(arguments[++i]);
        } else if (text_equal(arguments[i], "--fd")) {
            options->fd = (int)main_number(arguments[++i]);
        } else if (text_equal(arguments[i], "--poweroff")) {
            options->power_off = true;
        } else {
            main_usage(arguments[i]);
        }
    }
}

static void main_mount(const char *type, const char *where)
{
    sys_call(__NR_mkdirat, AT_FDCWD, where, 0755, 0);
    sys_call6(__NR_mount, (long)type, (long)where, (long)type, 0, 0, 0);
}

static _Noreturn void main_power_off(void)
{
    sys_call(__NR_sync, 0, 0, 0, 0);
    sys_call(__NR_reboot, REBOOT_MAGIC1, REBOOT_MAGIC2, REBOOT_POWER_OFF, 0);
    sys_exit(AGENT_FAILED);
}

_Noreturn void agent_main(long count, char **arguments, char **environment)
{
    MainOptions options = {.fd = -1};
    bool is_init = sys_call(__NR_getpid, 0, 0, 0, 0) == 1;
    main_parse(&options, is_init ? 1 : count, arguments); /* init's are the kernel's own */
    if (is_init) {
        main_mount("devtmpfs", "/dev");
        main_mount("proc", "/proc");
        main_mount("sysfs", "/sys");
        options.wait_seconds = MAIN_WAIT_AS_INIT_SECONDS;
        options.power_off = true;
    }
    int port = options.fd >= 0 ? options.fd : port_find(options.wait_seconds);
    if (port < 0) {
        agent_fail(AGENT_NO_PORT, "there is no port ", EXEC_PORT_NAME);
    }
    sys_fcntl(port, F_SETFL, O_RDWR | O_NONBLOCK);
    sys_fcntl(port, F_SETFD, FD_CLOEXEC);
    agent_serve(port, options.power_off, environment);
    if (options.power_off) {
        main_power_off();
    }
    sys_exit(AGENT_SERVED);
}
