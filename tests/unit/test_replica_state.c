/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_replica_state.c - whole states: applied as their origin stated them, and taken as a view with a description.
 */
#include "replica_words.h"

static const presence_claim claim = {.epoch = 4, .turn = 1, .random = 7};

static void a_state_comes_with_its_statuses_and_times(void **state)
{
    struct world *world = *state;
    at(world, 500);
    presence_value values[] = {seen(test_value(S0, 1, MODEL_A, "alive"), 11),
                               seen(test_value(S0, 2, MODEL_A, "missing"), 12),
                               seen(test_value(S0, 3, MODEL_B, "controller"), 13)};
    values[1].status = PRESENCE_MISSING;
    values[2].controller_agent = true;
    values[2].user_data = "data";
    uint64_t revision = presence_recorder_revision(world->recorder);
    expect_code(PRESENCE_OK,
                presence_replica_apply_state(world->recorder, S0, &claim, 40, 33, PRESENCE_REASON_TIMED_OUT,
                                             STORY_BEGIN + 20, values, 3, NULL));
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 1);
    expect_recorded(world, values[0], PRESENCE_ALIVE, 11);
    expect_recorded(world, values[1], PRESENCE_MISSING, 12);
    expect_recorded(world, values[2], PRESENCE_ALIVE, 13);
    expect_evidence(world, MODEL_A, "missing", PRESENCE_MISSING, PRESENCE_REASON_TIMED_OUT, 20, 12, 0, 1);
    presence_evidence evidence;
    expect_code(PRESENCE_OK, presence_recorder_agent_evidence(world->recorder, MODEL_A, "alive", &evidence));
    assert_int_equal(evidence.reason, PRESENCE_REASON_UPDATED);
    presence_server_description description = describe(world, S0);
    assert_int_equal(presence_claim_compare(&description.claim, &claim), 0); /* the claim was taken with it */
    assert_false(description.local);
    assert_true(description.complete);
    assert_int_equal(description.number, 40);
    assert_int_equal(description.floor, 33);
    assert_int_equal(description.connections, 3);
    assert_int_equal(description.alive, 2);
}

static void a_lapse_does_not_show_in_it(void **state)
{
    struct world *world = *state;
    presence_value values[] = {seen(test_value(S0, 1, MODEL_A, "alive"), 11),
                               seen(test_value(S0, 2, MODEL_A, "missing"), 12)};
    values[1].status = PRESENCE_MISSING;
    expect_code(PRESENCE_OK, applies_state(world, S0, claim, 40, values, 2));
    expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, S0));
    presence_server_description description;
    presence_connections *stated = presence_replica_state(world->recorder, S0, &description);
    assert_non_null(stated);
    assert_int_equal(description.alive, 1);
    presence_value value;
    expect_code(PRESENCE_OK, presence_connections_find(stated, S0, 1, &value));
    assert_int_equal(value.status, PRESENCE_ALIVE);
    expect_code(PRESENCE_OK, presence_connections_find(stated, S0, 2, &value));
    assert_int_equal(value.status, PRESENCE_MISSING);
    presence_connections *model = presence_connections_for_model(stated, MODEL_A);
    presence_status status;
    expect_code(PRESENCE_OK, presence_connections_agent_status(model, "alive", &status));
    assert_int_equal(status, PRESENCE_ALIVE);
    presence_connections_free(model);
    presence_connections_free(stated);
}

