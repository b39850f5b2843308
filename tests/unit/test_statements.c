/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_statements.c - what a recorder states itself, of all its servers, read in one feed; and its descriptor.
 */
#include "replica_words.h"

#include <poll.h>
#include <unistd.h>

static const presence_claim ours = {.epoch = 1, .turn = 1, .random = 7};
static const presence_claim theirs = {.epoch = 3, .turn = 1, .random = 9};
static const presence_claim nobodys = {0};

enum { MOST = 4 };

/* A reader, and what it told last and was not looked at yet. */
struct feed {
    presence_statement_reader *reader;
    presence_statement at[MOST];
    size_t next, count;
};

static struct feed feed_of(struct world *world)
{
    struct feed feed = {.reader = NULL};
    expect_code(PRESENCE_OK, presence_replica_statements(world->recorder, &feed.reader));
    assert_non_null(feed.reader);
    return feed;
}

/* NULL: no more at present. */
static const presence_statement *next_of(struct feed *feed)
{
    if (feed->next == feed->count) {
        feed->next = 0;
        expect_code(PRESENCE_OK, presence_statements_read(feed->reader, feed->at, MOST, &feed->count));
    }
    return feed->next < feed->count ? &feed->at[feed->next++] : NULL;
}

static void expect_end(struct feed *feed)
{
    const presence_statement *statement = next_of(feed);
    if (statement)
        fail_msg("%s, number %llu, kind %d was told", statement->server, (unsigned long long)statement->change.number,
                 (int)statement->change.kind);
}

static presence_statement expect_stated(struct feed *feed, const char *server, presence_claim claim, uint64_t number,
                                        presence_change_kind kind)
{
    const presence_statement *statement = next_of(feed);
    assert_non_null(statement);
    assert_string_equal(statement->server, server);
    assert_int_equal(presence_claim_compare(&statement->claim, &claim), 0);
    assert_int_equal(statement->change.number, number);
    assert_int_equal(statement->change.kind, kind);
    assert_int_equal(statement->whole, kind == 0);
    return *statement;
}

static void expect_connect(struct feed *feed, presence_claim claim, uint64_t number, presence_value value)
{
    presence_statement told = expect_stated(feed, value.server, claim, number, PRESENCE_CHANGE_CONNECT);
    assert_true(test_values_equal(&told.change.value, &value, true));
    assert_int_equal(told.change.time, value.last_seen);
}

static void expect_answer(struct feed *feed, int code)
{
    assert_int_equal(feed->next, feed->count);
    feed->next = 0;
    feed->count = 99;
    expect_code(code, presence_statements_read(feed->reader, feed->at, MOST, &feed->count));
    assert_int_equal(feed->count, 0);
}

static bool is_readable(const struct feed *feed)
{
    struct pollfd poller = {.fd = presence_statement_fd(feed->reader), .events = POLLIN};
    assert_true(poller.fd >= 0);
    int ready = poll(&poller, 1, 0);
    assert_true(ready >= 0);
    return ready == 1 && (poller.revents & POLLIN) != 0;
}

/* ---------------------------------------------------------------------------------------------- what is told -- */

static void what_is_stated_here_is_told_in_order_whatever_the_server(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "before", 9); /* a reader begins now */
    disconnects(world, S0, 9);
    claims(world, S0, ours, true);
    struct feed feed = feed_of(world);
    presence_value first = seen(test_value(S0, 1, MODEL_A, "a"), 3);
    first.user_data = "data";
    at(world, 3);
    expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &first, NULL, NULL, NULL));
    at(world, 4);
    presence_value second = seen(test_value(S1, 1, MODEL_B, "b"), 4);
    second.controller_agent = true;
    expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &second, NULL, NULL, NULL));
    at(world, 5);
    disconnects(world, S0, 1);
    connects(world, S0, MODEL_A, "c", 2);
    expect_connect(&feed, ours, 1, first);
    expect_connect(&feed, nobodys, 1, second); /* unclaimed: the claim is all zero */
    presence_statement gone = expect_stated(&feed, S0, ours, 2, PRESENCE_CHANGE_DISCONNECT);
    assert_int_equal(gone.change.value.connection_id, 1);
    assert_int_equal(gone.change.time, STORY_BEGIN + 5);
    expect_connect(&feed, ours, 3, seen(test_value(S0, 2, MODEL_A, "c"), 5));
    expect_end(&feed);
    expect_end(&feed);
    connects(world, S1, MODEL_A, "d", 2);
    expect_connect(&feed, nobodys, 2, seen(test_value(S1, 2, MODEL_A, "d"), 5));
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
}

