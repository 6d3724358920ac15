/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request on the wire: parses it and writes its reply. Only for this folder.
 */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_REQUEST_H
#define SKIFF_VMM_MONITOR_QMP_QMP_REQUEST_H

#include "vmm/monitor/qmp/qmp_session.h"

typedef struct QmpRequest {
    struct json_object *input; /* the parsed value, with its `id` if any; NULL if parsing failed */
    const char *name;          /* of the command; borrowed from `input` */
    struct json_object *args;  /* borrowed from `input`; may be NULL */
    bool oob;
    size_t size;   /* bytes of its text */
    GError *error; /* set if the request is invalid: the reply */
    int fds[QMP_REQUEST_FDS];
    unsigned fd_count;
} QmpRequest;

/* Parses the text of one JSON value. @oob allows exec-oob. Failures go to `error`. */
void qmp_request_parse(QmpRequest *r, const char *text, size_t length, bool oob) ANY_THREAD;
/* Makes a request whose reply is a JSON parse error with the reason @why. */
void qmp_request_parse_error(QmpRequest *r, const char *why) ANY_THREAD;
/* Frees the contents and closes the descriptors that no command took. */
void qmp_request_clear(QmpRequest *r) ANY_THREAD;

/* Appends the reply to @r to @out: @error if it is not NULL, else @result. */
void qmp_request_reply(const QmpRequest *r, struct json_object *result, const GError *error,
                       bool pretty, GString *out) ANY_THREAD;
/* Appends the greeting or an event to @out. */
void qmp_greeting_write(bool pretty, GString *out) ANY_THREAD;
void qmp_event_write(const QmpEvent *event, struct json_object *data, int64_t realtime_us,
                     bool pretty, GString *out) ANY_THREAD;
/* Returns the result of query-version, owned by the caller. */
struct json_object *qmp_version(void) ANY_THREAD;

#endif
