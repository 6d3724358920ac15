/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of virtio-serial ports between queues (home loop) and chardevs (main). virtio_serial.h
 * has the states and invariants. */
#include "hw/virtio/virtio_serial.h"
#include "util/iov.h"
#include "util/loop/sched_point.h"

static bool with_main(const VirtioSerialChunk *c)
{
    return atomic_load_explicit(&c->with_main, memory_order_acquire);
}

/* HOME -> MAIN. */
static RUNS_IN_LOOP void chunk_post_main(VirtioSerialChunk *c)
{
    atomic_store(&c->recalled, false);
    atomic_store_explicit(&c->with_main, true, memory_order_release);
    aio_bh_schedule(&c->main_bh);
}

/* MAIN -> HOME. */
static RUNS_IN_MAIN void chunk_post_home(VirtioSerialChunk *c)
{
    atomic_store_explicit(&c->with_main, false, memory_order_release);
    aio_bh_schedule(&c->home_bh);
}

/* ---- main ---- */

bool virtio_serial_offer_output(VirtioSerialPort *port)
{
    VirtioSerialChunk *c = &port->transmit;
    if (!with_main(c)) {
        return true;
    }
    c->done += chardev_write(port->chr, c->data + c->done, c->len - c->done);
    if (!chardev_connected(port->chr)) {
        c->done = c->len; /* dropped, as on a wire: a guest's console must not hang */
    }
    bool all = c->done == c->len;
    if (all || atomic_load(&c->recalled)) {
        chunk_post_home(c);
    }
    return all;
}

static void transmit_in_main(void *opaque)
{
    VirtioSerialPort *port = opaque;
    enter_main();
    SP("virtio_serial.transmit", port);
    virtio_serial_port_report(port); /* the open is reported before the bytes */
    virtio_serial_offer_output(port);
}

size_t virtio_serial_input_room(const VirtioSerialPort *port)
{
    return with_main(&port->receive) ? port->receive.done : 0;
}

void virtio_serial_put_input(VirtioSerialPort *port, const uint8_t *data, size_t size)
{
    VirtioSerialChunk *c = &port->receive;
    size_t n = MIN(size, virtio_serial_input_room(port));
    if (n) {
        memcpy(c->data, data, n);
        c->len = n;
        chunk_post_home(c);
    }
}

static void receive_in_main(void *opaque)
{
    VirtioSerialPort *port = opaque;
    VirtioSerialChunk *c = &port->receive;
    enter_main();
    SP("virtio_serial.receive", port);
    if (!with_main(c)) {
        return;
    }
    if (atomic_load(&c->recalled)) {
        chunk_post_home(c);
    } else if (port->chr) {
        chardev_accept_input(port->chr);
    }
}

/* ---- home loop: transmit ---- */

/* Fills the chunk from the held buffer. False: nothing is left. */
static RUNS_IN_LOOP bool transmit_next(VirtioSerialPort *port)
{
    VirtioSerialChunk *c = &port->transmit;
    uint32_t sent = port->bus->state.ports[port->nr].sent;
    c->done = 0;
    c->len = iov_copy_to_buf(c->element->out, c->element->out_num, sent, c->data, sizeof(c->data));
    if (c->len) {
        chunk_post_main(c);
    }
    return c->len;
}

static RUNS_IN_LOOP void transmit_complete(VirtioSerial *s, unsigned nr, VirtQueueElement *e)
{
    s->state.ports[nr].sent = 0;
    virtio_complete(&s->base.vdev, virtio_serial_tx(nr), e, 0);
}

void virtio_serial_transmit(VirtioSerial *s, unsigned nr)
{
    VirtioSerialPort *port = s->home_ports[nr];
    VirtQueueElement *e;
    if (port && port->transmit.element) {
        return; /* continued in transmit_at_home() */
    }
    for (unsigned n = 0; (e = virtio_pop(&s->base.vdev, virtio_serial_tx(nr))); n++) {
        if (port && port->chr) {
            port->transmit.element = e;
            if (transmit_next(port)) {
                return;
            }
            port->transmit.element = NULL;
        }
        transmit_complete(s, nr, e);    /* empty, or no chardev */
        if (n == VIRTIO_QUEUE_BUDGET) { /* not called by the queue, which has its own budget */
            virtio_look(&s->base.vdev, virtio_serial_tx(nr));
            return;
        }
    }
}