static void what_others_state_is_not_told(void **state)
{
    struct world *world = *state;
    claims(world, S0, theirs, false);
    struct feed feed = feed_of(world);
    applies(world, S0, theirs, connect_change(1, test_value(S0, 1, MODEL_A, "a")), true);
    applies(world, S0, theirs, connect_change(2, test_value(S0, 1, MODEL_A, "another")), true);
    applies(world, S0, theirs, down_change(3, PRESENCE_REASON_DRAINED), true);
    applies(world, S0, theirs, disconnect_change(4, 1), true);
    applies(world, S0, theirs, complete_change(5), true);
    const presence_value list[] = {test_value(S0, 2, MODEL_A, "b")};
    expect_code(PRESENCE_OK, applies_state(world, S0, theirs, 9, list, 1));
    const presence_value taken[] = {test_value(S1, 2, MODEL_A, "b")};
    connects(world, S1, MODEL_A, "mine", 1);
    expect_connect(&feed, nobodys, 1, seen(test_value(S1, 1, MODEL_A, "mine"), 0));
    expect_code(PRESENCE_OK, applies_state(world, S1, theirs, 9, taken, 1)); /* from us, by a claim */
    expect_code(PRESENCE_E_STALE, presence_recorder_connect(world->recorder, S1, MODEL_A, "x", 3, false, NULL));
    expect_code(PRESENCE_OK, presence_replica_activity(world->recorder, S1, &theirs, 9, 2, STORY_BEGIN + 1));
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
}

/* Nor what is no numbered change. */
static void claims_lapses_tombstones_and_activity_are_not_told(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S1, MODEL_A, "a", 1);
    struct feed feed = feed_of(world);
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.kinds = 1u << PRESENCE_EVENT_ACTIVITY; /* so that it is in the history */
    presence_watch *watch = watch_with(world, &options);
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, S0, 1));
    expect_event(watch, PRESENCE_EVENT_ACTIVITY, S0, 1);
    presence_watch_free(watch);
    connects(world, S0, MODEL_A, "a", 1); /* as it is: no change */
    claims(world, S0, ours, true);        /* taken in, as number 0 */
    claims(world, S0, claim_of(2, 1, 1), true);
    expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, S0));
    expect_code(PRESENCE_OK, presence_replica_restore(world->recorder, S0));
    expect_code(PRESENCE_OK, presence_replica_forget(world->recorder, S0, NULL));
    expect_code(PRESENCE_OK, presence_replica_forget(world->recorder, S1, NULL)); /* that nobody claimed */
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
}

static void a_whole_list_is_told_with_its_number(void **state)
{
    struct world *world = *state;
    claims(world, S0, ours, true);
    struct feed feed = feed_of(world);
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 7);
    const presence_value list[] = {test_value(S0, 2, MODEL_A, "b"), test_value(S0, 3, MODEL_A, "c")};
    updates(world, S0, list, 2);
    updates(world, S0, list, 2); /* nothing new: no number */
    at(world, 8);
    const presence_value other[] = {test_value(S1, 1, MODEL_A, "b")};
    expect_code(PRESENCE_OK, presence_recorder_merge_server(world->recorder, S1, other, 1, NULL));
    uint64_t mark;
    expect_code(PRESENCE_OK, presence_recorder_mark(world->recorder, &mark));
    connects(world, S0, MODEL_A, "c", 3); /* stated again: no change */
    size_t missing;
    expect_code(PRESENCE_OK,
                presence_recorder_server_down_unstated(world->recorder, S0, mark, PRESENCE_REASON_TIMED_OUT, &missing));
    assert_int_equal(missing, 1);
    connects(world, S0, MODEL_A, "d", 4);
    expect_connect(&feed, ours, 1, seen(test_value(S0, 1, MODEL_A, "a"), 0));
    presence_statement whole = expect_stated(&feed, S0, ours, 2, (presence_change_kind)0);
    assert_int_equal(whole.change.time, STORY_BEGIN + 7);
    assert_string_equal(whole.change.value.agent, "");
    expect_stated(&feed, S1, nobodys, 1, (presence_change_kind)0);
    expect_stated(&feed, S0, ours, 3, (presence_change_kind)0); /* what the mark left missing */
    expect_connect(&feed, ours, 4, seen(test_value(S0, 4, MODEL_A, "d"), 8));
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
}

