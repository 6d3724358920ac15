/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other CPUs. smp_start() starts them one by one (INIT, SIPI); then each waits in hlt for work.
 * It starts the CPUs of the MADT. Without a MADT it tries APIC IDs from 0, as many as the word
 * `cpus=N` or else CPUID says. `cpus=N` is always a maximum. The first CPU that does not start ends
 * the search. Boot CPU only.
 */
#ifndef LIB_SMP_H
#define LIB_SMP_H

#include <stdint.h>
#include "lib/cpu.h"

typedef void SmpWork(void *arg);

/* Starts all CPUs; sets up clock and local APIC. Returns how many CPUs run. */
unsigned smp_start(void);

unsigned smp_count(void);
Cpu *smp_cpu(unsigned index);

/* Runs @work(@arg) on another, waiting CPU, at CPL 3 with interrupts off. Returns at once. */
void smp_run(unsigned index, SmpWork *work, void *arg);

/* Runs @work(@arg) on every CPU, including this one, and returns when all are done. */
void smp_run_all(SmpWork *work, void *arg);

#endif
