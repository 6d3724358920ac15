/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request on the wire: taking it apart, executing it, writing its reply. Only for vmm/qmp/.
 */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_REQUEST_H
#define SKIFF_VMM_MONITOR_QMP_QMP_REQUEST_H

#include "vmm/monitor/qmp/qmp_session.h"

typedef struct QmpRequest {
    struct json_object *input; /* what came, its `id` if any; NULL: nothing that could be parsed */
    const char *name;          /* of the command; borrowed from `input` */
    struct json_object *args;  /* borrowed; NULL: none */
    bool oob;
    size_t size;   /* of its text */
    GError *error; /* it is no request: this is the reply */
    int fds[QMP_REQUEST_FDS];
    unsigned fd_count;
} QmpRequest;

/* From the text of one JSON value; @oob: exec-oob is allowed. Whatever is wrong is in `error`. */
void qmp_request_parse(QmpRequest *r, const char *text, size_t length, bool oob) ANY_THREAD;
/* Something that was no JSON value. */
void qmp_request_parse_error(QmpRequest *r, const char *why) ANY_THREAD;
/* Also closes the descriptors that nobody took. */
void qmp_request_clear(QmpRequest *r) ANY_THREAD;

/* Appends to @out the reply to @r: @result, or @error if that is not NULL. */
void qmp_request_reply(const QmpRequest *r, struct json_object *result, const GError *error,
                       bool pretty, GString *out) ANY_THREAD;
/* Appends the greeting; an event. */
void qmp_greeting_write(bool pretty, GString *out) ANY_THREAD;
void qmp_event_write(const QmpEvent *event, struct json_object *data, int64_t realtime_us,
                     bool pretty, GString *out) ANY_THREAD;
/* The object of query-version. */
struct json_object *qmp_version(void) ANY_THREAD;

#endif