static void going_down_and_completion_are_changes(void **state)
{
    struct world *world = *state;
    claims(world, S0, ours, true);
    connects(world, S0, MODEL_A, "a", 1);
    claims(world, S0, claim_of(2, 1, 1), true);
    struct feed feed = feed_of(world);
    connects(world, S0, MODEL_A, "b", 2);
    at(world, 5);
    expect_code(PRESENCE_OK, presence_recorder_server_down_because(world->recorder, S0, PRESENCE_REASON_DRAINED, NULL));
    at(world, 6);
    expect_code(PRESENCE_OK, presence_replica_complete(world->recorder, S0, NULL));
    expect_stated(&feed, S0, claim_of(2, 1, 1), 1, PRESENCE_CHANGE_CONNECT);
    presence_statement down = expect_stated(&feed, S0, claim_of(2, 1, 1), 2, PRESENCE_CHANGE_DOWN);
    assert_int_equal(down.change.reason, PRESENCE_REASON_DRAINED);
    assert_int_equal(down.change.time, STORY_BEGIN + 5);
    presence_statement complete = expect_stated(&feed, S0, claim_of(2, 1, 1), 3, PRESENCE_CHANGE_COMPLETE);
    assert_int_equal(complete.change.reason, PRESENCE_REASON_NONE);
    assert_int_equal(complete.change.time, STORY_BEGIN + 6);
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
}

/* In the history these are two records: the old holder's, and the new one's. */
static void a_connection_taken_over_by_another_agent_is_one_change(void **state)
{
    struct world *world = *state;
    claims(world, S0, ours, true);
    connects(world, S0, MODEL_A, "a", 1);
    struct feed feed = feed_of(world);
    expect_end(&feed);
    connects(world, S0, MODEL_B, "b", 1);
    expect_connect(&feed, ours, 2, seen(test_value(S0, 1, MODEL_B, "b"), 0));
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
}

static void statements_keep_the_claim_under_which_they_were_made(void **state)
{
    struct world *world = *state;
    struct feed feed = feed_of(world);
    connects(world, S0, MODEL_A, "a", 1);
    claims(world, S0, ours, true);
    connects(world, S0, MODEL_A, "b", 2);
    claims(world, S0, theirs, false); /* what was stated here before still was */
    applies(world, S0, theirs, connect_change(1, test_value(S0, 3, MODEL_A, "c")), true);
    expect_connect(&feed, nobodys, 1, seen(test_value(S0, 1, MODEL_A, "a"), 0));
    expect_connect(&feed, ours, 1, seen(test_value(S0, 2, MODEL_A, "b"), 0));
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
}

/* ------------------------------------------------------------------------------------------ lagging, and not -- */

static void churns(struct world *world, uint64_t rounds)
{
    for (uint64_t i = 0; i < rounds; i++) {
        connects(world, S0, MODEL_A, "an-agent-with-a-name", 1);
        disconnects(world, S0, 1);
    }
}

