/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdatomic.h>
#include <string.h>
#include <cmocka.h>
#include "tests/support/pci_dummy.h"

#define SLOT3 (3 << 3)
#define COMMAND 0x04
#define MEMORY 2
#define MASTER 4
#define TABLE UINT64_C(0xd1000000)
#define PBA (TABLE + 0x800)

static PciFixture *f;
static PciDummy *d;

static int set_up(void **unused)
{
    f = pci_fixture_new();
    d = pci_dummy_new(f, "addr=3,vectors=40");
    pci_cf8_write(f, SLOT3, 0x10 + PCI_DUMMY_MSIX_BAR * 4, (uint32_t)TABLE, 4);
    pci_cf8_write(f, SLOT3, COMMAND, MEMORY | MASTER, 2);
    return 0;
}

static int tear_down(void **unused)
{
    fake_device_gone(&d->pci.base);
    pci_fixture_free(f);
    return 0;
}

static void set_control(unsigned bits)
{
    pci_cf8_write(f, SLOT3, d->pci.msix.cap + 2u, bits, 2);
}

static void table_write(unsigned vector, unsigned field, uint32_t value)
{
    fake_write(f->m->env.mmio, TABLE + vector * 16 + field, value, 4);
}

static void program(unsigned vector, uint32_t data)
{
    table_write(vector, 0, 0xfee00000);
    table_write(vector, 4, 0);
    table_write(vector, 8, data);
}

static void mask(unsigned vector, bool masked)
{
    table_write(vector, 12, masked);
}

static void test_a_vector_is_delivered_when_enabled_and_unmasked(void **unused)
{
    program(1, 0x41);
    pci_msix_raise(&d->pci, 1); /* MSI-X is off: ignored */
    assert_false(pci_msix_enabled(&d->pci));
    set_control(0x8000);
    assert_true(pci_msix_enabled(&d->pci));
    mask(1, false);
    assert_int_equal(f->m->delivered_count, 0);
    pci_msix_raise(&d->pci, 1);
    pci_msix_raise(&d->pci, 40); /* there is no such vector */
    pci_msix_raise(&d->pci, UINT32_MAX);
    fake_machine_settle(f->m);
    assert_int_equal(f->m->delivered_count, 1);
    assert_int_equal(f->m->delivered[0].data, 0x41);
    assert_true(f->m->delivered[0].address == 0xfee00000);
}

static void test_a_masked_vector_is_pending_and_delivered_once(void **unused)
{
    program(35, 0x55);
    set_control(0x8000);
    pci_msix_raise(&d->pci, 35);
    pci_msix_raise(&d->pci, 35);
    fake_machine_settle(f->m);
    assert_int_equal(f->m->delivered_count, 0);
    assert_int_equal(fake_read(f->m->env.mmio, PBA + 4, 4), 1 << 3);
    assert_true(fake_read(f->m->env.mmio, PBA, 8) == UINT64_C(8) << 32);
    mask(35, false);
    assert_int_equal(fake_machine_delivered(f->m, 0x55), 1);
    assert_int_equal(fake_read(f->m->env.mmio, PBA + 4, 4), 0);
    mask(35, true);
    mask(35, false);
    fake_machine_settle(f->m);
    assert_int_equal(f->m->delivered_count, 1);
}

static void test_function_mask_holds_all_back(void **unused)
{
    for (unsigned i = 0; i < 3; i++) {
        program(i, 0x60 + i);
        mask(i, false);
    }
    set_control(0xc000);
    for (unsigned i = 0; i < 3; i++) {
        pci_msix_raise(&d->pci, i);
    }
    fake_machine_settle(f->m);
    assert_int_equal(f->m->delivered_count, 0);
    assert_int_equal(fake_read(f->m->env.mmio, PBA, 4), 7);
    set_control(0x8000);
    assert_int_equal(f->m->delivered_count, 3);
    assert_int_equal(fake_read(f->m->env.mmio, PBA, 4), 0);
}

static void test_no_bus_master_holds_all_back(void **unused)
{
    program(35, 0x55);
    set_control(0x8000);
    mask(35, false);
    pci_cf8_write(f, SLOT3, COMMAND, MEMORY, 2);
    assert_int_equal(f->m->attached, 0);
    pci_msix_raise(&d->pci, 35);
    mask(35, true);
    mask(35, false);
    fake_machine_settle(f->m);
    assert_int_equal(f->m->delivered_count, 0);
    assert_int_equal(fake_read(f->m->env.mmio, PBA + 4, 4), 1 << 3);
    pci_cf8_write(f, SLOT3, COMMAND, MEMORY | MASTER, 1);
    assert_int_equal(fake_machine_delivered(f->m, 0x55), 1);
    assert_int_equal(fake_read(f->m->env.mmio, PBA + 4, 4), 0);
}

