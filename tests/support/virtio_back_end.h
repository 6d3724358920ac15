/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device with two queues and a back end that answers when the test says so, or refuses.
 *
 * The back end serves for real, in main: it keeps a VirtQueue of its own for each queue, takes
 * requests when back_end_serve() is called and fills each with BACK_END_MARK. The device's home loop
 * fills with HOME_MARK, so a test sees who has served a request.
 */
#ifndef SKIFF_TESTS_SUPPORT_VIRTIO_BACK_END_H
#define SKIFF_TESTS_SUPPORT_VIRTIO_BACK_END_H

#include "hw/virtio/virtio_back_end.h"
#include "hw/virtio/virtio_pci.h"
#include "tests/support/virtio_guest.h"

#define BACK_END_QUEUES 2
#define BACK_END_MARK 'B'
#define HOME_MARK 'H'

typedef enum BackEndQuestion { BACK_END_NONE, BACK_END_START, BACK_END_STOP } BackEndQuestion;

typedef struct BackEndDevice {
    VirtioPci base;
    /* state */
    struct BackEndState {
        VirtioState virtio;
    } state;
    /* the test's */
    bool manual;         /* the test answers; else the back end does, some turns of main later */
    unsigned turns;      /* how many */
    const char *refusal; /* why it refuses, or NULL */
    bool late_lines;     /* goes on with the old eventfd until back_end_switch() */
    /* runtime, BQL */
    BackEndQuestion open;
    unsigned starts, stops; /* questions so far */
    VirtioInterrupt lines[BACK_END_QUEUES];
    VirtioInterrupt next_lines[BACK_END_QUEUES]; /* those to switch to */
    unsigned line_changes;                       /* reported so far */
    /* runtime, main */
    AioBh answer_bh;
    unsigned left; /* turns until the answer */
    bool serving;
    VirtQueue *vq[BACK_END_QUEUES];
} BackEndDevice;

/* Its starts may fail; it interrupts by eventfd. */
extern const DeviceType back_end_type;
/* Its home loop serves when the back end refuses; it interrupts through the transport. */
extern const DeviceType back_end_fallback_type;

/* Answers the open question, in the test's thread, which is main. */
void back_end_answer(BackEndDevice *be);
/* Interrupts for queue @index, with the eventfd it has. */
void back_end_signal(BackEndDevice *be, unsigned index);
/* Takes up the eventfd of queue @index that was reported last. */
void back_end_switch(BackEndDevice *be, unsigned index);
/* Takes and completes what queue @index has; returns how many requests that was. Nothing while it
 * does not serve. */
unsigned back_end_serve(BackEndDevice *be, unsigned index);

#endif