static void it_replaces_all_that_was_known(void **state)
{
    struct world *world = *state;
    const presence_value first[] = {seen(test_value(S0, 1, MODEL_A, "a"), 1), seen(test_value(S0, 2, MODEL_A, "b"), 1)};
    const presence_value second[] = {seen(test_value(S0, 2, MODEL_A, "b"), 5),
                                     seen(test_value(S0, 3, MODEL_A, "c"), 5)};
    expect_code(PRESENCE_OK, applies_state(world, S0, claim, 10, first, 2));
    expect_code(PRESENCE_OK, applies_state(world, S0, claim, 20, second, 2));
    expect_absent(world, S0, 1);
    expect_recorded(world, second[0], PRESENCE_ALIVE, 5);
    expect_recorded(world, second[1], PRESENCE_ALIVE, 5);
    applies(world, S0, claim, disconnect_change(21, 2), true); /* changes go on from its number */
    applies(world, S0, claim, connect_change(20, test_value(S0, 9, MODEL_A, "seen")), false);
    expect_counts(world, 1, 0);
}

static void an_older_number_is_stale_and_the_same_is_taken(void **state)
{
    struct world *world = *state;
    const presence_value first = seen(test_value(S0, 1, MODEL_A, "a"), 1),
                         second = seen(test_value(S0, 2, MODEL_A, "b"), 1);
    expect_code(PRESENCE_OK, applies_state(world, S0, claim, 10, &first, 1));
    expect_refused(world, PRESENCE_E_STALE, applies_state(world, S0, claim, 9, &second, 1));
    expect_code(PRESENCE_OK, applies_state(world, S0, claim, 10, &second, 1)); /* the same number anew: a repair */
    expect_absent(world, S0, 1);
    expect_recorded(world, second, PRESENCE_ALIVE, 1);
}

static void a_larger_claim_is_taken_and_a_smaller_is_stale(void **state)
{
    struct world *world = *state;
    const presence_value value = seen(test_value(S0, 1, MODEL_A, "a"), 1);
    expect_code(PRESENCE_OK, applies_state(world, S0, claim, 10, &value, 1));
    expect_code(PRESENCE_OK, applies_state(world, S0, claim_of(4, 2, 0), 3, &value, 1));
    assert_int_equal(describe(world, S0).number, 3);
    expect_refused(world, PRESENCE_E_STALE, applies_state(world, S0, claim, 99, &value, 1));
    expect_code(PRESENCE_OK, applies_state(world, S0, claim_of(5, 0, 0), 1, NULL, 0));
    expect_absent(world, S0, 1); /* a newer life, stated whole: empty */
    assert_int_equal(describe(world, S0).inherited, 0);
}

static void it_takes_a_server_over_from_local_calls(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "local", 1);
    const presence_value value = seen(test_value(S0, 2, MODEL_A, "remote"), 1);
    expect_code(PRESENCE_OK, applies_state(world, S0, claim, 10, &value, 1));
    expect_absent(world, S0, 1);
    expect_recorded(world, value, PRESENCE_ALIVE, 1);
    expect_refused(world, PRESENCE_E_STALE,
                   presence_recorder_connect(world->recorder, S0, MODEL_A, "local", 1, false, NULL));
}

static void its_list_is_checked_like_an_updates(void **state)
{
    struct world *world = *state;
    const presence_value good = seen(test_value(S0, 1, MODEL_A, "a"), 1);
    expect_code(PRESENCE_OK, applies_state(world, S0, claim, 10, &good, 1));
    presence_error error = {0};
    const presence_value mismatch[] = {good, test_value("machine-1", 2, MODEL_A, "a")};
    expect_refused(world, PRESENCE_E_MISMATCH,
                   presence_replica_apply_state(world->recorder, S0, &claim, 11, 0, PRESENCE_REASON_SERVER_DOWN, 0,
                                                mismatch, 2, &error));
    assert_string_equal(error.message, "connection server mismatch, got \"machine-1\" expected \"machine-0\"");
    const presence_value twice[] = {good, good};
    expect_refused(world, PRESENCE_E_DUPLICATE, applies_state(world, S0, claim, 11, twice, 2));
    const presence_value bad[] = {good, test_value(S0, 2, MODEL_A, "\n")};
    expect_refused(world, PRESENCE_E_INVALID, applies_state(world, S0, claim, 11, bad, 2));
    expect_refused(world, PRESENCE_E_INVALID, applies_state(world, S0, claim, 11, NULL, 2));
    expect_refused(world, PRESENCE_E_INVALID, applies_state(world, "", claim, 11, &good, 1));
    assert_int_equal(describe(world, S0).number, 10);
}