/* Main has returned the chunk. */
static void transmit_at_home(void *opaque)
{
    VirtioSerialPort *port = opaque;
    VirtioSerialChunk *c = &port->transmit;
    VirtioSerial *s = port->bus;
    VirtioDevice *vdev = &s->base.vdev;
    VirtQueueElement *e = c->element;
    enter_loop(vdev->home);
    if (with_main(c) || !e || s->home_ports[port->nr] != port) {
        return; /* the port was removed: release_at_home() returns the buffer */
    }
    s->state.ports[port->nr].sent += (uint32_t)c->done;
    c->done = 0;
    if (virtio_taking(vdev) && transmit_next(port)) {
        return;
    }
    c->element = NULL;
    if (s->state.ports[port->nr].sent == e->out_len) {
        transmit_complete(s, port->nr, e);
        virtio_look(vdev, virtio_serial_tx(port->nr));
    } else {
        virtio_unpop(vdev, virtio_serial_tx(port->nr), e);
    }
}

/* ---- home loop: receive ---- */

static RUNS_IN_LOOP VirtQueueElement *receive_pop(VirtioSerialPort *port)
{
    VirtioDevice *vdev = &port->bus->base.vdev;
    VirtQueueElement *e = virtio_pop(vdev, virtio_serial_rx(port->nr));
    if (e && !e->in_len) {
        virtio_fail_request(vdev, virtio_serial_rx(port->nr), e, "nothing device-writable");
        return NULL;
    }
    return e;
}

static RUNS_IN_LOOP void receive_release(VirtioSerialPort *port)
{
    VirtQueueElement *e = port->receive.element;
    port->receive.element = NULL;
    if (e) {
        virtio_unpop(&port->bus->base.vdev, virtio_serial_rx(port->nr), e);
    }
}

static RUNS_IN_LOOP void chunk_recall(VirtioSerialChunk *c)
{
    if (with_main(c)) {
        atomic_store(&c->recalled, true);
        aio_bh_schedule(&c->main_bh);
    }
}

void virtio_serial_update_grant(VirtioSerial *s, unsigned nr)
{
    VirtioSerialPort *port = s->home_ports[nr];
    if (!port || !port->chr) {
        return;
    }
    VirtioSerialChunk *c = &port->receive;
    bool wanted = virtio_taking(&s->base.vdev) && virtio_serial_guest_open(s, nr);
    if (!wanted) {
        chunk_recall(c);
    }
    if (with_main(c) || c->len) {
        return; /* continued in receive_at_home() */
    }
    if (!wanted) {
        receive_release(port);
        return;
    }
    if (!c->element) {
        c->element = receive_pop(port);
    }
    if (c->element) {
        c->done = MIN(c->element->in_len, sizeof(c->data));
        chunk_post_main(c);
    }
}

/* Main has returned the chunk, with input or recalled. */
static void receive_at_home(void *opaque)
{
    VirtioSerialPort *port = opaque;
    VirtioSerialChunk *c = &port->receive;
    VirtioDevice *vdev = &port->bus->base.vdev;
    VirtQueueElement *e = c->element;
    enter_loop(vdev->home);
    if (with_main(c) || !e) {
        return;
    }
    if (c->len) {
        iov_copy_from_buf(e->in, e->in_num, 0, c->data, c->len);
        c->element = NULL;
        virtio_complete(vdev, virtio_serial_rx(port->nr), e, (uint32_t)c->len);
        c->len = 0;
    }
    virtio_serial_update_grant(port->bus, port->nr);
}

void virtio_serial_recall(VirtioSerial *s)
{
    for (unsigned nr = 0; nr < s->max_ports; nr++) {
        if (s->home_ports[nr]) {
            chunk_recall(&s->home_ports[nr]->transmit);
            chunk_recall(&s->home_ports[nr]->receive);
        }
    }
}

/* ---- adding and removing ports ---- */

void virtio_serial_link_init(VirtioSerialPort *port)
{
    AioContext *main_ctx = port->base.env->main_ctx, *home = port->bus->base.vdev.home;
    aio_bh_init(&port->transmit.main_bh, main_ctx, transmit_in_main, port);
    aio_bh_init(&port->transmit.home_bh, home, transmit_at_home, port);
    aio_bh_init(&port->receive.main_bh, main_ctx, receive_in_main, port);
    aio_bh_init(&port->receive.home_bh, home, receive_at_home, port);
}

