/* SPDX-License-Identifier: Apache-2.0 */
/* What a file contains, from its first bytes. */
#include "block/node.h"
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

typedef struct Probe {
    BlockNode *node;
    uint8_t bytes[QCOW2_PROBE_LENGTH]; /* zeroes beyond the end of the file */
    int ret;
} Probe;

static void probe_at_home(void *opaque)
{
    Probe *p = opaque;
    enter_coroutine();
    enter_iothread(p->node->home);
    struct iovec iov = {p->bytes, MIN(sizeof(p->bytes), block_node_size(p->node))};
    p->ret = block_node_co_preadv(p->node, 0, iov.iov_len, &iov, 1);
}

int qcow2_co_probe_node(BlockNode *n, const char **format)
{
    Probe p = {.node = n};
    co_call_in(n->home, probe_at_home, &p);
    *format = qcow2_probe(p.bytes, sizeof(p.bytes));
    return p.ret;
}
