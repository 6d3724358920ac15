/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "tests/support/fake_machine.h"

typedef struct Lamp {
    Device base;
    uint32_t brightness;
    char *colour;
    unsigned realized, resets, unrealized;
} Lamp;

static bool lamp_realize(Device *dev, GError **error)
{
    Lamp *lamp = (Lamp *)dev;
    if (lamp->colour != NULL && strcmp(lamp->colour, "black") == 0) {
        g_set_error_literal(error, OPT_ERROR, OPT_ERROR_VALUE, "there is no black light");
        return false;
    }
    lamp->realized++;
    return true;
}

static void lamp_reset(Device *dev)
{
    assert_bql();
    ((Lamp *)dev)->resets++;
}

static void lamp_unrealize(Device *dev)
{
    ((Lamp *)dev)->unrealized++;
}

static const OptSpec lamp_properties[] = {
    {.name = "brightness",
     .type = OPT_U32,
     .offset = offsetof(Lamp, brightness),
     .def = "7",
     .max = 10},
    {.name = "colour", .type = OPT_STRING, .offset = offsetof(Lamp, colour)},
    {0},
};

static const DeviceType lamp_type = {
    .name = "lamp",
    .instance_size = sizeof(Lamp),
    .properties = lamp_properties,
    .realize = lamp_realize,
    .reset = lamp_reset,
    .unrealize = lamp_unrealize,
};

static bool lamp_set(Lamp *lamp, const char *text, GError **error)
{
    g_autoptr(OptDict) dict = opt_dict_parse(text, NULL, NULL);
    assert_non_null(dict);
    return device_set_properties(&lamp->base, dict, error);
}

static int become_main(void **unused)
{
    thread_adopt_role(THREAD_MAIN, "main");
    return 0;
}

static void test_a_device_lives_from_new_to_free(void **unused)
{
    Lamp *lamp = (Lamp *)device_new(&lamp_type, NULL, "desk");
    assert_string_equal(device_label(&lamp->base), "desk");
    assert_int_equal(lamp->brightness, 7);
    assert_true(lamp_set(lamp, "brightness=3,colour=red", NULL));
    assert_int_equal(lamp->brightness, 3);
    assert_true(device_realize(&lamp->base, NULL));
    assert_int_equal(lamp->realized, 1);
    assert_int_equal(lamp->resets, 1);
    device_unrealize(&lamp->base);
    device_unrealize(&lamp->base);
    assert_int_equal(lamp->unrealized, 1);
    device_free(&lamp->base);
    device_free(NULL);
}

static void test_wrong_properties_are_named(void **unused)
{
    Lamp *lamp = (Lamp *)device_new(&lamp_type, NULL, NULL);
    assert_string_equal(device_label(&lamp->base), "lamp");
    g_autoptr(GError) error = NULL;
    assert_false(lamp_set(lamp, "colour=red,brightness=11", &error));
    assert_non_null(strstr(error->message, "brightness"));
    g_clear_error(&error);
    assert_false(lamp_set(lamp, "color=red", &error));
    assert_non_null(strstr(error->message, "colour")); /* the nearest known one */
    device_free(&lamp->base);
}

static void test_a_device_that_fails_to_realize_can_be_freed(void **unused)
{
    Lamp *lamp = (Lamp *)device_new(&lamp_type, NULL, NULL);
    assert_true(lamp_set(lamp, "colour=black", NULL));
    g_autoptr(GError) error = NULL;
    assert_false(device_realize(&lamp->base, &error));
    assert_string_equal(error->message, "there is no black light");
    assert_int_equal(lamp->resets, 0);
    device_unrealize(&lamp->base);
    assert_int_equal(lamp->unrealized, 0);
    device_free(&lamp->base);
}

static void test_every_type_in_the_table_is_found_and_sound(void **unused)
{
    assert_null(device_type_find("no-such-device"));
    for (const DeviceType *const *t = device_type_all(); *t != NULL; t++) {
        assert_ptr_equal(device_type_find((*t)->name), *t);
        assert_non_null((*t)->description);
        assert_true((*t)->instance_size >= sizeof(Device));
        if ((*t)->state != NULL) {
            GError *error = NULL;
            if (!state_check_coverage((*t)->state, &error)) {
                fail_msg("%s: %s", (*t)->name, error->message);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_device_lives_from_new_to_free),
        cmocka_unit_test(test_wrong_properties_are_named),
        cmocka_unit_test(test_a_device_that_fails_to_realize_can_be_freed),
        cmocka_unit_test(test_every_type_in_the_table_is_found_and_sound),
    };
    return cmocka_run_group_tests(tests, become_main, NULL);
}