static void join_at_home(void *opaque)
{
    VirtioSerialPort *port = opaque;
    VirtioSerial *s = port->bus;
    enter_loop(s->base.vdev.home);
    s->home_ports[port->nr] = port;
    virtio_serial_port_compare(s, port->nr);
    virtio_serial_update_grant(s, port->nr);
    virtio_look(&s->base.vdev, virtio_serial_tx(port->nr));
}

void virtio_serial_co_join(VirtioSerialPort *port)
{
    co_call_in(port->bus->base.vdev.home, join_at_home, port);
}

/* No chunk goes to main any more. */
static void leave_at_home(void *opaque)
{
    VirtioSerialPort *port = opaque;
    VirtioSerial *s = port->bus;
    enter_loop(s->base.vdev.home);
    s->home_ports[port->nr] = NULL;
    aio_bh_cancel(&port->transmit.home_bh);
    aio_bh_cancel(&port->receive.home_bh);
}

/* Both chunks are with the home loop. */
static void release_at_home(void *opaque)
{
    VirtioSerialPort *port = opaque;
    VirtioSerial *s = port->bus;
    VirtQueueElement *e = port->transmit.element;
    enter_loop(s->base.vdev.home);
    aio_bh_cancel(&port->transmit.home_bh);
    aio_bh_cancel(&port->receive.home_bh);
    port->transmit.element = NULL;
    if (e) {
        transmit_complete(s, port->nr, e);
    }
    if (port->receive.len) {
        VirtQueueElement *in = port->receive.element;
        size_t n = iov_copy_from_buf(in->in, in->in_num, 0, port->receive.data, port->receive.len);
        port->receive.element = NULL;
        virtio_complete(&s->base.vdev, virtio_serial_rx(port->nr), in, (uint32_t)n);
    }
    receive_release(port);
    port->left_unseen = !virtio_taking(&s->base.vdev);
    virtio_serial_port_compare(s, port->nr);
    virtio_look(&s->base.vdev, virtio_serial_tx(port->nr)); /* drops waiting buffers */
}

void virtio_serial_co_leave(VirtioSerialPort *port)
{
    AioContext *home = port->bus->base.vdev.home;
    co_call_in(home, leave_at_home, port);
    if (with_main(&port->transmit)) {
        chunk_post_home(&port->transmit);
    }
    if (with_main(&port->receive)) {
        chunk_post_home(&port->receive);
    }
    co_call_in(home, release_at_home, port);
    if (port->left_unseen) {
        bql_lock();
        virtio_serial_port_gone(port->bus, port->nr);
        bql_unlock();
    }
    aio_bh_cancel(&port->transmit.main_bh);
    aio_bh_cancel(&port->receive.main_bh);
}

/* ---- settling ---- */

/* Limit of rounds in virtio_serial_port_co_settle(): enough for a full queue of the largest buffers
 * that fit in one chunk. A guest whose other vCPUs keep sending cannot prolong it further. */
#define SETTLE_ROUNDS 1024

typedef struct Settle {
    VirtioSerialPort *port;
    bool busy; /* a buffer is being transmitted */
} Settle;

/* Takes what is available now, also if its doorbell has not been served. */
static void settle_at_home(void *opaque)
{
    Settle *settle = opaque;
    VirtioSerial *s = settle->port->bus;
    VirtioDevice *vdev = &s->base.vdev;
    enter_loop(vdev->home);
    if (virtio_taking(vdev)) {
        virtqueue_look(vdev->queues[virtio_serial_tx(settle->port->nr)].vq);
        virtio_serial_transmit(s, settle->port->nr);
    }
    /* A removed port is freed after its release, which comes after this call. */
    settle->busy =
        s->home_ports[settle->port->nr] == settle->port && settle->port->transmit.element;
}

void virtio_serial_port_co_settle(Device *dev)
{
    Settle settle = {.port = (VirtioSerialPort *)(void *)dev};
    VirtioSerialPort *port = settle.port;
    for (unsigned i = 0; i < SETTLE_ROUNDS; i++) {
        co_call_in(port->bus->base.vdev.home, settle_at_home, &settle);
        if (!settle.busy) {
            break;
        }
        if (!virtio_serial_offer_output(port)) {
            break; /* the chardev is full */
        }
    }
}
