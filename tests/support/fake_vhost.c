/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/fake_vhost.h"

#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FAKE_RING_SIZE 1024u
#define FAKE_BIT(number) (1ull << (number))

/* ---- instances ---- */

static FakeVhostInstance *fake_find(FakeVhost *f, int fd)
{
    for (unsigned i = 0; i < f->count; i++) {
        if (f->instances[i].open && f->instances[i].fd == fd) {
            return &f->instances[i];
        }
    }
    return NULL;
}

static int fake_open(void *arg)
{
    FakeVhost *f = arg;
    int fd = eventfd(0, EFD_CLOEXEC);
    g_assert(fd >= 0);
    pthread_mutex_lock(&f->lock);
    g_assert(f->count < FAKE_VHOST_INSTANCES);
    atomic_store(&f->fds[f->count], fd);
    FakeVhostInstance *n = &f->instances[f->count++];
    *n = (FakeVhostInstance){.open = true, .fd = fd};
    for (unsigned i = 0; i < FAKE_VHOST_VRINGS; i++) {
        n->vrings[i] = (FakeVring){.kick_fd = -1, .call_fd = -1, .err_fd = -1, .backend = -1};
        n->vrings[i].vq = virtqueue_new(FAKE_RING_SIZE, sizeof(VirtQueueElement));
    }
    pthread_mutex_unlock(&f->lock);
    return fd;
}

int fake_vhost_open(FakeVhost *f)
{
    return fake_open(f);
}

/* Without the lock: the thread of ram_watch.c makes ioctls while the fake writes guest memory. */
static bool fake_owns(void *arg, int fd)
{
    FakeVhost *f = arg;
    bool owns = false;
    for (unsigned i = 0; i < FAKE_VHOST_INSTANCES; i++) {
        owns |= atomic_load(&f->fds[i]) == fd;
    }
    return owns;
}

static void fake_close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

static void fake_disconnect(FakeVring *v)
{
    VirtQueuePosition position;
    if (v->connected) {
        virtqueue_stop(v->vq, &position);
        v->base = position.last_avail;
    }
    v->connected = false;
}

static void fake_close(void *arg, int fd)
{
    FakeVhost *f = arg;
    int fds[3 * FAKE_VHOST_VRINGS];
    unsigned count = 0;
    pthread_mutex_lock(&f->lock);
    FakeVhostInstance *n = fake_find(f, fd);
    for (unsigned i = 0; i < FAKE_VHOST_VRINGS; i++) {
        FakeVring *v = &n->vrings[i];
        fake_disconnect(v);
        virtqueue_free(v->vq);
        v->vq = NULL;
        fds[count++] = v->kick_fd;
        fds[count++] = v->call_fd;
        fds[count++] = v->err_fd;
    }
    n->open = false;
    atomic_store(&f->fds[n - f->instances], -1);
    pthread_mutex_unlock(&f->lock);
    for (unsigned i = 0; i < count; i++) {
        fake_close_fd(&fds[i]);
    }
}

/* ---- ioctls ---- */

/* [address, +size) is in the memory table, which is the machine's RAM; its guest-physical address. */
static bool fake_gpa(const FakeVhost *f, uint64_t address, uint64_t size, uint64_t *gpa)
{
    for (unsigned i = 0; i < f->ram->count; i++) {
        const RamBlock *b = &f->ram->blocks[i];
        uint64_t host = (uintptr_t)b->host;
        if (address >= host && address - host < b->size && size <= b->size - (address - host)) {
            *gpa = b->gpa + (address - host);
            return true;
        }
    }
    return false;
}

