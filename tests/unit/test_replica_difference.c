/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_replica_difference.c - what became of a server since a revision: what is told of it, and that it makes of an
 * older state the present one, all at once and only if the digest says so.
 */
#include "replica_words.h"

static const presence_claim claim = {.epoch = 4, .turn = 1, .random = 7}, larger = {.epoch = 4, .turn = 2, .random = 1};

enum { GONE = 8 };

/* What came since, as it would travel. */
struct difference {
    presence_server_description state;
    struct content *content;
    uint64_t gone[GONE];
    size_t gone_count;
};

static int difference_is(struct world *world, uint64_t revision, size_t most)
{
    struct difference told;
    presence_connections *view = NULL;
    int code = presence_replica_difference(world->recorder, S0, revision, &told.state, told.gone, most,
                                           &told.gone_count, &view);
    assert_true((code == PRESENCE_OK) == (view != NULL));
    presence_connections_free(view);
    return code;
}

static struct difference difference_since(struct world *world, uint64_t revision)
{
    struct difference told = {0};
    presence_connections *view = NULL;
    expect_code(PRESENCE_OK, presence_replica_difference(world->recorder, S0, revision, &told.state, told.gone, GONE,
                                                         &told.gone_count, &view));
    told.content = content_of(view);
    assert_int_equal(presence_connections_count(view), told.content->count);
    presence_connections_free(view);
    return told;
}

static int apply_is(struct world *to, uint64_t since, const struct difference *told)
{
    return presence_replica_apply_difference(to->recorder, S0, since, &told->state, told->content->values,
                                             told->content->count, told->gone, told->gone_count, NULL);
}

/* Ids 1 to 4 at number 4, on the origin and on a follower. */
static struct world *two_that_hold_the_same(struct world *origin)
{
    struct world *follower = world_new();
    claims(origin, S0, claim, true);
    claims(follower, S0, claim, false);
    for (uint64_t id = 1; id <= 4; id++)
        connects(origin, S0, MODEL_A, id % 2 ? "odd" : "even", id);
    expect_code(PRESENCE_OK, presence_replica_complete(origin->recorder, S0, NULL));
    presence_server_description described;
    presence_connections *view = presence_replica_state(origin->recorder, S0, &described);
    struct content *content = content_of(view);
    expect_code(PRESENCE_OK, applies_state(follower, S0, claim, described.number, content->values, content->count));
    content_free(content);
    presence_connections_free(view);
    return follower;
}

static void expect_the_same(struct world *origin, struct world *follower)
{
    presence_server_description there = describe(origin, S0), here = describe(follower, S0);
    assert_int_equal(here.number, there.number);
    assert_int_equal(here.floor, there.floor);
    assert_int_equal(here.connections, there.connections);
    assert_int_equal(here.alive, there.alive);
    assert_true(digests_equal(here.digest, there.digest));
    assert_true(here.complete);
}

static void what_came_since_makes_the_present_state(void **state)
{
    struct world *origin = *state;
    struct world *follower = two_that_hold_the_same(origin);
    uint64_t revision = presence_recorder_revision(origin->recorder), number = describe(origin, S0).number;
    connects(origin, S0, MODEL_B, "new", 5);
    disconnects(origin, S0, 1);
    disconnects(origin, S0, 2);
    connects(origin, S0, MODEL_B, "back", 2);
    struct difference told = difference_since(origin, revision);
    assert_int_equal(told.content->count, 2);
    assert_non_null(content_find(told.content, S0, 5));
    assert_non_null(content_find(told.content, S0, 2));
    assert_int_equal(told.gone_count, 2);
    uint64_t before = presence_recorder_revision(follower->recorder);
    expect_code(PRESENCE_OK, apply_is(follower, number, &told));
    assert_int_equal(presence_recorder_revision(follower->recorder), before + 1);
    expect_the_same(origin, follower);
    expect_absent(follower, S0, 1);
    expect_code(PRESENCE_OK, apply_is(follower, number, &told)); /* at the same number it says nothing new */
    expect_the_same(origin, follower);
    content_free(told.content);
    world_free(follower);
}

static void a_floor_makes_missing_what_is_not_named(void **state)
{
    struct world *origin = *state;
    struct world *follower = two_that_hold_the_same(origin);
    uint64_t revision = presence_recorder_revision(origin->recorder), number = describe(origin, S0).number;
    at(origin, 50);
    expect_code(PRESENCE_OK,
                presence_recorder_server_down_because(origin->recorder, S0, PRESENCE_REASON_DRAINED, NULL));
    connects(origin, S0, MODEL_A, "odd", 3);
    struct difference told = difference_since(origin, revision);
    assert_int_equal(told.content->count, 1);
    expect_code(PRESENCE_OK, apply_is(follower, number, &told));
    expect_the_same(origin, follower);
    assert_int_equal(describe(follower, S0).alive, 1);
    expect_evidence(follower, MODEL_A, "even", PRESENCE_MISSING, PRESENCE_REASON_DRAINED, 50, 0, 0, 2);
    /* and what comes after it from before the floor leaves it where it is */
    number = describe(origin, S0).number;
    connects(origin, S0, MODEL_A, "even", 2);
    content_free(told.content);
    told = difference_since(origin, revision);
    assert_int_equal(told.content->count, 2);
    expect_code(PRESENCE_OK, apply_is(follower, number, &told));
    expect_the_same(origin, follower);
    content_free(told.content);
    world_free(follower);
}