static void a_state_taken_agrees_with_its_description(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, true);
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    connects(world, S1, MODEL_A, "c", 3);
    presence_server_description description;
    presence_connections *taken = presence_replica_state(world->recorder, S0, &description);
    assert_non_null(taken);
    disconnects(world, S0, 1);
    goes_down(world, S0);
    assert_int_equal(description.number, 2);
    assert_int_equal(description.connections, 2);
    assert_int_equal(description.alive, 2);
    assert_int_equal(presence_connections_count(taken), 2);
    struct content *content = content_of(taken);
    assert_int_equal(content->count, 2);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(content->values[i].status, PRESENCE_ALIVE);
    content_free(content);
    presence_connections_free(taken);
    assert_null(presence_replica_state(world->recorder, "machine-9", &description));
}

static void a_state_leaves_out_what_is_inherited(void **state)
{
    struct world *world = *state;
    const presence_value values[] = {seen(test_value(S0, 1, MODEL_A, "a"), 1),
                                     seen(test_value(S0, 2, MODEL_A, "b"), 1)};
    expect_code(PRESENCE_OK, applies_state(world, S0, claim, 10, values, 2));
    claims(world, S0, claim_of(5, 1, 1), true);
    connects(world, S0, MODEL_A, "b", 2);
    connects(world, S0, MODEL_A, "c", 3);
    presence_server_description description;
    presence_connections *taken = presence_replica_state(world->recorder, S0, &description);
    assert_int_equal(description.connections, 2);
    assert_int_equal(description.inherited, 1);
    struct content *content = content_of(taken);
    assert_int_equal(content->count, 2);
    assert_null(content_find(content, S0, 1));
    assert_int_equal(presence_connections_count(taken), 2);
    content_free(content);
    presence_connections_free(taken);
}

static void a_state_carried_over_gives_the_same_digest(void **state)
{
    struct world *world = *state;
    struct world *other = world_new();
    claims(world, S0, claim, true);
    for (uint64_t id = 0; id < 500; id++)
        connects(world, S0, id % 2 ? MODEL_A : MODEL_B, id % 3 ? "a" : "b", id);
    goes_down(world, S0);
    for (uint64_t id = 0; id < 500; id += 5)
        connects(world, S0, MODEL_A, "back", id);
    presence_server_description origin;
    presence_connections *taken = presence_replica_state(world->recorder, S0, &origin);
    struct content *content = content_of(taken);
    expect_code(PRESENCE_OK, presence_replica_apply_state(other->recorder, S0, &claim, origin.number, origin.floor,
                                                          PRESENCE_REASON_SERVER_DOWN, STORY_BEGIN, content->values,
                                                          content->count, NULL));
    presence_server_description copy = describe(other, S0);
    assert_int_equal(copy.number, origin.number);
    assert_int_equal(copy.floor, origin.floor);
    assert_int_equal(copy.connections, origin.connections);
    assert_int_equal(copy.alive, origin.alive);
    assert_true(digests_equal(copy.digest, origin.digest));
    content_free(content);
    presence_connections_free(taken);
    world_free(other);
}

/* The whole state as one recorder describes it, applied to another. */
static void carries_over(struct world *from, struct world *to, const presence_claim *as)
{
    presence_server_description origin;
    presence_connections *taken = presence_replica_state(from->recorder, S0, &origin);
    struct content *content = content_of(taken);
    expect_code(PRESENCE_OK,
                presence_replica_apply_state(to->recorder, S0, as, origin.number, origin.floor, origin.floor_reason,
                                             origin.floor_time, content->values, content->count, NULL));
    content_free(content);
    presence_connections_free(taken);
}

