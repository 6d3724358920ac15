/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/vhost/vhost_log.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOG_WORD_BITS 64u

static GuestRam *log_ram;  /* NULL: no back end is attached */
static VhostDev *log_devs; /* those attached */
static VhostLog log_area = {.fd = -1};
static bool log_kept; /* a back end was lost, and may have the bitmap */

/* ---- the bitmap ---- */

static bool log_allocate(GError **error)
{
    VhostMemory memory;
    if (log_area.bitmap != NULL) {
        return true;
    }
    if (!vhost_memory_build(log_ram, GUEST_RAM_MAX_BLOCKS, false, &memory, error)) {
        return false;
    }
    uint64_t pages = vhost_memory_end(&memory) / GUEST_RAM_PAGE + 1;
    uint64_t bytes = (pages + LOG_WORD_BITS - 1) / LOG_WORD_BITS * sizeof(uint64_t);
    int fd = memfd_create("vhost-log", MFD_CLOEXEC);
    void *at = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0) {
        at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (at == MAP_FAILED) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "no memory for the log of vhost: %s", g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    log_area = (VhostLog){.bitmap = at, .bytes = bytes, .fd = fd};
    return true;
}

static void log_free(void)
{
    if (log_area.bitmap != NULL && !log_kept) {
        munmap(log_area.bitmap, log_area.bytes);
        close(log_area.fd);
    }
    log_area = (VhostLog){.fd = -1};
    log_kept = false;
}

/* Takes the bits and marks their pages. The exchange orders the bits before the pages that are read. */
static void log_sync(void *opaque, const GuestRam *ram)
{
    _Atomic uint64_t *bitmap = (_Atomic uint64_t *)log_area.bitmap;
    for (uint64_t word = 0; word * sizeof(uint64_t) < log_area.bytes; word++) {
        if (atomic_load_explicit(&bitmap[word], memory_order_relaxed) == 0) {
            continue;
        }
        uint64_t bits = atomic_exchange(&bitmap[word], 0);
        guest_ram_mark_bitmap(ram, word * LOG_WORD_BITS * GUEST_RAM_PAGE, &bits, LOG_WORD_BITS);
    }
}

/* ---- start and stop ---- */

/* A back end that does not log to @log yet, or NULL. */
static VhostDev *log_find_other(const VhostLog *log)
{
    VhostDev *dev = log_devs;
    while (dev != NULL && dev->log == log) {
        dev = dev->log_next;
    }
    return dev;
}

static void log_co_stop(void *opaque)
{
    VhostDev *dev;
    enter_main();
    enter_coroutine();
    while ((dev = log_find_other(NULL)) != NULL) { /* back ends may come and go meanwhile */
        g_autoptr(GError) error = NULL;
        if (!vhost_co_set_log(dev, NULL, &error)) {
            vhost_lost(dev, error->message); /* else it would log for ever */
        }
    }
}

static bool log_co_start(void *opaque, GError **error)
{
    VhostDev *dev;
    enter_main();
    enter_coroutine();
    for (dev = log_devs; dev != NULL; dev = dev->log_next) {
        if (dev->log_lacks != NULL) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSYS, "%s: %s", dev->name,
                        dev->log_lacks);
            return false;
        }
    }
    if (!log_allocate(error)) {
        return false;
    }
    while ((dev = log_find_other(&log_area)) != NULL) {
        if (!vhost_co_set_log(dev, &log_area, error)) {
            log_co_stop(opaque);
            return false;
        }
    }
    return true;
}

static GuestRamLogger logger = {.co_start = log_co_start, .co_stop = log_co_stop, .sync = log_sync};

/* ---- back ends ---- */

void vhost_log_attach(VhostDev *dev, GuestRam *ram)
{
    g_assert(log_ram == NULL || log_ram == ram);
    if (log_ram == NULL) {
        log_ram = ram;
        logger.on = false;
        guest_ram_add_logger(ram, &logger);
    }
    dev->log = logger.on ? &log_area : NULL;
    dev->log_next = log_devs;
    log_devs = dev;
}

void vhost_log_detach(VhostDev *dev)
{
    VhostDev **at = &log_devs;
    while (*at != dev) {
        at = &(*at)->log_next;
    }
    *at = dev->log_next;
    log_kept |= log_area.bitmap != NULL && dev->losses != 0;
    if (log_devs != NULL) {
        return;
    }
    if (logger.on) {
        log_sync(NULL, log_ram);
    }
    guest_ram_remove_logger(log_ram, &logger);
    log_free();
    log_ram = NULL;
}