static void too_many_to_be_kept_is_lagged_and_goes_on_from_now(void **state)
{
    struct world *world = *state;
    presence_options options = world_options(world);
    options.history_bytes = 1; /* the least */
    world_restart(world, &options);
    claims(world, S0, ours, true);
    struct feed feed = feed_of(world);
    connects(world, S0, MODEL_A, "a", 1);
    expect_connect(&feed, ours, 1, seen(test_value(S0, 1, MODEL_A, "a"), 0));
    churns(world, 10000);
    expect_answer(&feed, PRESENCE_E_LAGGED);
    assert_true(is_readable(&feed)); /* until a read finds no more */
    expect_end(&feed);
    assert_false(is_readable(&feed));
    uint64_t number = describe(world, S0).number;
    connects(world, S0, MODEL_A, "b", 2);
    expect_connect(&feed, ours, number + 1, seen(test_value(S0, 2, MODEL_A, "b"), 0));
    expect_end(&feed);
    churns(world, 10000); /* now while it waits */
    expect_answer(&feed, PRESENCE_E_LAGGED);
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
}

/* However much it is, and though the history keeps none of it. */
static void what_others_state_makes_no_waiting_reader_lag(void **state)
{
    struct world *world = *state;
    presence_options options = world_options(world);
    options.history_bytes = 1;
    world_restart(world, &options);
    claims(world, S0, theirs, false);
    struct feed feed = feed_of(world);
    expect_end(&feed);
    for (uint64_t number = 1; number <= 10000; number++)
        applies(world, S0, theirs, connect_change(number, test_value(S0, number % 7, MODEL_A, "an-agent")), true);
    assert_false(is_readable(&feed));
    expect_end(&feed);
    connects(world, S1, MODEL_A, "mine", 1);
    assert_true(is_readable(&feed));
    expect_connect(&feed, nobodys, 1, seen(test_value(S1, 1, MODEL_A, "mine"), 0));
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
}

/* Whole lists and lapses hold snapshots in the history, few at a time. Watches lag without them; who reads numbers does
 * not need them. */
static void a_burst_of_lists_and_lapses_makes_no_reader_lag(void **state)
{
    struct world *world = *state;
    enum { BURST = 50 };
    claims(world, S1, theirs, false);
    claims(world, S0, ours, true);
    struct feed feed = feed_of(world);
    presence_watch *watch = watch_all(world);
    connects(world, S0, MODEL_A, "a", 1); /* number 1, pending */
    for (uint64_t i = 1; i <= BURST; i++) {
        expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, S1));
        expect_code(PRESENCE_OK, presence_replica_restore(world->recorder, S1));
        const presence_value list[] = {test_value(S0, i, MODEL_A, "b")};
        updates(world, S0, list, 1);
    }
    expect_lagged(watch);
    presence_watch_free(watch);
    expect_stated(&feed, S0, ours, 1, PRESENCE_CHANGE_CONNECT);
    for (uint64_t i = 1; i <= BURST; i++)
        expect_stated(&feed, S0, ours, 1 + i, (presence_change_kind)0);
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
}

/* More than a look under the lock takes in: nothing is told before it is found. */
static void few_among_many_of_others_are_found(void **state)
{
    struct world *world = *state;
    claims(world, S0, theirs, false);
    struct feed feed = feed_of(world);
    for (uint64_t number = 1; number <= 3000; number++) {
        applies(world, S0, theirs, connect_change(number, test_value(S0, number % 7, MODEL_A, "a")), true);
        if (number % 1000 == 0)
            connects(world, S1, MODEL_A, "mine", number);
    }
    for (uint64_t number = 1; number <= 3; number++)
        expect_connect(&feed, nobodys, number, seen(test_value(S1, 1000 * number, MODEL_A, "mine"), 0));
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
}