static void to_another_digest_nothing_is_taken(void **state)
{
    struct world *origin = *state;
    struct world *follower = two_that_hold_the_same(origin);
    uint64_t revision = presence_recorder_revision(origin->recorder), number = describe(origin, S0).number;
    connects(origin, S0, MODEL_B, "new", 5);
    disconnects(origin, S0, 1);
    struct difference told = difference_since(origin, revision);
    presence_server_description before = describe(follower, S0);
    uint64_t at = presence_recorder_revision(follower->recorder);
    told.state.digest.all++;
    expect_code(PRESENCE_E_GAP, apply_is(follower, number, &told));
    told.state.digest.all--;
    told.state.digest.alive++;
    expect_code(PRESENCE_E_GAP, apply_is(follower, number, &told));
    told.state.digest.alive--;
    told.gone_count = 0;
    expect_code(PRESENCE_E_GAP, apply_is(follower, number, &told));
    told.gone_count = 1;
    presence_server_description after = describe(follower, S0);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(presence_recorder_revision(follower->recorder), at);
    expect_counts(follower, 4, 0);
    expect_code(PRESENCE_OK, apply_is(follower, number, &told));
    expect_the_same(origin, follower);
    content_free(told.content);
    world_free(follower);
}

static void it_is_for_who_holds_what_it_is_from(void **state)
{
    struct world *origin = *state;
    struct world *follower = two_that_hold_the_same(origin), *empty = world_new();
    uint64_t revision = presence_recorder_revision(origin->recorder), number = describe(origin, S0).number;
    connects(origin, S0, MODEL_B, "new", 5);
    struct difference told = difference_since(origin, revision);
    expect_code(PRESENCE_E_GAP, apply_is(empty, number, &told));        /* nothing is known here */
    expect_code(PRESENCE_E_GAP, apply_is(follower, number + 1, &told)); /* it begins later */
    expect_code(PRESENCE_E_INVALID, apply_is(follower, number + 2, &told));
    expect_code(PRESENCE_E_STALE, apply_is(origin, number, &told)); /* who states it knows better */
    expect_code(PRESENCE_OK, apply_is(follower, number, &told));
    applies(follower, S0, claim, disconnect_change(number + 2, 5), true);
    expect_code(PRESENCE_E_STALE, apply_is(follower, number, &told)); /* what is here is newer */
    claims(follower, S0, larger, false);
    expect_code(PRESENCE_E_STALE, apply_is(follower, number, &told));
    told.state.claim = larger;
    told.state.number = 1;
    expect_code(PRESENCE_E_GAP, apply_is(follower, 0, &told)); /* something of an older claim is here */
    content_free(told.content);
    world_free(follower);
    world_free(empty);
}

static void what_is_not_known_any_more_is_lagged(void **state)
{
    struct world *origin = *state;
    connects(origin, S0, MODEL_A, "a", 1);
    expect_code(PRESENCE_E_LAGGED, difference_is(origin, 0, GONE)); /* nobody claims it */
    claims(origin, S0, claim, true);
    uint64_t revision = presence_recorder_revision(origin->recorder);
    expect_code(PRESENCE_OK, difference_is(origin, revision, GONE));
    expect_code(PRESENCE_E_LAGGED, difference_is(origin, revision - 1, GONE)); /* from before the claim */
    expect_code(PRESENCE_E_INVALID, difference_is(origin, revision + 1, GONE));
    for (uint64_t id = 2; id < 5; id++)
        connects(origin, S0, MODEL_A, "a", id);
    for (uint64_t id = 2; id < 5; id++)
        disconnects(origin, S0, id);
    expect_code(PRESENCE_OK, difference_is(origin, revision, 3));
    expect_code(PRESENCE_E_LAGGED, difference_is(origin, revision, 2)); /* more than there is room for */
    uint64_t mark;
    expect_code(PRESENCE_OK, presence_recorder_mark(origin->recorder, &mark));
    connects(origin, S0, MODEL_A, "b", 9);
    expect_code(PRESENCE_OK,
                presence_recorder_server_down_unstated(origin->recorder, S0, mark, PRESENCE_REASON_TIMED_OUT, NULL));
    expect_code(PRESENCE_E_LAGGED,
                difference_is(origin, revision, GONE)); /* a part went down, of which no floor tells */
    expect_code(PRESENCE_OK, difference_is(origin, presence_recorder_revision(origin->recorder), GONE));
    revision = presence_recorder_revision(origin->recorder);
    presence_value value = test_value(S0, 1, MODEL_A, "a");
    expect_code(PRESENCE_OK, presence_recorder_update_server(origin->recorder, S0, &value, 1, NULL));
    expect_code(PRESENCE_E_LAGGED, difference_is(origin, revision, GONE)); /* a whole list */
    claims(origin, S0, (presence_claim){5, 1, 1}, true);
    connects(origin, S0, MODEL_A, "a", 2);
    expect_code(PRESENCE_E_LAGGED, difference_is(origin, presence_recorder_revision(origin->recorder), GONE));
    expect_code(PRESENCE_OK, presence_replica_forget(origin->recorder, S0, NULL));
    expect_code(PRESENCE_E_LAGGED, difference_is(origin, presence_recorder_revision(origin->recorder), GONE));
    presence_connections *view;
    presence_server_description described;
    size_t count;
    expect_code(PRESENCE_E_NOT_FOUND,
                presence_replica_difference(origin->recorder, S1, 0, &described, NULL, 0, &count, &view));
    expect_code(PRESENCE_E_INVALID, presence_replica_difference(origin->recorder, S0, 0, NULL, NULL, 0, &count, &view));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(what_came_since_makes_the_present_state), story(a_floor_makes_missing_what_is_not_named),
        story(to_another_digest_nothing_is_taken),      story(it_is_for_who_holds_what_it_is_from),
        story(what_is_not_known_any_more_is_lagged),
    };
    return cmocka_run_group_tests_name("replica_difference", tests, NULL, NULL);
}
