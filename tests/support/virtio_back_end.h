/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device with two queues and a back end that replies on the test's command, or refuses.
 *
 * The back end serves queues in main: it has a VirtQueue of its own for each queue, takes requests
 * when back_end_serve() is called and fills each with BACK_END_MARK. The device's home loop fills
 * them with HOME_MARK, so a test sees which of the two served a request.
 */
#ifndef SKIFF_TESTS_SUPPORT_VIRTIO_BACK_END_H
#define SKIFF_TESTS_SUPPORT_VIRTIO_BACK_END_H

#include "hw/virtio/virtio_back_end.h"
#include "hw/virtio/virtio_pci.h"
#include "tests/support/virtio_guest.h"

#define BACK_END_QUEUES 2
#define BACK_END_HOME_QUEUE 1
#define BACK_END_MARK 'B'
#define HOME_MARK 'H'

typedef enum BackEndQuestion { BACK_END_NONE, BACK_END_START, BACK_END_STOP } BackEndQuestion;

typedef struct BackEndDevice {
    VirtioPci base;
    /* state */
    struct BackEndState {
        VirtioState virtio;
    } state;
    /* set by the test */
    bool manual;         /* the test replies; else the back end, after `turns` turns of main */
    unsigned turns;      /* delay of the reply */
    const char *refusal; /* why it refuses, or NULL */
    bool refuses_late;   /* after it has served what is in queue 0 */
    bool late_lines;     /* uses the old eventfd until back_end_switch() */
    /* runtime, BQL */
    BackEndQuestion open;
    unsigned starts, stops; /* calls so far */
    VirtioInterrupt lines[BACK_END_QUEUES];
    VirtioInterrupt next_lines[BACK_END_QUEUES]; /* for back_end_switch() */
    unsigned line_changes;                       /* reported so far */
    /* runtime, main */
    AioBh answer_bh;
    unsigned left; /* turns until the reply */
    bool serving;
    VirtQueue *vq[BACK_END_QUEUES];
} BackEndDevice;

/* Its starts may fail; it interrupts by eventfd. */
extern const DeviceType back_end_type;
/* Its home loop serves when the back end refuses; it interrupts through the transport. */
extern const DeviceType back_end_fallback_type;
/* Its home loop always serves queue BACK_END_HOME_QUEUE. */
extern const DeviceType back_end_mixed_type;

/* Replies to the open call, in the test's thread, which is main. */
void back_end_answer(BackEndDevice *be);
/* Interrupts for queue @index, with its present eventfd. */
void back_end_signal(BackEndDevice *be, unsigned index);
/* Switches queue @index to the eventfd that was reported last. */
void back_end_switch(BackEndDevice *be, unsigned index);
/* Takes and completes the requests of queue @index; returns their number. Does nothing while the
 * back end does not serve. */
unsigned back_end_serve(BackEndDevice *be, unsigned index);

#endif
