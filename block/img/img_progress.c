/* SPDX-License-Identifier: Apache-2.0 */
/* The progress of a long operation: a line with -p, and a report on standard error on SIGUSR1. */
#include <signal.h>
#include <stdio.h>
#include "block/img/img.h"

static volatile sig_atomic_t progress_asked;

static void progress_signal(int number)
{
    progress_asked = 1;
}

void img_progress_init(ImgProgress *p, bool line, double step)
{
    struct sigaction action = {.sa_handler = progress_signal, .sa_flags = SA_RESTART};
    *p = (ImgProgress){.line = line, .step = step, .printed = -1};
    sigaction(SIGUSR1, &action, NULL);
}

void img_progress_set(ImgProgress *p, uint64_t done, uint64_t total)
{
    double percent = total > 0 ? 100.0 * (double)done / (double)total : 100.0;
    bool ends = done == 0 || done >= total;
    if (progress_asked) {
        progress_asked = 0;
        fprintf(stderr, "    (%3.2f/100%%)\n", percent);
    }
    if (p->line && (ends || percent > p->printed + p->step)) {
        p->printed = percent;
        printf("    (%3.2f/100%%)\r", percent);
        fflush(stdout);
    }
}

void img_progress_end(const ImgProgress *p)
{
    if (p->line) {
        putchar('\n');
    }
}