static void test_a_new_message_takes_effect(void **unused)
{
    program(0, 0x41);
    set_control(0x8000);
    mask(0, false);
    pci_msix_raise(&d->pci, 0);
    fake_machine_settle(f->m);
    table_write(0, 8, 0x42);
    pci_msix_raise(&d->pci, 0);
    fake_machine_settle(f->m);
    assert_int_equal(fake_machine_delivered(f->m, 0x41), 1);
    assert_int_equal(fake_machine_delivered(f->m, 0x42), 1);
    assert_int_equal(f->m->attached, 1);
}

static void test_disabling_detaches_every_route(void **unused)
{
    for (unsigned i = 0; i < 40; i++) {
        mask(i, false);
    }
    set_control(0x8000);
    assert_int_equal(f->m->attached, 40);
    set_control(0);
    assert_int_equal(f->m->attached, 0);
}

static void test_msix_silences_intx(void **unused)
{
    unsigned gsi = 16 + pci_intx_gate(SLOT3, 1);
    pci_dummy_set_cause(d, true);
    assert_true(f->m->gsi_level[gsi]);
    set_control(0x8000);
    assert_false(f->m->gsi_level[gsi]);
    set_control(0);
    assert_true(f->m->gsi_level[gsi]);
}

static void test_reserved_bits_and_pba_are_read_only(void **unused)
{
    for (unsigned offset = 0; offset < 0x1000; offset += 8) {
        fake_write(f->m->env.mmio, TABLE + offset, UINT64_MAX, 8);
    }
    assert_int_equal(fake_read(f->m->env.mmio, TABLE, 4), 0xfffffffc);
    assert_int_equal(fake_read(f->m->env.mmio, TABLE + 12, 4), 1);
    assert_int_equal(fake_read(f->m->env.mmio, TABLE + 40 * 16, 4), 0);
    assert_int_equal(fake_read(f->m->env.mmio, PBA, 4), 0);
    assert_int_equal(fake_read(f->m->env.mmio, TABLE + 0xffc, 4), 0);
    assert_int_equal(fake_read(f->m->env.mmio, TABLE, 1), 0xff); /* too narrow */
    assert_int_equal(pci_cf8_read(f, SLOT3, d->pci.msix.cap + 2u, 2) & 0x7ff, 39);
    assert_int_equal(pci_cf8_read(f, SLOT3, d->pci.msix.cap + 8u, 4), 0x800 | PCI_DUMMY_MSIX_BAR);
}

static void test_a_vector_that_cannot_be_attached_stays_pending(void **unused)
{
    program(2, 0x77);
    set_control(0x8000);
    f->m->refuse_attach = true;
    mask(2, false);
    pci_msix_raise(&d->pci, 2);
    assert_int_equal(fake_read(f->m->env.mmio, PBA, 4), 1 << 2);
    f->m->refuse_attach = false;
    mask(2, false);
    assert_int_equal(fake_machine_delivered(f->m, 0x77), 1);
}

static void test_a_machine_short_of_routes_refuses_the_device(void **unused)
{
    g_autoptr(GError) error = NULL;
    unsigned before = f->m->routes->len;
    f->m->route_limit = before + 39; /* one route too few */
    Device *dev = device_new(d->pci.base.type, &f->m->env, NULL);
    g_autoptr(OptDict) dict = opt_dict_parse("addr=4,vectors=40", NULL, NULL);
    assert_true(device_set_properties(dev, dict, NULL));
    assert_false(device_realize(dev, &error));
    assert_non_null(strstr(error->message, "MSI-X vector 39 of 40: no more routes"));
    assert_int_equal(f->m->routes->len, before);
    device_free(dev);
}

/* A table update runs under the BQL and takes time. */
static void test_masking_changes_no_route(void **unused)
{
    for (unsigned i = 0; i < 40; i++) {
        program(i, 0x41 + i);
        mask(i, false);
    }
    set_control(0x8000);
    assert_int_equal(f->m->route_commits, 1); /* for all 40 */
    for (unsigned i = 0; i < 40; i++) {
        mask(i, true);
        mask(i, false);
    }
    set_control(0xc000);
    set_control(0x8000);
    set_control(0);
    set_control(0x8000);
    assert_int_equal(f->m->attached, 40);
    assert_int_equal(f->m->route_commits, 1);
    mask(3, true);
    program(3, 0x99);
    assert_int_equal(f->m->route_commits, 1);
    mask(3, false);
    assert_int_equal(f->m->route_commits, 2);
    pci_msix_raise(&d->pci, 3);
    fake_machine_settle(f->m);
    assert_int_equal(fake_machine_delivered(f->m, 0x99), 1);
}