static void expect_same_evidence(struct world *world, struct world *other, const char *agent)
{
    presence_evidence here, there;
    expect_code(PRESENCE_OK, presence_recorder_agent_evidence(world->recorder, MODEL_A, agent, &here));
    expect_code(PRESENCE_OK, presence_recorder_agent_evidence(other->recorder, MODEL_A, agent, &there));
    assert_int_equal(there.status, here.status);
    assert_int_equal(there.reason, here.reason);
    assert_int_equal(there.since, here.since);
    assert_int_equal(there.last_seen, here.last_seen);
    assert_int_equal(there.missing, here.missing);
}

static void a_state_carried_over_tells_why_and_since_when_agents_are_missing(void **state)
{
    struct world *world = *state;
    struct world *other = world_new(), *third = world_new();
    at(other, 777);
    at(third, 888);
    claims(world, S0, claim, true);
    at(world, 1);
    connects(world, S0, MODEL_A, "back", 1);
    at(world, 2);
    connects(world, S0, MODEL_A, "gone", 2);
    connects(world, S0, MODEL_A, "gone", 3);
    assert_int_equal(describe(world, S0).floor_reason, PRESENCE_REASON_NONE);
    assert_int_equal(describe(world, S0).floor_time, 0);
    at(world, 3);
    expect_code(PRESENCE_OK, presence_recorder_server_down_because(world->recorder, S0, PRESENCE_REASON_DRAINED, NULL));
    at(world, 4);
    connects(world, S0, MODEL_A, "back", 1);
    assert_int_equal(describe(world, S0).floor_reason, PRESENCE_REASON_DRAINED);
    assert_int_equal(describe(world, S0).floor_time, STORY_BEGIN + 3);
    carries_over(world, other, &claim);
    carries_over(other, third, &claim); /* any peer may serve what it holds */
    expect_evidence(third, MODEL_A, "gone", PRESENCE_MISSING, PRESENCE_REASON_DRAINED, 3, 2, 0, 2);
    expect_same_evidence(world, other, "gone");
    expect_status(other, MODEL_A, "back", PRESENCE_ALIVE);

    at(world, 5); /* of two that they went missing in, the last is told */
    goes_down(world, S0);
    assert_int_equal(describe(world, S0).floor_reason, PRESENCE_REASON_SERVER_DOWN);
    assert_int_equal(describe(world, S0).floor_time, STORY_BEGIN + 5);
    carries_over(world, other, &claim);
    expect_same_evidence(world, other, "back");
    for (uint64_t id = 1; id <= 3; id++)
        connects(world, S0, MODEL_A, id == 1 ? "back" : "gone", id);
    assert_int_equal(describe(world, S0).floor_reason, PRESENCE_REASON_NONE);
    assert_int_equal(describe(world, S0).floor_time, 0);
    world_free(third);
    world_free(other);
}

static void what_was_missing_before_the_first_claim_is_told_too(void **state)
{
    struct world *world = *state;
    struct world *other = world_new();
    connects(world, S0, MODEL_A, "gone", 1);
    at(world, 9);
    goes_down(world, S0);
    claims(world, S0, claim, true); /* takes it in, as number 0 */
    assert_int_equal(describe(world, S0).floor, 0);
    carries_over(world, other, &claim);
    expect_same_evidence(world, other, "gone");
    expect_evidence(other, MODEL_A, "gone", PRESENCE_MISSING, PRESENCE_REASON_SERVER_DOWN, 9, 0, 0, 1);
    claims(world, S0, claim_of(5, 1, 1), true); /* of an older life: it was missing before that, and stays so */
    connects(world, S0, MODEL_A, "new", 2);
    assert_int_equal(describe(world, S0).inherited, 1);
    assert_int_equal(describe(world, S0).floor_reason, PRESENCE_REASON_SERVER_DOWN);
    assert_int_equal(describe(world, S0).floor_time, STORY_BEGIN + 9);
    world_free(other);
}

