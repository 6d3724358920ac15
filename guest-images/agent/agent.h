/* SPDX-License-Identifier: Apache-2.0 */
/* The agent of -exec, shared by its files. One thread; a permanent failure ends the program. */
#ifndef AGENT_H
#define AGENT_H

#include "guest-images/agent/sys.h"
#include "util/exec_protocol.h"

enum {
    AGENT_SERVED = 0,
    AGENT_FAILED = 1,
    AGENT_USAGE = 2,
    AGENT_NO_PORT = 3,
};

/* ---- text.c ---- */
size_t text_length(const char *text);
bool text_equal(const char *a, const char *b);
/* Prints "skiff-agent: A B" on standard error and ends the program. */
_Noreturn void agent_fail(int status, const char *a, const char *b);

/* ---- port.c ---- */
/* Opens the port named EXEC_PORT_NAME and waits for it up to @wait_seconds. -1: there is none. */
int port_find(unsigned wait_seconds);

/* ---- serve.c ---- */
/* Greets skiff on @port, runs its command and reports the result. Returns when skiff has it. */
void agent_serve(int port, bool powers_off, char **environment);

#endif
