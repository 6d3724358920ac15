/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other CPUs. smp_start() brings them up one by one (INIT, SIPI); then each waits in hlt for
 * work. Which CPUs: those of the MADT; without one, APIC IDs from 0, as many as the word `cpus=N`
 * or else CPUID says. At most `cpus=N` in any case. The first that does not come ends the search.
 * Boot CPU only.
 */
#ifndef LIB_SMP_H
#define LIB_SMP_H

#include <stdint.h>
#include "lib/cpu.h"

typedef void SmpWork(void *arg);

/* Starts everyone, needs clock and local APIC and sets both up. Returns how many CPUs run. */
unsigned smp_start(void);

unsigned smp_count(void);
Cpu *smp_cpu(unsigned index);

/* Runs @work(@arg) on another CPU that waits, at CPL 3 with interrupts off. Returns at once. */
void smp_run(unsigned index, SmpWork *work, void *arg);

/* Runs @work(@arg) on every CPU, this one included, and returns when all are done. */
void smp_run_all(SmpWork *work, void *arg);

#endif
