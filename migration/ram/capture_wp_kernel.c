/* SPDX-License-Identifier: Apache-2.0 */
/* What capture_wp needs of userfaultfd. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "migration/ram/capture.h"
#include "migration/ram/capture_wp_int.h"
#include "migration/ram/ram_image.h"

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13) /* Linux 6.4 */
#endif

/* A kernel without UFFD_FEATURE_WP_UNPOPULATED: so much private memory is populated, at most. */
#define WP_POPULATE_MAX (UINT64_C(64) << 20)

bool capture_wp_possible(const GuestRam *ram, GError **error)
{
    if (!capture_allowed(error)) {
        return false;
    }
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *b = &ram->blocks[i];
        if (b->of_file) {
            g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_MACHINE,
                        "no write protection of memory: '%s' is mapped from a state file", b->name);
            return false;
        }
        if (((uintptr_t)b->host | b->size) % GUEST_RAM_PAGE != 0) {
            g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_MACHINE,
                        "no write protection of memory: '%s' has no whole pages", b->name);
            return false;
        }
    }
    return true;
}

/* -1 and errno. */
static int wp_kernel_new(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == EPERM) {
        int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
        if (dev >= 0) {
            fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
            close(dev);
        } else {
            errno = EPERM;
        }
    }
    return fd;
}

/* Features can be asked for once in a descriptor's life. */
static int wp_kernel_try(uint64_t features)
{
    int fd = wp_kernel_new();
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) != 0) {
        int err = errno;
        close(fd);
        errno = err;
        return -1;
    }
    return fd;
}

bool wp_kernel_open(CaptureWp *c, GError **error)
{
    const uint64_t needed = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
    c->uffd = wp_kernel_try(needed | UFFD_FEATURE_WP_UNPOPULATED);
    c->unpopulated = c->uffd >= 0;
    if (c->uffd < 0 && errno == EINVAL) {
        c->uffd = wp_kernel_try(needed);
    }
    if (c->uffd >= 0) {
        return true;
    }
    g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_IO,
                "no write protection of memory: userfaultfd: %s%s", g_strerror(errno),
                errno == EPERM ? "; it needs CAP_SYS_PTRACE, or vm.unprivileged_userfaultfd=1, or "
                                 "access to /dev/userfaultfd"
                : errno == EINVAL ? "; it needs Linux 5.19"
                                  : "");
    return false;
}

/* Without the feature, a page that is not there would take no protection. */
static bool wp_kernel_populate(const GuestRam *ram, GError **error)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < ram->count; i++) {
        bytes += ram->blocks[i].fd < 0 ? ram->blocks[i].size : 0;
    }
    if (bytes > WP_POPULATE_MAX) {
        g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_IO,
                    "no write protection of memory: %" PRIu64
                    " MiB of it are private, which needs Linux 6.4",
                    bytes >> 20);
        return false;
    }
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *b = &ram->blocks[i];
        if (b->fd < 0 && madvise(b->host, b->size, MADV_POPULATE_READ) != 0) {
            g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_IO,
                        "no write protection of memory: '%s' cannot be populated: %s", b->name,
                        g_strerror(errno));
            return false;
        }
    }
    return true;
}

bool wp_kernel_register(CaptureWp *c, GError **error)
{
    const GuestRam *ram = c->config.ram;
    if (!c->unpopulated && !wp_kernel_populate(ram, error)) {
        return false;
    }
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *b = &ram->blocks[i];
        struct uffdio_register r = {.range = {.start = (uintptr_t)b->host, .len = b->size},
                                    .mode = UFFDIO_REGISTER_MODE_WP};
        if (ioctl(c->uffd, UFFDIO_REGISTER, &r) != 0 ||
            (r.ioctls & UINT64_C(1) << _UFFDIO_WRITEPROTECT) == 0) {
            g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_IO,
                        "no write protection of memory: '%s' cannot be registered: %s", b->name,
                        errno == EBUSY ? "another save has it" : g_strerror(errno));
            return false;
        }
    }
    return true;
}

int wp_kernel_watch_empty(const CaptureWp *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        const RamBlock *b = &c->config.ram->blocks[i];
        struct uffdio_register r = {.range = {.start = (uintptr_t)b->host, .len = b->size},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP};
        if (b->fd < 0 && ioctl(c->uffd, UFFDIO_REGISTER, &r) != 0) {
            return -errno;
        }
    }
    return 0;
}

int wp_kernel_fill(const CaptureWp *c, const WpBlock *b, uint32_t page)
{
    struct uffdio_zeropage z = {
        .range = {.start = (uintptr_t)b->host + (uint64_t)page * GUEST_RAM_PAGE,
                  .len = GUEST_RAM_PAGE}};
    while (ioctl(c->uffd, UFFDIO_ZEROPAGE, &z) != 0) {
        if (errno == ENOENT) {
            return 0; /* an old fault: the page was released, which wakes */
        }
        if (errno != EAGAIN && errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static int wp_kernel_set(const CaptureWp *c, const WpBlock *b, uint32_t first, uint32_t count,
                         uint64_t mode)
{
    struct uffdio_writeprotect w = {
        .range = {.start = (uintptr_t)b->host + (uint64_t)first * GUEST_RAM_PAGE,
                  .len = (uint64_t)count * GUEST_RAM_PAGE},
        .mode = mode};
    while (ioctl(c->uffd, UFFDIO_WRITEPROTECT, &w) != 0) {
        if (errno != EAGAIN && errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

int wp_kernel_protect(const CaptureWp *c, const WpBlock *b, uint32_t first, uint32_t count)
{
    return wp_kernel_set(c, b, first, count, UFFDIO_WRITEPROTECT_MODE_WP);
}

int wp_kernel_unprotect(const CaptureWp *c, const WpBlock *b, uint32_t first, uint32_t count)
{
    return wp_kernel_set(c, b, first, count, 0);
}

int wp_kernel_unregister(const CaptureWp *c, const WpBlock *b, uint32_t first, uint32_t count)
{
    struct uffdio_range r = {.start = (uintptr_t)b->host + (uint64_t)first * GUEST_RAM_PAGE,
                             .len = (uint64_t)count * GUEST_RAM_PAGE};
    return ioctl(c->uffd, UFFDIO_UNREGISTER, &r) == 0 ? 0 : -errno;
}

unsigned wp_kernel_faults(const CaptureWp *c, WpFault *faults, unsigned max)
{
    struct uffd_msg messages[32];
    unsigned count = 0;
    ssize_t got =
        read(c->uffd, messages, MIN(max, (unsigned)G_N_ELEMENTS(messages)) * sizeof(messages[0]));
    for (ssize_t i = 0; i < got / (ssize_t)sizeof(messages[0]); i++) {
        if (messages[i].event == UFFD_EVENT_PAGEFAULT) {
            faults[count++] =
                (WpFault){.address = messages[i].arg.pagefault.address,
                          .empty = (messages[i].arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) == 0};
        }
    }
    return count;
}