static void disabling_and_enabling_is_told(void **state)
{
    struct world *world = *state;
    struct feed feed = feed_of(world);
    expect_end(&feed);
    assert_false(is_readable(&feed));
    presence_recorder_disable(world->recorder);
    assert_true(is_readable(&feed));
    expect_answer(&feed, PRESENCE_E_DISABLED);
    assert_false(is_readable(&feed)); /* and nothing will come of it, until... */
    expect_answer(&feed, PRESENCE_E_DISABLED);
    presence_recorder_enable(world->recorder);
    assert_true(is_readable(&feed));
    connects(world, S0, MODEL_A, "a", 1);
    expect_answer(&feed, PRESENCE_E_LAGGED);
    expect_end(&feed);
    assert_false(is_readable(&feed));
    connects(world, S0, MODEL_A, "b", 2);
    expect_connect(&feed, nobodys, 2, seen(test_value(S0, 2, MODEL_A, "b"), 0));
    expect_end(&feed);
    presence_recorder_disable(world->recorder); /* both unseen, while it waits */
    presence_recorder_enable(world->recorder);
    assert_true(is_readable(&feed));
    expect_answer(&feed, PRESENCE_E_LAGGED);
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
}

static void opened_while_disabled_it_begins_when_enabled(void **state)
{
    struct world *world = *state;
    presence_recorder_disable(world->recorder);
    struct feed feed = feed_of(world);
    expect_answer(&feed, PRESENCE_E_DISABLED);
    assert_false(is_readable(&feed));
    presence_recorder_enable(world->recorder);
    assert_true(is_readable(&feed));
    expect_end(&feed);
    connects(world, S0, MODEL_A, "a", 1);
    expect_connect(&feed, nobodys, 1, seen(test_value(S0, 1, MODEL_A, "a"), 0));
    presence_statement_reader_free(feed.reader);
}

/* ---------------------------------------------------------------------------------------------- the descriptor -- */

static void it_wakes_for_a_statement_and_rests_after(void **state)
{
    struct world *world = *state;
    claims(world, S1, theirs, false);
    struct feed feed = feed_of(world);
    assert_true(is_readable(&feed)); /* at first */
    expect_end(&feed);
    assert_false(is_readable(&feed));
    for (uint64_t round = 1; round <= 5; round++) {
        applies(world, S1, theirs, connect_change(round, test_value(S1, 1, round % 2 ? MODEL_A : MODEL_B, "a")), true);
        assert_false(is_readable(&feed)); /* others' */
        presence_recorder_activity(world->recorder, S0, round - 1);
        assert_false(is_readable(&feed)); /* activity */
        for (uint64_t id = 0; id < 6; id++)
            connects(world, S0, MODEL_A, "a", 10 * round + id);
        for (uint64_t id = 0; id < 6; id++) {
            assert_true(is_readable(&feed)); /* looking does not clear it, nor does reading a part */
            assert_non_null(next_of(&feed));
        }
        assert_true(is_readable(&feed)); /* it is not known to be the end */
        expect_end(&feed);
        assert_false(is_readable(&feed));
    }
    goes_down(world, S0);
    assert_true(is_readable(&feed));
    assert_non_null(next_of(&feed));
    expect_end(&feed);
    const presence_value list[] = {test_value(S0, 2, MODEL_A, "b")};
    updates(world, S0, list, 1);
    assert_true(is_readable(&feed));
    assert_non_null(next_of(&feed));
    expect_end(&feed);
    assert_false(is_readable(&feed));
    presence_statement_reader_free(feed.reader);
}

static void it_is_signalled_once(void **state)
{
    struct world *world = *state;
    struct feed feed = feed_of(world);
    expect_end(&feed);
    for (uint64_t id = 0; id < 20; id++)
        connects(world, S0, MODEL_A, "a", id);
    uint64_t signals = 0;
    assert_int_equal(read(presence_statement_fd(feed.reader), &signals, sizeof signals), sizeof signals);
    assert_int_equal(signals, 1);
    presence_statement_reader_free(feed.reader);
}

/* -------------------------------------------------------------------------------------------- readers, and sizes -- */

static void user_data_may_be_larger_than_the_buffer(void **state)
{
    struct world *world = *state;
    static char data[65536], name[1025];
    memset(data, 'd', sizeof data - 1);
    memset(name, 'n', sizeof name - 1);
    struct feed feed = feed_of(world);
    presence_value value = seen(test_value(name, 1, name, name), 0);
    value.user_data = data;
    connects(world, S0, MODEL_A, "a", 1);
    expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &value, NULL, NULL, NULL));
    connects(world, S0, MODEL_A, "b", 2);
    expect_connect(&feed, nobodys, 1, seen(test_value(S0, 1, MODEL_A, "a"), 0));
    expect_connect(&feed, nobodys, 1, value);
    expect_connect(&feed, nobodys, 2, seen(test_value(S0, 2, MODEL_A, "b"), 0));
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
}

