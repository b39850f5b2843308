/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_error_order.c - where several things are wrong: disabled, then the arguments, then the list in its order, then
 * claims, limits and memory.
 */
#include "../support/story.h"

#define S0 "machine-0"

static int update(struct world *world, const presence_value *values, size_t count)
{
    return presence_recorder_update_server(world->recorder, S0, values, count, NULL);
}

static void disabled_comes_first(void **state)
{
    struct world *world = *state;
    presence_recorder *recorder = world->recorder;
    presence_recorder_disable(recorder);
    presence_status status;
    expect_code(PRESENCE_E_DISABLED, presence_recorder_connect(recorder, "", "", "", 1, false, "\xff"));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_disconnect(recorder, NULL, 1));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_activity(recorder, "\x01", 1));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_server_down(recorder, NULL));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_update_server(recorder, NULL, NULL, 3, NULL));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_merge_server(recorder, "", NULL, 3, NULL));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_merge_server_since(recorder, "", UINT64_MAX, NULL, 3, NULL));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_agent_status(recorder, "", NULL, &status));
}

static void arguments_come_before_the_list(void **state)
{
    struct world *world = *state;
    const presence_value mismatch = test_value("machine-1", 1, MODEL_A, "a");
    expect_refused(world, PRESENCE_E_INVALID,
                   presence_recorder_update_server(world->recorder, "bad\nname", &mismatch, 1, NULL));
    expect_refused(world, PRESENCE_E_INVALID, /* the revision is an argument */
                   presence_recorder_merge_server_since(world->recorder, S0, UINT64_MAX, &mismatch, 1, NULL));
}

static void the_list_is_judged_in_its_order(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 9);
    const presence_value good = test_value(S0, 1, MODEL_A, "a"), mismatch = test_value("machine-1", 2, MODEL_A, "a"),
                         bad_name = test_value(S0, 3, MODEL_A, "");
    const presence_value first_mismatch[] = {good, mismatch, bad_name, good};
    expect_refused(world, PRESENCE_E_MISMATCH, update(world, first_mismatch, 4));
    const presence_value first_bad[] = {good, bad_name, mismatch, good};
    expect_refused(world, PRESENCE_E_INVALID, update(world, first_bad, 4));
    const presence_value first_duplicate[] = {good, good, mismatch, bad_name};
    expect_refused(world, PRESENCE_E_DUPLICATE, update(world, first_duplicate, 4));
    const presence_value duplicate_last[] = {good, mismatch, good};
    expect_refused(world, PRESENCE_E_MISMATCH, update(world, duplicate_last, 3));
}

static void the_list_comes_before_claims(void **state)
{
    struct world *world = *state;
    const presence_claim claim = {.epoch = 1, .turn = 1, .random = 1};
    expect_code(PRESENCE_OK, presence_replica_claim(world->recorder, S0, &claim, false));
    const presence_value mismatch = test_value("machine-1", 1, MODEL_A, "a"), good = test_value(S0, 1, MODEL_A, "a");
    expect_refused(world, PRESENCE_E_MISMATCH, update(world, &mismatch, 1));
    expect_refused(world, PRESENCE_E_STALE, update(world, &good, 1));
    expect_refused(world, PRESENCE_E_INVALID,
                   presence_recorder_connect(world->recorder, S0, MODEL_A, "", 1, false, NULL));
    expect_refused(world, PRESENCE_E_STALE,
                   presence_recorder_connect(world->recorder, S0, MODEL_A, "a", 1, false, NULL));
}

static void the_list_and_claims_come_before_limits(void **state)
{
    struct world *world = *state;
    presence_options options = world_options(world);
    options.limit_connections = 1;
    world_restart(world, &options);
    connects(world, "machine-7", MODEL_A, "a", 1);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "a"),
                                   test_value(S0, 1, MODEL_A, "a")};
    expect_refused(world, PRESENCE_E_DUPLICATE, update(world, list, 3));
    expect_refused(world, PRESENCE_E_LIMIT, update(world, list, 2));
    expect_refused(world, PRESENCE_E_INVALID,
                   presence_recorder_connect(world->recorder, S0, MODEL_A, "", 1, false, NULL));
    const presence_claim claim = {.epoch = 1, .turn = 1, .random = 1};
    expect_code(PRESENCE_OK, presence_replica_claim(world->recorder, S0, &claim, false));
    expect_refused(world, PRESENCE_E_STALE, update(world, list, 2));
}

static void missing_places_for_answers_are_refused(void **state)
{
    struct world *world = *state;
    presence_recorder *recorder = world->recorder;
    connects(world, S0, MODEL_A, "a", 1);
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_agent_status(recorder, MODEL_A, "a", NULL));
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_agent_evidence(recorder, MODEL_A, "a", NULL));
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_counts(recorder, NULL));
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_find_handle(recorder, S0, 1, NULL));
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_activity_handle(recorder, NULL));
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_disconnect_handle(recorder, NULL));
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_activity_many(recorder, S0, NULL, 1, NULL));
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_disconnect_handles(recorder, NULL, 1, NULL));
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_connect_many(recorder, NULL, 1, NULL, NULL));
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_connect_handle(recorder, NULL, NULL, NULL, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(disabled_comes_first),
        story(arguments_come_before_the_list),
        story(the_list_is_judged_in_its_order),
        story(the_list_comes_before_claims),
        story(the_list_and_claims_come_before_limits),
        story(missing_places_for_answers_are_refused),
    };
    return cmocka_run_group_tests_name("error_order", tests, NULL, NULL);
}
