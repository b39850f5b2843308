/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica_words.h - the words that the stories about replication share: claims, numbered changes, descriptions.
 */
#ifndef PRESENCE_TESTS_REPLICA_WORDS_H
#define PRESENCE_TESTS_REPLICA_WORDS_H

#include "../support/story.h"

#define S0 "machine-0"
#define S1 "machine-1"

static inline presence_claim claim_of(uint64_t epoch, uint64_t turn, uint64_t random)
{
    return (presence_claim){.epoch = epoch, .turn = turn, .random = random};
}

static inline void claims(struct world *world, const char *server, presence_claim claim, bool local)
{
    expect_code(PRESENCE_OK, presence_replica_claim(world->recorder, server, &claim, local));
}

static inline presence_server_description describe(struct world *world, const char *server)
{
    presence_server_description description;
    memset(&description, 0xa5, sizeof description);
    expect_code(PRESENCE_OK, presence_replica_describe(world->recorder, server, &description));
    return description;
}

static inline bool digests_equal(presence_digest a, presence_digest b)
{
    return a.all == b.all && a.alive == b.alive;
}

/* A connect with that number; the time is the number, after STORY_BEGIN, and last_seen the same. */
static inline presence_change connect_change(uint64_t number, presence_value value)
{
    value.last_seen = STORY_BEGIN + (presence_time)number;
    return (presence_change){.number = number,
                             .kind = PRESENCE_CHANGE_CONNECT,
                             .reason = PRESENCE_REASON_CONNECTED,
                             .time = value.last_seen,
                             .value = value};
}

static inline presence_change disconnect_change(uint64_t number, uint64_t id)
{
    return (presence_change){.number = number,
                             .kind = PRESENCE_CHANGE_DISCONNECT,
                             .reason = PRESENCE_REASON_LEFT,
                             .time = STORY_BEGIN + (presence_time)number,
                             .value = {.connection_id = id}};
}

static inline presence_change down_change(uint64_t number, presence_reason reason)
{
    return (presence_change){
        .number = number, .kind = PRESENCE_CHANGE_DOWN, .reason = reason, .time = STORY_BEGIN + (presence_time)number};
}

static inline presence_change complete_change(uint64_t number)
{
    return (presence_change){
        .number = number, .kind = PRESENCE_CHANGE_COMPLETE, .time = STORY_BEGIN + (presence_time)number};
}

/* The change must be answered OK, and have been applied or not. */
static inline void applies(struct world *world, const char *server, presence_claim claim, presence_change change,
                           bool wanted)
{
    bool applied = !wanted;
    presence_error error = {0};
    int code = presence_replica_apply(world->recorder, server, &claim, &change, &applied, &error);
    if (code != PRESENCE_OK)
        fail_msg("apply %llu: %s, %s", (unsigned long long)change.number, presence_error_name(code), error.message);
    assert_int_equal(applied, wanted);
}

static inline int applies_state(struct world *world, const char *server, presence_claim claim, uint64_t number,
                                const presence_value *values, size_t count)
{
    return presence_replica_apply_state(world->recorder, server, &claim, number, 0, PRESENCE_REASON_SERVER_DOWN, 0,
                                        values, count, NULL);
}

/* The value with that last_seen, after STORY_BEGIN. */
static inline presence_value seen(presence_value value, presence_time last_seen)
{
    value.last_seen = STORY_BEGIN + last_seen;
    return value;
}

#endif