static int fake_connect(FakeVhost *f, FakeVhostInstance *n, FakeVring *v)
{
    VirtQueueSetup setup = {.size = (uint16_t)v->num,
                            .event_idx = (n->features & FAKE_BIT(VIRTIO_RING_F_EVENT_IDX)) != 0,
                            .indirect = (n->features & FAKE_BIT(VIRTIO_RING_F_INDIRECT_DESC)) != 0};
    eventfd_t ignored;
    if (v->connected) {
        return 0;
    }
    if (!n->table || !v->addressed || v->num == 0 ||
        !fake_gpa(f, v->desc, 16ull * v->num, &setup.desc_gpa) ||
        !fake_gpa(f, v->avail, 6 + 2ull * v->num, &setup.avail_gpa) ||
        !fake_gpa(f, v->used, 6 + 8ull * v->num, &setup.used_gpa)) {
        return -EFAULT;
    }
    const _Atomic uint16_t *used = guest_ram_map(f->ram, setup.used_gpa, 4, false); /* flags, idx */
    VirtQueuePosition from = {.last_avail = (uint16_t)v->base, .used = atomic_load(&used[1])};
    if (v->kick_fd >= 0) {
        (void)eventfd_read(v->kick_fd, &ignored); /* the kernel has ignored it before */
    }
    v->connected = true;
    n->view = *f->ram;
    atomic_store(&n->view.logging, false);
    v->used_gpa = setup.used_gpa;
    virtqueue_start(v->vq, &n->view, &setup, &from);
    return 0;
}

static int fake_set_running(FakeVhost *f, FakeVhostInstance *n, bool on)
{
    for (unsigned i = 0; i < FAKE_VHOST_VRINGS; i++) {
        if (!on) {
            fake_disconnect(&n->vrings[i]);
            continue;
        }
        int result = fake_connect(f, n, &n->vrings[i]);
        if (result != 0) {
            fake_set_running(f, n, false);
            return result;
        }
    }
    return 0;
}

static int fake_set_table(FakeVhost *f, FakeVhostInstance *n, const struct vhost_memory *table)
{
    unsigned ram = 0;
    for (unsigned i = 0; i < f->ram->count; i++) {
        ram += !f->ram->blocks[i].read_only;
    }
    if (table->padding != 0 || table->nregions != ram) {
        return -EOPNOTSUPP;
    }
    for (unsigned i = 0; i < table->nregions; i++) {
        uint64_t gpa;
        if (!fake_gpa(f, table->regions[i].userspace_addr, table->regions[i].memory_size, &gpa) ||
            gpa != table->regions[i].guest_phys_addr) {
            return -EFAULT;
        }
    }
    n->table = true;
    return 0;
}

/* The new descriptor is duplicated, as the kernel takes a reference to the file. */
static int fake_set_file(int *at, int fd)
{
    int copy = fd == VHOST_FILE_UNBIND ? -1 : dup(fd);
    if (fd != VHOST_FILE_UNBIND && copy < 0) {
        return -EBADF;
    }
    fake_close_fd(at);
    *at = copy;
    return 0;
}

/* Calls that name a vring, whose index is the first member of each argument. */
static int fake_vring_call(FakeVhost *f, FakeVhostInstance *n, unsigned long request, void *value)
{
    struct vhost_vring_state *state = value;
    const struct vhost_vring_addr *addr = value;
    const struct vhost_vring_file *file = value;
    if (state->index >= FAKE_VHOST_VRINGS) {
        return -ENOBUFS;
    }
    FakeVring *v = &n->vrings[state->index];
    switch (request) {
    case VHOST_SET_VRING_NUM:
        if (v->connected) {
            return -EBUSY;
        }
        if (state->num == 0 || state->num > 0xffff || (state->num & (state->num - 1)) != 0) {
            return -EINVAL;
        }
        v->num = state->num;
        return 0;
    case VHOST_SET_VRING_BASE:
        if (v->connected) {
            return -EBUSY;
        }
        if (state->num > 0xffff) {
            return -EINVAL;
        }
        v->base = state->num;
        return 0;
    case VHOST_GET_VRING_BASE:
        g_assert_false(v->connected); /* it goes on: the position would be of no use */
        state->num = v->base;
        return 0;
    case VHOST_SET_VRING_ADDR:
        if ((addr->desc_user_addr & 15) != 0 || (addr->avail_user_addr & 1) != 0 ||
            (addr->used_user_addr & 3) != 0) {
            return -EINVAL;
        }
        v->desc = addr->desc_user_addr;
        v->avail = addr->avail_user_addr;
        v->used = addr->used_user_addr;
        v->addressed = true;
        v->logged = (addr->flags & 1u << VHOST_VRING_F_LOG) != 0;
        g_assert(!v->logged || addr->log_guest_addr != 0);
        return 0;
    case VHOST_SET_VRING_KICK:
        return fake_set_file(&v->kick_fd, file->fd);
    case VHOST_SET_VRING_CALL:
        return fake_set_file(&v->call_fd, file->fd);
    case VHOST_SET_VRING_ERR:
        return fake_set_file(&v->err_fd, file->fd);
    case VHOST_NET_SET_BACKEND:
        if (file->fd == VHOST_FILE_UNBIND) {
            fake_disconnect(v);
            v->backend = -1;
            return 0;
        }
        v->backend = file->fd;
        return fake_connect(f, n, v);
    default:
        return -ENOTTY;
    }
}

