/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile qcow2 images: the generated images of tests/block/qcow2 with fields, entries and bytes
 * changed, copied and cut off. Each is opened, read, checked and repaired, or written to. What must
 * hold:
 *   - opening ends in one line, or in a disk whose requests end;
 *   - a repair that leaves no errors leaves none for a check to find;
 *   - a step ends within FUZZ_STEP_SECONDS.
 *
 *   fuzz_qcow2 [--seconds N] [--seed N] [--steps N]
 */
#include "tests/block/qcow2/qcow2_corpus.h"
#include "tests/support/fuzzer.h"
#include "util/log.h"

#define FUZZ_STEP_SECONDS 60u

static Corpus fuzz_images[2];

static uint64_t fuzz_value(const Corpus *c, uint64_t old)
{
    static const uint64_t flags[] = {0,   QCOW2_ENTRY_COPIED, QCOW2_ENTRY_COMPRESSED,
                                     512, QCOW2_ENTRY_ZERO,   QCOW2_ENTRY_COPIED | 1};
    switch (fuzz_below(6)) {
    case 0:
        return old ^ (uint64_t)1 << fuzz_below(64);
    case 1:
        return old + fuzz_below(5) - 2;
    case 2:
        return fuzz_random() >> fuzz_below(64);
    case 3:
        return UINT64_MAX << fuzz_below(64);
    default:
        return fuzz_below(CORPUS_CLUSTERS + 2) * c->cluster | FUZZ_PICK(flags);
    }
}

static void fuzz_damage(Corpus *c)
{
    const CorpusField *f = &g_array_index(c->fields, CorpusField, fuzz_below(c->fields->len));
    uint64_t at = fuzz_below(c->size - 8) & ~(uint64_t)7;
    switch (fuzz_below(8)) {
    case 0: /* an entry of any table */
        corpus_set(c, at, 8, fuzz_value(c, corpus_get(c, at, 8)));
        break;
    case 1: /* a cluster with the contents of another */
        memmove(c->bytes + fuzz_below(CORPUS_CLUSTERS) * c->cluster,
                c->bytes + fuzz_below(CORPUS_CLUSTERS) * c->cluster, c->cluster);
        break;
    case 2: /* a field in the place of another */
        corpus_set(c, f->at, f->width, corpus_get(c, at, 8));
        break;
    default:
        corpus_set(c, f->at, f->width, fuzz_value(c, corpus_get(c, f->at, f->width)));
    }
}

static coroutine_fn RUNS_IN_MAIN void fuzz_step(void)
{
    const Corpus *image = &fuzz_images[fuzz_below(4) == 0];
    Corpus c = *image;
    c.bytes = g_memdup2(image->bytes, image->size);
    for (uint64_t i = fuzz_below(5) + 1; i > 0; i--) {
        fuzz_damage(&c);
    }
    size_t size = c.size;
    if (fuzz_below(8) == 0) {
        size = (fuzz_below(c.size / BLOCK_SECTOR_SIZE) + 1) * BLOCK_SECTOR_SIZE;
    }
    alarm(FUZZ_STEP_SECONDS);
    if (fuzz_below(2) == 0) {
        corpus_try(c.bytes, size, "fuzz");
    } else {
        corpus_try_writing(c.bytes, size, "fuzz");
    }
    alarm(0);
    g_free(c.bytes);
}

static coroutine_fn RUNS_IN_MAIN void fuzz_body(void)
{
    corpus_make(&fuzz_images[0], false);
    corpus_make(&fuzz_images[1], true);
    while (fuzz_goes_on()) {
        fuzz_step();
    }
    corpus_clear(&fuzz_images[0]);
    corpus_clear(&fuzz_images[1]);
}

int main(int argc, char **argv)
{
    fuzz_begin("fuzz_qcow2", argc, argv);
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    if (block_test_setup(NULL) != 0 || !log_open("/dev/null", false)) {
        return 1;
    }
    test_run(fuzz_body);
    block_test_teardown(NULL);
    fuzz_end("images");
    return 0;
}
