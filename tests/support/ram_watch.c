/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/ram_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct RamWatch {
    uint64_t size;
    uint8_t *device, *driver;
    int fd, uffd, quit_fd;
    pthread_t thread;
    _Atomic uint64_t *written; /* a bit for each page */
};

static bool protect(const RamWatch *w, uint64_t at, uint64_t size, bool on)
{
    struct uffdio_writeprotect wp = {.range = {.start = (uintptr_t)w->device + at, .len = size},
                                     .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
    /* not through the seam: a test's plan for ioctl() is not meant for this thread */
    return syscall(SYS_ioctl, w->uffd, UFFDIO_WRITEPROTECT, &wp) == 0;
}

static void *watch_run(void *opaque)
{
    RamWatch *w = opaque;
    for (;;) {
        struct pollfd fds[2] = {{.fd = w->uffd, .events = POLLIN},
                                {.fd = w->quit_fd, .events = POLLIN}};
        struct uffd_msg msg;
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            abort();
        }
        if (fds[1].revents) {
            return NULL;
        }
        if (read(w->uffd, &msg, sizeof(msg)) != sizeof(msg) || msg.event != UFFD_EVENT_PAGEFAULT) {
            continue;
        }
        uint64_t page = (msg.arg.pagefault.address - (uintptr_t)w->device) / GUEST_RAM_PAGE;
        atomic_fetch_or(&w->written[page / 64], UINT64_C(1) << (page % 64));
        g_assert(protect(w, page * GUEST_RAM_PAGE, GUEST_RAM_PAGE, false));
    }
}

#ifdef __SANITIZE_THREAD__
#define WATCH_POSSIBLE false
#else
#define WATCH_POSSIBLE true
#endif

static bool watch_start(RamWatch *w)
{
    struct uffdio_api api = {.api = UFFD_API,
                             .features =
                                 UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM};
    struct uffdio_register reg = {.range = {.start = (uintptr_t)w->device, .len = w->size},
                                  .mode = UFFDIO_REGISTER_MODE_WP};
    w->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (!WATCH_POSSIBLE || w->uffd < 0 || syscall(SYS_ioctl, w->uffd, UFFDIO_API, &api) != 0 ||
        syscall(SYS_ioctl, w->uffd, UFFDIO_REGISTER, &reg) != 0 || !protect(w, 0, w->size, true)) {
        return false;
    }
    w->quit_fd = eventfd(0, EFD_CLOEXEC);
    return w->quit_fd >= 0 && pthread_create(&w->thread, NULL, watch_run, w) == 0;
}

RamWatch *ram_watch_new(uint64_t size)
{
    RamWatch *w = g_new0(RamWatch, 1);
    int fd = memfd_create("ram-watch", MFD_CLOEXEC);
    g_assert(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    w->fd = fd;
    w->size = size;
    w->device = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    w->driver = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert(w->device != MAP_FAILED && w->driver != MAP_FAILED);
    w->written = g_malloc0(size / GUEST_RAM_PAGE / 8);
    if (!watch_start(w)) {
        munmap(w->driver, size);
        w->driver = w->device;
        if (w->uffd >= 0) {
            close(w->uffd);
        }
        w->uffd = -1;
    }
    return w;
}

void ram_watch_free(RamWatch *w)
{
    if (ram_watch_works(w)) {
        eventfd_write(w->quit_fd, 1);
        pthread_join(w->thread, NULL);
        close(w->quit_fd);
        close(w->uffd);
        munmap(w->driver, w->size);
    }
    munmap(w->device, w->size);
    close(w->fd);
    g_free((void *)(uintptr_t)w->written);
    g_free(w);
}

bool ram_watch_works(const RamWatch *w)
{
    return w->uffd >= 0;
}

uint8_t *ram_watch_device(const RamWatch *w)
{
    return w->device;
}

uint8_t *ram_watch_driver(const RamWatch *w)
{
    return w->driver;
}

int ram_watch_fd(const RamWatch *w)
{
    return w->fd;
}

uint64_t ram_watch_unmarked(RamWatch *w, const uint64_t *dirty)
{
    for (uint64_t word = 0; word < w->size / GUEST_RAM_PAGE / 64; word++) {
        uint64_t bits = atomic_load(&w->written[word]) & ~dirty[word];
        if (bits) {
            return word * 64 + (unsigned)__builtin_ctzll(bits);
        }
    }
    return UINT64_MAX;
}
