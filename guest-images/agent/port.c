/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the port: by its name in sysfs, without udev. */
#include "guest-images/agent/agent.h"

#define PORT_CLASS "/sys/class/virtio-ports"
#define PORT_PATH_MAX 320
#define PORT_LOOKS_PER_SECOND 20
#define PORT_HOST_SECONDS 10
#define PORT_MODE_CHAR_0600 (0020000 | 0600)

typedef struct PortEntry { /* struct linux_dirent64 */
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
} PortEntry;

/* Builds PREFIX "/" NAME SUFFIX; false when that is too long. */
static bool port_path(char *path, const char *prefix, const char *name, const char *suffix)
{
    const char *const parts[] = {prefix, "/", name, suffix};
    size_t at = 0;
    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        for (const char *c = parts[i]; *c != '\0'; c++) {
            if (at == PORT_PATH_MAX - 1) {
                return false;
            }
            path[at++] = *c;
        }
    }
    path[at] = '\0';
    return true;
}

/* Reads an attribute of port @name, without its newline. False: there is none. */
static bool port_attribute(const char *name, const char *attribute, char *text, size_t size)
{
    char path[PORT_PATH_MAX];
    if (!port_path(path, PORT_CLASS, name, attribute)) {
        return false;
    }
    int fd = sys_open(path, O_RDONLY);
    if (fd < 0) {
        return false;
    }
    long n = sys_read(fd, text, size - 1);
    sys_close(fd);
    if (n > 0 && text[n - 1] == '\n') {
        n--;
    }
    text[n < 0 ? 0 : n] = '\0';
    return n > 0;
}

/* Parses the number at *@at and moves *@at behind it. */
static unsigned port_number(const char **at)
{
    unsigned value = 0;
    while (**at >= '0' && **at <= '9') {
        value = value * 10 + (unsigned)(*(*at)++ - '0');
    }
    return value;
}

/* Makes the device node where /dev is not a devtmpfs. */
static void port_make_node(const char *name, const char *path)
{
    char text[32];
    const char *at = text;
    if (!port_attribute(name, "/dev", text, sizeof(text))) {
        return;
    }
    unsigned major = port_number(&at);
    at += *at == ':';
    unsigned minor = port_number(&at);
    unsigned device = (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
    sys_call(__NR_mknodat, AT_FDCWD, path, PORT_MODE_CHAR_0600, device);
}

static int port_open(const char *name)
{
    char path[PORT_PATH_MAX];
    if (!port_path(path, "/dev", name, "")) {
        return -1;
    }
    int fd = sys_open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd == -ENOENT) {
        port_make_node(name, path);
        fd = sys_open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    }
    if (fd < 0) {
        agent_fail(AGENT_FAILED, "cannot open ", path);
    }
    return fd;
}

/* Searches all ports once. -1: not found. */
static int port_look(void)
{
    _Alignas(PortEntry) char entries[4096];
    int found = -1;
    int dir = sys_open(PORT_CLASS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return -1;
    }
    long n;
    while (found < 0 && (n = sys_call(__NR_getdents64, dir, entries, sizeof(entries), 0)) > 0) {
        for (long at = 0; found < 0 && at < n;) {
            const PortEntry *entry = (const PortEntry *)(const void *)(entries + at);
            char name[64];
            at += entry->size;
            if (entry->name[0] != '.' && port_attribute(entry->name, "/name", name, sizeof(name)) &&
                text_equal(name, EXEC_PORT_NAME)) {
                found = port_open(entry->name);
            }
        }
    }
    sys_close(dir);
    return found;
}

static void port_pause(void)
{
    SysTime pause = {.nanoseconds = 1000000000 / PORT_LOOKS_PER_SECOND};
    sys_call(__NR_nanosleep, &pause, 0, 0, 0);
}

/* The driver gets the port's name shortly before the open of skiff's side. */
static void port_wait_for_host(int port)
{
    for (unsigned i = 0; i < PORT_HOST_SECONDS * PORT_LOOKS_PER_SECOND; i++) {
        SysPoll poll = {.fd = port};
        if (sys_poll(&poll, 1, 0) <= 0 || (poll.revents & SYS_POLLHUP) == 0) {
            return;
        }
        port_pause();
    }
}

int port_find(unsigned wait_seconds)
{
    int port = port_look();
    for (unsigned i = 0; port < 0 && i < wait_seconds * PORT_LOOKS_PER_SECOND; i++) {
        port_pause();
        port = port_look();
    }
    if (port >= 0) {
        port_wait_for_host(port);
    }
    return port;
}