static const struct {
    unsigned long request;
    const char *name;
} fake_names[] = {
    {VHOST_SET_OWNER, "owner"},           {VHOST_GET_FEATURES, "get-features"},
    {VHOST_SET_FEATURES, "features"},     {VHOST_SET_MEM_TABLE, "memory"},
    {VHOST_SET_LOG_BASE, "log"},          {VHOST_SET_VRING_NUM, "num"},
    {VHOST_SET_VRING_BASE, "base"},       {VHOST_GET_VRING_BASE, "get-base"},
    {VHOST_SET_VRING_ADDR, "addr"},       {VHOST_SET_VRING_KICK, "kick"},
    {VHOST_SET_VRING_CALL, "call"},       {VHOST_SET_VRING_ERR, "err"},
    {VHOST_NET_SET_BACKEND, "backend"},   {VHOST_VSOCK_SET_GUEST_CID, "cid"},
    {VHOST_VSOCK_SET_RUNNING, "running"},
};

static void fake_record(FakeVhost *f, unsigned long request)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(fake_names); i++) {
        if (fake_names[i].request == request) {
            g_string_append_printf(f->calls, "%s%s", f->calls->len != 0 ? " " : "",
                                   fake_names[i].name);
            return;
        }
    }
    g_error("an ioctl that vhost does not have: %#lx", request);
}

static int fake_call(FakeVhost *f, FakeVhostInstance *n, unsigned long request, void *value)
{
    uint64_t features;
    fake_record(f, request);
    if (request == VHOST_SET_OWNER) {
        bool busy = n->owned;
        n->owned = true;
        return busy ? -EBUSY : 0;
    }
    if (request == VHOST_GET_FEATURES) {
        memcpy(value, &f->offered, sizeof(f->offered));
        return 0;
    }
    if (!n->owned) {
        return -EPERM;
    }
    switch (request) {
    case VHOST_SET_FEATURES:
        memcpy(&features, value, sizeof(features));
        if ((features & ~f->offered) != 0) {
            return -EOPNOTSUPP;
        }
        if ((features & FAKE_BIT(VHOST_F_LOG_ALL)) != 0 && (n->log == NULL || !n->table)) {
            return -EFAULT;
        }
        n->features = features;
        return 0;
    case VHOST_SET_LOG_BASE:
        memcpy(&n->log, value, sizeof(n->log));
        return 0;
    case VHOST_SET_MEM_TABLE:
        return fake_set_table(f, n, value);
    case VHOST_VSOCK_SET_GUEST_CID:
        memcpy(&n->cid, value, sizeof(n->cid));
        return n->cid == f->taken_cid ? -EADDRINUSE : 0;
    case VHOST_VSOCK_SET_RUNNING:
        return fake_set_running(f, n, *(int *)value != 0);
    default:
        return fake_vring_call(f, n, request, value);
    }
}

static int fake_ioctl(void *arg, int fd, unsigned long request, void *value)
{
    FakeVhost *f = arg;
    pthread_mutex_lock(&f->lock);
    FakeVhostInstance *n = fake_find(f, fd);
    int result = n != NULL ? fake_call(f, n, request, value) : -EBADF;
    pthread_mutex_unlock(&f->lock);
    return result;
}

/* ---- the kernel's thread ---- */

/* Called after the write. */
static void fake_mark(FakeVhost *f, const FakeVhostInstance *n, uint64_t gpa, uint64_t bytes)
{
    if ((n->features & FAKE_BIT(VHOST_F_LOG_ALL)) == 0) {
        guest_ram_mark(f->ram, gpa, bytes);
        return;
    }
    for (uint64_t page = gpa / GUEST_RAM_PAGE; page <= (gpa + bytes - 1) / GUEST_RAM_PAGE; page++) {
        _Atomic uint64_t *word = (_Atomic uint64_t *)&n->log[page / 64];
        atomic_fetch_or(word, UINT64_C(1) << (page % 64));
    }
}

