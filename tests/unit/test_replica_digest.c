/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_replica_digest.c - two recorders have equal digests exactly when they hold the same connections of a server.
 */
#include "replica_words.h"

static const presence_claim claim = {.epoch = 1, .turn = 1, .random = 7};

static presence_digest digest_of(const presence_value *values, size_t count, presence_claim under)
{
    struct world *world = world_new();
    expect_code(PRESENCE_OK, applies_state(world, S0, under, 10, values, count));
    presence_digest digest = describe(world, S0).digest;
    world_free(world);
    return digest;
}

static void the_order_of_the_list_does_not_count(void **state)
{
    (void)state;
    const presence_value ab[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b")};
    const presence_value ba[] = {ab[1], ab[0]};
    assert_true(digests_equal(digest_of(ab, 2, claim), digest_of(ba, 2, claim)));
}

static void every_fact_counts(void **state)
{
    (void)state;
    const presence_value base[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b")};
    presence_digest wanted = digest_of(base, 2, claim);
    presence_value other[2];
    for (int fact = 0; fact < 6; fact++) {
        memcpy(other, base, sizeof other);
        switch (fact) {
        case 0:
            other[1].connection_id = 3;
            break;
        case 1:
            other[1].model = MODEL_B;
            break;
        case 2:
            other[1].agent = "c";
            break;
        case 3:
            other[1].user_data = "data";
            break;
        case 4:
            other[1].controller_agent = true;
            break;
        default:
            other[1].status = PRESENCE_MISSING;
            break;
        }
        presence_digest got = digest_of(other, 2, claim);
        assert_true(got.alive != wanted.alive);
        if (fact < 5)
            assert_true(got.all != wanted.all);
        else
            assert_true(got.all == wanted.all); /* `all` sums the missing too */
    }
    assert_false(digests_equal(digest_of(base, 1, claim), wanted));
    /* facts do not run into each other */
    presence_value left = test_value(S0, 1, MODEL_A, "ab"), right = test_value(S0, 1, MODEL_A, "a");
    right.user_data = "b";
    assert_false(digests_equal(digest_of(&left, 1, claim), digest_of(&right, 1, claim)));
}

static void a_last_seen_does_not_count(void **state)
{
    (void)state;
    presence_value early = seen(test_value(S0, 1, MODEL_A, "a"), 1), late = seen(early, 99);
    assert_true(digests_equal(digest_of(&early, 1, claim), digest_of(&late, 1, claim)));
}

static void it_is_keyed_by_the_claim(void **state)
{
    (void)state;
    const presence_value value = test_value(S0, 1, MODEL_A, "a");
    presence_digest one = digest_of(&value, 1, claim);
    assert_false(digests_equal(one, digest_of(&value, 1, claim_of(1, 1, 8))));
    assert_true(digests_equal(one, digest_of(&value, 1, claim)));
}

static void of_nothing_it_is_zero(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, true);
    connects(world, S0, MODEL_A, "a", 1);
    presence_digest digest = describe(world, S0).digest;
    assert_true(digest.all != 0 && digest.all == digest.alive);
    goes_down(world, S0);
    digest = describe(world, S0).digest;
    assert_true(digest.all != 0 && digest.alive == 0);
    disconnects(world, S0, 1);
    digest = describe(world, S0).digest;
    assert_true(digest.all == 0 && digest.alive == 0);
}

/* Local calls here, numbered changes there: after each, the digests are equal. */
static void the_origins_and_the_copys_agree_after_every_change(void **state)
{
    struct world *world = *state;
    struct world *copy = world_new();
    claims(world, S0, claim, true);
    claims(copy, S0, claim, false);
    struct test_random random;
    test_random_seed(&random, 99);
    static const char *const agents[] = {"a", "b", "c", "d", "e"};
    for (int step = 0; step < 3000; step++) {
        uint64_t number = describe(world, S0).number + 1, id = test_random_below(&random, 30);
        uint64_t dice = test_random_below(&random, 20);
        presence_change change;
        at(world, (presence_time)number);
        if (dice < 12) {
            presence_value value =
                test_value(S0, id, dice % 2 ? MODEL_A : MODEL_B, agents[test_random_below(&random, 5)]);
            value.controller_agent = dice == 3;
            value.user_data = dice == 4 ? "data" : "";
            expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &value, NULL, NULL, NULL));
            change = connect_change(number, value);
        } else if (dice < 19) {
            if (presence_recorder_disconnect(world->recorder, S0, id) != PRESENCE_OK)
                continue;
            change = disconnect_change(number, id);
        } else {
            goes_down(world, S0);
            change = down_change(number, PRESENCE_REASON_SERVER_DOWN);
        }
        presence_server_description origin = describe(world, S0);
        if (origin.number < number)
            continue; /* nothing changed */
        presence_server_description before = describe(copy, S0);
        applies(copy, S0, claim, change, true);
        presence_server_description after = describe(copy, S0);
        assert_int_equal(after.number, origin.number);
        assert_int_equal(after.floor, origin.floor);
        assert_int_equal(after.connections, origin.connections);
        assert_int_equal(after.alive, origin.alive);
        assert_true(digests_equal(after.digest, origin.digest));
        assert_false(digests_equal(after.digest, before.digest));
    }
    struct content *here = content_of_recorder(world->recorder), *there = content_of_recorder(copy->recorder);
    assert_true(content_equal(here, there, false, NULL));
    content_free(here);
    content_free(there);
    world_free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_of_the_list_does_not_count),
        cmocka_unit_test(every_fact_counts),
        cmocka_unit_test(a_last_seen_does_not_count),
        cmocka_unit_test(it_is_keyed_by_the_claim),
        story(of_nothing_it_is_zero),
        story(the_origins_and_the_copys_agree_after_every_change),
    };
    return cmocka_run_group_tests_name("replica_digest", tests, NULL, NULL);
}