/* Of two ids of an older claim one was restated under the new one; a server_down before it left a third missing. */
static void inherits(struct world *world, bool newer_life)
{
    claims(world, S0, claim_of(3, 1, 9), false);
    presence_value values[] = {seen(test_value(S0, 1, MODEL_A, "one"), 11), seen(test_value(S0, 2, MODEL_A, "two"), 12),
                               seen(test_value(S0, 3, MODEL_A, "three"), 13)};
    values[0].status = values[1].status = PRESENCE_ALIVE;
    values[2].status = PRESENCE_MISSING;
    expect_code(PRESENCE_OK, presence_replica_apply_state(world->recorder, S0, &(presence_claim){3, 1, 9}, 7, 5,
                                                          PRESENCE_REASON_DRAINED, STORY_BEGIN + 5, values, 3, NULL));
    at(world, 20);
    claims(world, S0, newer_life ? claim : claim_of(3, 2, 9), true);
    connects(world, S0, MODEL_A, "one", 1);
}

/* The whole state of an incomplete claim, as it would travel: what is inherited comes last. */
static int carries_incomplete(struct world *from, struct world *to, bool in_pieces)
{
    presence_server_description origin;
    presence_connections *taken = presence_replica_state(from->recorder, S0, &origin),
                         *rest = presence_replica_inherited(taken);
    struct content *stated = content_of(taken), *inherited = content_of(rest);
    assert_int_equal(inherited->count, origin.inherited);
    assert_int_equal(presence_connections_count(rest), origin.inherited);
    presence_value values[8];
    memcpy(values, stated->values, stated->count * sizeof values[0]);
    memcpy(values + stated->count, inherited->values, inherited->count * sizeof values[0]);
    presence_state_writer *writer = NULL;
    int code;
    if (!in_pieces) {
        code = presence_replica_apply_incomplete(to->recorder, S0, &origin.claim, origin.number, origin.floor,
                                                 origin.floor_reason, origin.floor_time, values,
                                                 stated->count + inherited->count, inherited->count, NULL);
    } else {
        expect_code(PRESENCE_OK,
                    presence_replica_state_begin(to->recorder, S0, &origin.claim, origin.number, origin.floor,
                                                 origin.floor_reason, origin.floor_time, &writer, NULL));
        expect_code(PRESENCE_OK,
                    presence_replica_state_add_inherited(writer, inherited->values, inherited->count, NULL));
        expect_code(PRESENCE_OK, presence_replica_state_add(writer, stated->values, stated->count, NULL));
        code = presence_replica_state_commit(writer, NULL);
    }
    content_free(stated);
    content_free(inherited);
    presence_connections_free(rest);
    presence_connections_free(taken);
    return code;
}

static void expect_incomplete(struct world *world, struct world *other)
{
    presence_server_description there = describe(world, S0), here = describe(other, S0);
    assert_int_equal(here.inherited, there.inherited);
    assert_int_equal(here.connections, there.connections);
    assert_int_equal(here.alive, there.alive);
    assert_true(digests_equal(here.digest, there.digest));
    assert_true(here.complete == !there.inherited);
    for (uint64_t id = 1; id <= 3; id++) {
        presence_value a, b;
        presence_connections *one = presence_recorder_connections(world->recorder),
                             *two = presence_recorder_connections(other->recorder);
        expect_code(presence_connections_find(one, S0, id, &a), presence_connections_find(two, S0, id, &b));
        assert_int_equal(a.status, b.status);
        assert_int_equal(a.last_seen, b.last_seen);
        presence_connections_free(one);
        presence_connections_free(two);
    }
}