/* ---- who holds a vector's eventfd ---- */

typedef struct Change {
    unsigned first, count;
} Change;
static Change changes[8];
static unsigned change_count;

static void note_change(PciDevice *dev, unsigned first, unsigned count)
{
    assert_bql();
    assert_true(change_count < G_N_ELEMENTS(changes));
    changes[change_count++] = (Change){first, count};
}

/* Exactly one since the last call. */
static void assert_changed(unsigned first, unsigned count)
{
    assert_int_equal(change_count, 1);
    assert_int_equal(changes[0].first, first);
    assert_int_equal(changes[0].count, count);
    change_count = 0;
}

static int event_fd(unsigned vector, bool *masked)
{
    bql_lock();
    int fd = pci_msix_event_fd(&d->pci, vector, masked);
    bql_unlock();
    return fd;
}

static void test_a_holder_of_an_eventfd_learns_of_each_change(void **unused)
{
    bool masked;
    change_count = 0;
    d->pci.msix_changed = note_change;
    program(5, 0x45);
    assert_int_equal(event_fd(5, &masked), -1);
    mask(5, false); /* MSI-X is off */
    assert_int_equal(change_count, 0);
    set_control(0x8000);
    assert_changed(0, 40);
    int fd = event_fd(5, &masked);
    assert_true(fd >= 0 && !masked);
    assert_true(event_fd(4, &masked) >= 0 && masked);
    assert_int_equal(event_fd(40, &masked), -1);
    assert_int_equal(event_fd(UINT32_MAX, &masked), -1);
    mask(5, true);
    assert_changed(5, 1);
    assert_true(event_fd(5, &masked) == fd && masked);
    mask(5, true); /* the same again, and another message */
    program(5, 0x46);
    assert_int_equal(change_count, 0);
    mask(5, false);
    assert_changed(5, 1);
    program(5, 0x47); /* the machine's route changes, the eventfd does not */
    assert_int_equal(change_count, 0);
    set_control(0xc000);
    assert_changed(0, 40);
    assert_true(event_fd(5, &masked) == fd && masked);
    set_control(0x8000);
    assert_changed(0, 40);
    pci_cf8_write(f, SLOT3, COMMAND, MEMORY, 2);
    assert_changed(0, 40);
    assert_true(event_fd(5, &masked) == fd && masked);
    set_control(0);
    assert_changed(0, 40);
    assert_int_equal(event_fd(5, &masked), -1);
}

static void test_reset_clears_pending_vectors(void **unused)
{
    program(0, 0x41);
    set_control(0x8000);
    mask(1, false);
    pci_msix_raise(&d->pci, 0);
    bql_lock();
    d->pci.base.type->reset(&d->pci.base);
    bql_unlock();
    assert_int_equal(f->m->attached, 0);
    assert_false(pci_msix_enabled(&d->pci));
    pci_cf8_write(f, SLOT3, 0x10 + PCI_DUMMY_MSIX_BAR * 4, (uint32_t)TABLE, 4);
    pci_cf8_write(f, SLOT3, COMMAND, MEMORY | MASTER, 2);
    assert_int_equal(fake_read(f->m->env.mmio, PBA, 4), 0);
    assert_int_equal(fake_read(f->m->env.mmio, TABLE + 12, 4), 1);
}

static void test_pending_vectors_survive_save_and_load(void **unused)
{
    program(5, 0x45);
    set_control(0x8000);
    pci_msix_raise(&d->pci, 5);
    bql_lock();
    pci_device_pre_save(&d->pci);
    bql_unlock();
    g_autoptr(GByteArray) saved = g_byte_array_new();
    state_save(&pci_device_state_desc, d, saved);
    bql_lock();
    d->pci.base.type->reset(&d->pci.base);
    bql_unlock();
    size_t used = 0;
    assert_true(state_load(&pci_device_state_desc, d, saved->data, saved->len, &used, NULL));
    bql_lock();
    pci_device_post_load(&d->pci);
    bql_unlock();
    assert_int_equal(fake_read(f->m->env.mmio, PBA, 4), 1 << 5);
    mask(5, false);
    assert_int_equal(fake_machine_delivered(f->m, 0x45), 1);
}