static void each_reader_reads_all(void **state)
{
    struct world *world = *state;
    struct feed early = feed_of(world);
    connects(world, S0, MODEL_A, "a", 1);
    struct feed late = feed_of(world);
    expect_end(&late);
    struct feed third = feed_of(world);
    connects(world, S0, MODEL_A, "b", 2);
    assert_true(is_readable(&late));
    expect_stated(&early, S0, nobodys, 1, PRESENCE_CHANGE_CONNECT);
    expect_stated(&early, S0, nobodys, 2, PRESENCE_CHANGE_CONNECT);
    expect_end(&early);
    expect_end(&early);
    assert_false(is_readable(&early));
    assert_true(is_readable(&late));
    presence_statement_reader_free(late.reader); /* from between the others */
    connects(world, S0, MODEL_A, "c", 3);
    expect_stated(&early, S0, nobodys, 3, PRESENCE_CHANGE_CONNECT);
    expect_stated(&third, S0, nobodys, 2, PRESENCE_CHANGE_CONNECT);
    expect_stated(&third, S0, nobodys, 3, PRESENCE_CHANGE_CONNECT);
    expect_end(&early);
    expect_end(&third);
    presence_statement_reader_free(third.reader);
    connects(world, S0, MODEL_A, "d", 4);
    expect_stated(&early, S0, nobodys, 4, PRESENCE_CHANGE_CONNECT);
    presence_statement_reader_free(early.reader);
}

static void a_waiting_reader_may_be_freed(void **state)
{
    struct world *world = *state;
    struct feed feed = feed_of(world), other = feed_of(world);
    expect_end(&feed);
    expect_end(&other);
    presence_statement_reader_free(feed.reader);
    connects(world, S0, MODEL_A, "a", 1);
    expect_stated(&other, S0, nobodys, 1, PRESENCE_CHANGE_CONNECT);
    expect_end(&other);
    presence_statement_reader_free(other.reader);
    connects(world, S0, MODEL_A, "b", 2);
    presence_recorder_disable(world->recorder);
    presence_recorder_enable(world->recorder);
    presence_statement_reader_free(NULL);
}

/* Without the option the history lives as long as somebody reads it; a watch that goes does not take it along. */
static void a_reader_keeps_the_history(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_all(world);
    struct feed feed = feed_of(world);
    connects(world, S0, MODEL_A, "a", 1);
    presence_watch_free(watch);
    connects(world, S0, MODEL_A, "b", 2);
    presence_stats stats = {.struct_bytes = sizeof stats};
    expect_code(PRESENCE_OK, presence_recorder_stats(world->recorder, &stats));
    assert_int_equal(stats.watches, 0); /* a reader is none */
    expect_stated(&feed, S0, nobodys, 1, PRESENCE_CHANGE_CONNECT);
    presence_change_reader *changes = NULL;
    expect_code(PRESENCE_OK, presence_replica_changes(world->recorder, S0, 1, &changes));
    presence_change change;
    assert_int_equal(presence_change_next(changes, &change), 1);
    presence_change_reader_free(changes);
    expect_stated(&feed, S0, nobodys, 2, PRESENCE_CHANGE_CONNECT);
    expect_end(&feed);
    presence_statement_reader_free(feed.reader);
    expect_code(PRESENCE_E_LAGGED, presence_replica_changes(world->recorder, S0, 1, &changes));
}