static void a_state_of_an_incomplete_claim_comes_with_what_is_inherited(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        bool newer_life = way & 1, in_pieces = way & 2;
        struct world *world = world_new(), *other = world_new(), *third = world_new();
        inherits(world, newer_life);
        expect_code(PRESENCE_OK, carries_incomplete(world, other, in_pieces));
        expect_incomplete(world, other);
        expect_code(PRESENCE_OK, carries_incomplete(other, third, in_pieces)); /* any peer may serve what it holds */
        expect_incomplete(world, third);
        expect_evidence(third, MODEL_A, "three", PRESENCE_MISSING,
                        newer_life ? PRESENCE_REASON_SUPERSEDED : PRESENCE_REASON_DRAINED, newer_life ? 20 : 5, 13, 0,
                        1);
        assert_int_equal(presence_recorder_check(third->recorder, NULL), PRESENCE_OK);
        presence_claim now = describe(world, S0).claim;
        applies(third, S0, now, connect_change(2, test_value(S0, 2, MODEL_A, "two")), true);
        assert_int_equal(describe(third, S0).inherited, 1);
        applies(third, S0, now, complete_change(3), true);
        assert_int_equal(describe(third, S0).inherited, 0);
        expect_absent(third, S0, 3);
        assert_int_equal(describe(third, S0).connections, 2);
        world_free(third);
        world_free(other);
        world_free(world);
    }
}

/* A server_down under the claim leaves what is inherited missing with what is stated. */
static void what_went_down_under_an_incomplete_claim_is_missing_there_too(void **state)
{
    struct world *world = *state;
    struct world *other = world_new();
    inherits(world, false);
    at(world, 30);
    goes_down(world, S0);
    connects(world, S0, MODEL_A, "four", 4);
    expect_code(PRESENCE_OK, carries_incomplete(world, other, false));
    expect_incomplete(world, other);
    assert_int_equal(describe(other, S0).alive, 1);
    expect_counts(other, 1, 3);
    expect_evidence(other, MODEL_A, "two", PRESENCE_MISSING, PRESENCE_REASON_SERVER_DOWN, 30, 12, 0, 1);
    assert_int_equal(presence_recorder_check(other->recorder, NULL), PRESENCE_OK);
    presence_value values[] = {seen(test_value(S0, 1, MODEL_A, "one"), 1), seen(test_value(S0, 2, MODEL_A, "two"), 2)};
    values[0].status = PRESENCE_MISSING;
    values[1].status = PRESENCE_ALIVE;
    presence_claim now = describe(world, S0).claim;
    expect_code(PRESENCE_E_INVALID, presence_replica_apply_incomplete(other->recorder, S0, &now, 9, 8,
                                                                      PRESENCE_REASON_DRAINED, 0, values, 2, 1, NULL));
    expect_code(PRESENCE_E_INVALID, presence_replica_apply_incomplete(other->recorder, S0, &now, 9, 8,
                                                                      PRESENCE_REASON_DRAINED, 0, values, 2, 3, NULL));
    expect_incomplete(world, other);
    assert_null(presence_replica_inherited(NULL));
    presence_connections *view = presence_recorder_connections(world->recorder);
    assert_null(presence_replica_inherited(view));
    presence_connections_free(view);
    world_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(a_state_comes_with_its_statuses_and_times),
        story(a_lapse_does_not_show_in_it),
        story(it_replaces_all_that_was_known),
        story(an_older_number_is_stale_and_the_same_is_taken),
        story(a_larger_claim_is_taken_and_a_smaller_is_stale),
        story(it_takes_a_server_over_from_local_calls),
        story(its_list_is_checked_like_an_updates),
        story(a_state_taken_agrees_with_its_description),
        story(a_state_leaves_out_what_is_inherited),
        story(a_state_carried_over_gives_the_same_digest),
        story(a_state_carried_over_tells_why_and_since_when_agents_are_missing),
        story(what_was_missing_before_the_first_claim_is_told_too),
        story(a_state_of_an_incomplete_claim_comes_with_what_is_inherited),
        story(what_went_down_under_an_incomplete_claim_is_missing_there_too),
    };
    return cmocka_run_group_tests_name("replica_state", tests, NULL, NULL);
}
