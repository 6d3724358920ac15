/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -smp: how many processors, and how they are arranged. QEMU's rules: what is left out is computed,
 * preferring cores over sockets; the product must come out at the number of processors.
 */
#ifndef SKIFF_VMM_ARCH_SMP_H
#define SKIFF_VMM_ARCH_SMP_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/thread.h"

typedef struct SmpTopology {
    unsigned cpus;    /* sockets * cores * threads */
    unsigned sockets; /* packages */
    unsigned cores;   /* per socket */
    unsigned threads; /* per core */
} SmpTopology;

/* Parses `[cpus=]n[,sockets=n][,cores=n][,threads=n][,maxcpus=n]` or its JSON form; NULL is one
 * processor. @limit is what machine and KVM support. */
bool smp_parse(const char *text, unsigned limit, SmpTopology *topology, GError **error) ANY_THREAD;

#endif
