/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -smp: the number of processors and their topology. QEMU's rules: omitted values are computed,
 * preferring cores over sockets; the product must equal the number of processors.
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
 * processor. @limit is the maximum of machine and KVM. */
bool smp_parse(const char *text, unsigned limit, SmpTopology *topology, GError **error) ANY_THREAD;

#endif
