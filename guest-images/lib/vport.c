/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vport.h"
#include "lib/cpu.h"
#include "lib/exit.h"
#include "lib/memory.h"
#include "lib/text.h"
#include "lib/virtio.h"
#include "lib/virtqueue.h"

#define VPORT_DEVICE_TYPE 3
#define VPORT_MULTIPORT (1ull << 1)
#define VPORT_QUEUE_SIZE 8
#define VPORT_MAX 31
#define VPORT_BUFFER_SIZE 4096

enum { QUEUE_CONTROL_IN = 2, QUEUE_CONTROL_OUT = 3 };
enum {
    EVENT_READY = 0,
    EVENT_ADD = 1,
    EVENT_PORT_READY = 3,
    EVENT_OPEN = 6,
    EVENT_NAME = 7,
};

typedef struct Control {
    uint32_t port;
    uint16_t event, value;
} Control;

static VirtioDevice device;
static Virtqueue control_in, control_out, data_in, data_out;
static uint8_t *control_buffer, *in_buffer;
static uint32_t port_number, in_at, in_size;

static void *wait_taken(Virtqueue *queue, uint32_t *written)
{
    void *token;
    while (!(token = virtqueue_take(queue, written))) {
        cpu_pause();
    }
    return token;
}

static void send_on(Virtqueue *queue, const void *data, size_t size)
{
    VirtqueueBuffer buffer = {(void *)(uintptr_t)data, (uint32_t)size};
    uint32_t written;
    if (!virtqueue_add(queue, &buffer, 1, 0, queue, false)) {
        guest_fail("virtio-serial: no free descriptor");
    }
    virtqueue_kick(queue);
    wait_taken(queue, &written);
}

static void offer(Virtqueue *queue, uint8_t *data)
{
    VirtqueueBuffer buffer = {data, VPORT_BUFFER_SIZE};
    if (!virtqueue_add(queue, &buffer, 0, 1, queue, false)) {
        guest_fail("virtio-serial: no free descriptor");
    }
    virtqueue_kick(queue);
}

static void tell(uint32_t port, uint16_t event, uint16_t value)
{
    static Control message;
    message = (Control){port, event, value};
    send_on(&control_out, &message, sizeof(message));
}

/* Polls until the device has named @name; every port that it adds is opened. */
static void find_port(const char *name)
{
    for (;;) {
        uint32_t size;
        Control message;
        wait_taken(&control_in, &size);
        memcpy(&message, control_buffer, sizeof(message));
        const char *text = (const char *)control_buffer + sizeof(message);
        bool named = message.event == EVENT_NAME && size - sizeof(message) >= strlen(name) &&
                     memcmp(text, name, strlen(name)) == 0;
        uint16_t event = message.event;
        offer(&control_in, control_buffer);
        if (event == EVENT_ADD) {
            tell(message.port, EVENT_PORT_READY, 1);
        } else if (named) {
            port_number = message.port;
            return;
        }
    }
}

void vport_open(const char *name)
{
    unsigned count = 0;
    while (virtio_find(&device, VPORT_DEVICE_TYPE, count)) {
        count++; /* skiff's own port follows the user's */
    }
    if (count == 0) {
        guest_refuse(EXIT_MISSING, "no virtio-serial");
    }
    virtio_negotiate(&device, VPORT_MULTIPORT);
    control_buffer = memory_alloc(VPORT_BUFFER_SIZE, MEMORY_PAGE_SIZE);
    in_buffer = memory_alloc(VPORT_BUFFER_SIZE, MEMORY_PAGE_SIZE);
    virtqueue_setup(&control_in, &device, QUEUE_CONTROL_IN, VPORT_QUEUE_SIZE, VIRTIO_NO_VECTOR);
    virtqueue_setup(&control_out, &device, QUEUE_CONTROL_OUT, VPORT_QUEUE_SIZE, VIRTIO_NO_VECTOR);
    /* Queues are set up before the device reports the port's number: port 1. */
    virtqueue_setup(&data_in, &device, 4, VPORT_QUEUE_SIZE, VIRTIO_NO_VECTOR);
    virtqueue_setup(&data_out, &device, 5, VPORT_QUEUE_SIZE, VIRTIO_NO_VECTOR);
    virtio_go(&device);
    offer(&control_in, control_buffer);
    tell(0, EVENT_READY, 1);
    find_port(name);
    if (port_number != 1) {
        guest_refuse(EXIT_MISSING, "virtio-serial has the port as number %u, not 1", port_number);
    }
    offer(&data_in, in_buffer);
    tell(port_number, EVENT_OPEN, 1);
}

void vport_close(void)
{
    tell(port_number, EVENT_OPEN, 0);
}

void vport_send(const void *data, size_t size)
{
    send_on(&data_out, data, size);
}

size_t vport_receive(void *data, size_t size)
{
    if (in_size == 0) {
        if (!virtqueue_take(&data_in, &in_size)) {
            return 0;
        }
        in_at = 0;
    }
    size_t n = in_size < size ? in_size : size;
    memcpy(data, in_buffer + in_at, n);
    in_at += (uint32_t)n;
    in_size -= (uint32_t)n;
    if (in_size == 0) {
        offer(&data_in, in_buffer);
    }
    return n;
}
