/* SPDX-License-Identifier: Apache-2.0 */
/* What a file contains, from its first bytes. Only for backing files whose overlay does not say. */
#include "block/qcow2/qcow2.h"
#include "block/qcow2/qcow2_header.h"

typedef struct ProbeMagic {
    const char *format;
    const char *magic;
    size_t length;
} ProbeMagic;

/* Formats that must not be taken for raw. */
static const ProbeMagic probe_magics[] = {
    {"vmdk", "KDMV", 4},         {"vmdk", "COWD", 4},    {"vmdk", "# Disk DescriptorFile", 21},
    {"qed", "QED\0", 4},         {"vpc", "conectix", 8}, {"vhdx", "vhdxfile", 8},
    {"luks", "LUKS\xba\xbe", 6},
};

const char *qcow2_probe(const uint8_t *bytes, size_t length)
{
    if (length >= 8 && qcow2_get32(bytes) == QCOW2_MAGIC) {
        return qcow2_get32(bytes + 4) >= 2 ? "qcow2" : "qcow";
    }
    for (size_t i = 0; i < G_N_ELEMENTS(probe_magics); i++) {
        const ProbeMagic *m = &probe_magics[i];
        if (length >= m->length && memcmp(bytes, m->magic, m->length) == 0) {
            return m->format;
        }
    }
    return "raw";
}

bool qcow2_probe_supported(const char *format)
{
    return strcmp(format, "raw") == 0 || strcmp(format, "qcow2") == 0;
}