static void bad_arguments_are_refused(void **state)
{
    struct world *world = *state;
    struct feed feed = feed_of(world);
    presence_statement_reader *untouched = NULL;
    expect_code(PRESENCE_E_INVALID, presence_replica_statements(NULL, &untouched));
    expect_code(PRESENCE_E_INVALID, presence_replica_statements(world->recorder, NULL));
    expect_code(PRESENCE_E_INVALID, presence_statements_read(NULL, feed.at, MOST, &feed.count));
    expect_code(PRESENCE_E_INVALID, presence_statements_read(feed.reader, NULL, MOST, &feed.count));
    expect_code(PRESENCE_E_INVALID, presence_statements_read(feed.reader, feed.at, 0, &feed.count));
    expect_code(PRESENCE_E_INVALID, presence_statements_read(feed.reader, feed.at, MOST, NULL));
    presence_statement_reader_free(feed.reader);
}

/* What the feed tells, sent on by claim and number, makes another recorder the same; states follow whole lists. */
static void a_copy_follows_the_feed(void **state)
{
    struct world *world = *state;
    struct world *copy = world_new();
    const char *const servers[] = {S0, S1};
    for (size_t i = 0; i < 2; i++) {
        claims(world, servers[i], ours, true);
        claims(copy, servers[i], ours, false);
    }
    struct feed feed = feed_of(world);
    struct test_random random;
    test_random_seed(&random, 5);
    for (int round = 0; round < 400; round++) {
        for (uint64_t i = test_random_below(&random, 12); i > 0; i--) {
            const char *server = servers[test_random_below(&random, 2)];
            uint64_t id = test_random_below(&random, 20);
            if (test_random_chance(&random, 3))
                presence_recorder_disconnect(world->recorder, server, id);
            else
                connects(world, server, MODEL_A, test_random_chance(&random, 2) ? "a" : "b", id);
            if (test_random_chance(&random, 30))
                goes_down(world, server);
            const presence_value list[] = {test_value(server, id, MODEL_B, "c"), test_value(server, 40, MODEL_B, "d")};
            if (test_random_chance(&random, 60))
                updates(world, server, list, 2);
        }
        for (const presence_statement *told; (told = next_of(&feed));) {
            if (told->change.number <= describe(copy, told->server).number)
                continue;
            if (!told->whole) {
                applies(copy, told->server, told->claim, told->change, true);
                continue;
            }
            presence_server_description known;
            presence_connections *view = presence_replica_state(world->recorder, told->server, &known);
            struct content *content = content_of(view);
            expect_code(PRESENCE_OK, presence_replica_apply_state(
                                         copy->recorder, told->server, &known.claim, known.number, known.floor,
                                         known.floor_reason, known.floor_time, content->values, content->count, NULL));
            content_free(content);
            presence_connections_free(view);
        }
        for (size_t i = 0; i < 2; i++) {
            presence_server_description here = describe(world, servers[i]), there = describe(copy, servers[i]);
            assert_int_equal(here.number, there.number);
            assert_true(digests_equal(here.digest, there.digest));
        }
    }
    presence_statement_reader_free(feed.reader);
    world_free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(what_is_stated_here_is_told_in_order_whatever_the_server),
        story(what_others_state_is_not_told),
        story(claims_lapses_tombstones_and_activity_are_not_told),
        story(a_whole_list_is_told_with_its_number),
        story(going_down_and_completion_are_changes),
        story(a_connection_taken_over_by_another_agent_is_one_change),
        story(statements_keep_the_claim_under_which_they_were_made),
        story(too_many_to_be_kept_is_lagged_and_goes_on_from_now),
        story(what_others_state_makes_no_waiting_reader_lag),
        story(a_burst_of_lists_and_lapses_makes_no_reader_lag),
        story(few_among_many_of_others_are_found),
        story(disabling_and_enabling_is_told),
        story(opened_while_disabled_it_begins_when_enabled),
        story(it_wakes_for_a_statement_and_rests_after),
        story(it_is_signalled_once),
        story(user_data_may_be_larger_than_the_buffer),
        story(each_reader_reads_all),
        story(a_waiting_reader_may_be_freed),
        story(a_reader_keeps_the_history),
        story(bad_arguments_are_refused),
        story(a_copy_follows_the_feed),
    };
    return cmocka_run_group_tests_name("statements", tests, NULL, NULL);
}