static void fake_fill(FakeVhost *f, const FakeVhostInstance *n, const VirtQueueElement *e)
{
    for (unsigned i = 0; i < e->in_num; i++) {
        uint64_t gpa = 0;
        memset(e->in[i].iov_base, FAKE_VHOST_MARK, e->in[i].iov_len);
        if (fake_gpa(f, (uintptr_t)e->in[i].iov_base, e->in[i].iov_len, &gpa)) {
            fake_mark(f, n, gpa, e->in[i].iov_len);
        }
    }
}

static bool fake_kicked(const FakeVring *v)
{
    eventfd_t count;
    return v->kick_fd >= 0 && eventfd_read(v->kick_fd, &count) == 0;
}

unsigned fake_vhost_serve(FakeVhost *f, unsigned instance, unsigned index)
{
    FakeVhostInstance *n = &f->instances[instance];
    FakeVring *v = &n->vrings[index];
    VirtQueueElement *e;
    unsigned served = 0;
    enter_main();
    pthread_mutex_lock(&f->lock);
    if (n->open && fake_kicked(v) && v->connected) {
        while ((e = virtqueue_pop(v->vq)) != NULL) {
            fake_fill(f, n, e);
            virtqueue_push(v->vq, e, (uint32_t)e->in_len);
            served++;
        }
        virtqueue_set_notification(v->vq, true);
        bool interrupts = virtqueue_flush(v->vq);
        if (v->logged || (n->features & FAKE_BIT(VHOST_F_LOG_ALL)) == 0) {
            fake_mark(f, n, v->used_gpa, 6 + 8ull * v->num);
        }
        if (interrupts && v->call_fd >= 0) {
            eventfd_write(v->call_fd, 1);
        }
        if (virtqueue_broken(v->vq) != NULL && v->err_fd >= 0) {
            eventfd_write(v->err_fd, 1);
        }
    }
    pthread_mutex_unlock(&f->lock);
    return served;
}

unsigned fake_vhost_open_count(FakeVhost *f)
{
    unsigned open = 0;
    pthread_mutex_lock(&f->lock);
    for (unsigned i = 0; i < f->count; i++) {
        open += f->instances[i].open;
    }
    pthread_mutex_unlock(&f->lock);
    return open;
}

bool fake_vhost_connected(FakeVhost *f)
{
    bool connected = false;
    pthread_mutex_lock(&f->lock);
    for (unsigned i = 0; i < f->count; i++) {
        for (unsigned n = 0; n < FAKE_VHOST_VRINGS; n++) {
            connected |= f->instances[i].open && f->instances[i].vrings[n].connected;
        }
    }
    pthread_mutex_unlock(&f->lock);
    return connected;
}

FakeVhost *fake_vhost_new(const char *path, const GuestRam *ram)
{
    FakeVhost *f = g_new0(FakeVhost, 1);
    f->ram = ram;
    for (unsigned i = 0; i < FAKE_VHOST_INSTANCES; i++) {
        f->fds[i] = -1;
    }
    f->offered = FAKE_BIT(VIRTIO_F_VERSION_1) | FAKE_BIT(VIRTIO_RING_F_EVENT_IDX) |
                 FAKE_BIT(VIRTIO_RING_F_INDIRECT_DESC) | FAKE_BIT(VHOST_F_LOG_ALL) |
                 FAKE_VHOST_SEQPACKET;
    f->calls = g_string_new("");
    pthread_mutexattr_t attr; /* the fake's own close() asks for the device too */
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&f->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    f->device = (SysDevice){.path = path,
                            .open = fake_open,
                            .owns = fake_owns,
                            .ioctl = fake_ioctl,
                            .close = fake_close,
                            .arg = f};
    sys_device_set(&f->device);
    return f;
}

void fake_vhost_free(FakeVhost *f)
{
    g_assert_cmpuint(fake_vhost_open_count(f), ==, 0);
    sys_device_set(NULL);
    g_string_free(f->calls, TRUE);
    pthread_mutex_destroy(&f->lock);
    g_free(f);
}
