/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/cpuid.h"

#define CPU_HELP_COLUMNS 78

typedef struct CpuHelp {
    FILE *out;
    size_t column;
} CpuHelp;

static void cpu_help_print_feature(const char *name, void *opaque)
{
    CpuHelp *help = opaque;
    size_t width = strlen(name) + 1;
    if (help->column + width > CPU_HELP_COLUMNS) {
        fprintf(help->out, "\n ");
        help->column = 1;
    }
    fprintf(help->out, " %s", name);
    help->column += width;
}

void arch_print_cpu_help(FILE *out)
{
    CpuHelp help = {.out = out, .column = 1};
    fprintf(out, "host   the host's processor, as far as KVM offers it (the default)\n"
                 "max    the same\n\nfeatures, as +name or -name:\n ");
    x86_cpu_feature_foreach(cpu_help_print_feature, &help);
    fprintf(out, "\n");
}