/* The state is loaded into a device whose vectors deliver: they are the old state's. */
static void test_a_load_delivers_nothing_by_the_routes_before(void **unused)
{
    size_t used;
    program(1, 0x41);
    set_control(0x8000);
    pci_msix_raise(&d->pci, 1);
    bql_lock();
    pci_device_pre_save(&d->pci);
    bql_unlock();
    g_autoptr(GByteArray) saved = g_byte_array_new();
    state_save(&pci_device_state_desc, d, saved);
    mask(1, false);
    fake_machine_settle(f->m);
    assert_int_equal(fake_machine_delivered(f->m, 0x41), 1);
    assert_true(state_load(&pci_device_state_desc, d, saved->data, saved->len, &used, NULL));
    bql_lock();
    pci_device_post_load(&d->pci);
    bql_unlock();
    fake_machine_settle(f->m);
    assert_int_equal(fake_machine_delivered(f->m, 0x41), 1);
    assert_int_equal(fake_read(f->m->env.mmio, PBA, 4), 2);
}

static void *raise_once(void *unused)
{
    pci_msix_raise(&d->pci, 7);
    return NULL;
}

/* An iothread raises while a vCPU masks and unmasks: in either order, the vector is delivered
 * once. */
static void test_a_raise_against_masking_is_delivered_once(void **unused)
{
    program(7, 0x47);
    set_control(0x8000);
    mask(7, false);
    for (unsigned i = 0; i < 500; i++) {
        unsigned before = f->m->delivered_count;
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, raise_once, NULL), 0);
        for (unsigned j = 0; j < 20; j++) {
            mask(7, true);
            set_control(0xc000);
            mask(7, false);
            set_control(0x8000);
        }
        pthread_join(thread, NULL);
        fake_machine_settle(f->m);
        assert_int_equal(f->m->delivered_count, before + 1);
    }
}

/* Iothreads raise continuously while a vCPU masks and unmasks. Deliveries never exceed raises, and
 * a raise that finds the vector masked at the end is not lost. */
typedef struct Raiser {
    _Atomic unsigned raised;
    _Atomic bool quit;
} Raiser;

static void *raiser_run(void *opaque)
{
    Raiser *r = opaque;
    while (!r->quit) {
        r->raised++;
        pci_msix_raise(&d->pci, 7);
    }
    return NULL;
}

static void test_no_raise_is_lost_against_masking(void **unused)
{
    Raiser r = {0};
    pthread_t thread[2];
    program(7, 0x47);
    set_control(0x8000);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, raiser_run, &r), 0);
    }
    for (unsigned i = 0; i < 500; i++) {
        mask(7, false);
        fake_machine_settle(f->m);
        mask(7, true);
        set_control(i % 2 == 0 ? 0xc000 : 0x8000);
        fake_read(f->m->env.mmio, PBA, 4);
    }
    r.quit = true;
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
    }
    set_control(0x8000);
    mask(7, false);
    fake_machine_settle(f->m);
    assert_true(f->m->delivered_count <= r.raised);
    /* all quiet: one raise while masked is one delivery */
    unsigned before = f->m->delivered_count;
    mask(7, true);
    pci_msix_raise(&d->pci, 7);
    mask(7, false);
    assert_int_equal(f->m->delivered_count, before + 1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_vector_is_delivered_when_enabled_and_unmasked),
        TEST(test_a_masked_vector_is_pending_and_delivered_once),
        TEST(test_function_mask_holds_all_back),
        TEST(test_no_bus_master_holds_all_back),
        TEST(test_a_new_message_takes_effect),
        TEST(test_disabling_detaches_every_route),
        TEST(test_msix_silences_intx),
        TEST(test_reserved_bits_and_pba_are_read_only),
        TEST(test_a_vector_that_cannot_be_attached_stays_pending),
        TEST(test_a_machine_short_of_routes_refuses_the_device),
        TEST(test_masking_changes_no_route),
        TEST(test_a_holder_of_an_eventfd_learns_of_each_change),
        TEST(test_reset_clears_pending_vectors),
        TEST(test_pending_vectors_survive_save_and_load),
        TEST(test_a_load_delivers_nothing_by_the_routes_before),
        TEST(test_a_raise_against_masking_is_delivered_once),
        TEST(test_no_raise_is_lost_against_masking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
