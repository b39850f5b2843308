/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_replica.c - the calls of replica.h as the driver makes them, and the comparison of what they describe.
 *
 * Claims come from a small set, so that smaller, equal and larger ones meet; numbers are mostly the next one, sometimes
 * seen already or ahead. Digests cannot be computed here: instead each digest that was shown is remembered with a hash
 * of our own of what was recorded then, and equal contents under one claim must have shown equal digests, and different
 * contents different ones.
 */
#include "driver_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct shadow_server *held_by(struct driver *driver, int server)
{
    return &driver->shadow.server[server];
}

static const char *claim_text(const presence_claim *claim)
{
    static char text[64];
    snprintf(text, sizeof text, "(%llu,%llu,%llu)", (unsigned long long)claim->epoch, (unsigned long long)claim->turn,
             (unsigned long long)claim->random);
    return text;
}

/* ----------------------------------------------------------------------------------------------------------- claims */

static presence_claim choose_claim(struct driver *driver, int server)
{
    presence_claim claim = held_by(driver, server)->claim;
    switch (script_below(&driver->script, 8)) {
    case 0:
        return claim;
    case 1:
    case 2:
        return (presence_claim){claim.epoch + 1, script_below(&driver->script, 3),
                                1 + script_below(&driver->script, 9)};
    case 3:
    case 4:
        return (presence_claim){claim.epoch, claim.turn + 1, script_below(&driver->script, 9)};
    case 5:
        return (presence_claim){claim.epoch, claim.turn, claim.random + 1};
    case 6:
        return (presence_claim){claim.epoch, claim.turn - (claim.turn > 0), 5};
    default:
        return (presence_claim){script_below(&driver->script, 4), script_below(&driver->script, 3),
                                script_below(&driver->script, 3)};
    }
}

void driver_claim(struct driver *driver)
{
    int server = driver_server(driver);
    presence_claim claim = choose_claim(driver, server);
    bool local = script_chance(&driver->script, 3);
    driver_says(driver, "claim server %d %s %s", server, claim_text(&claim), local ? "local" : "remote");
    driver_arm(driver);
    int code = presence_replica_claim(driver->recorder, universe_server(server), &claim, local);
    driver_disarm(driver);
    if (!driver_tolerates(driver, code)) {
        driver_expect(driver, "claim", code, shadow_claim(&driver->shadow, server, &claim, local, driver_now(driver)));
    }
}

void driver_complete(struct driver *driver)
{
    int server = driver_server(driver);
    driver_says(driver, "complete server %d", server);
    driver_arm(driver);
    int code = presence_replica_complete(driver->recorder, universe_server(server), NULL);
    driver_disarm(driver);
    if (code == PRESENCE_E_NOT_FOUND && driver->shadow.enabled && !shadow_recorded(&driver->shadow, server)) {
        driver->armed = false;
        return; /* nothing is known of it */
    }
    if (!driver_tolerates(driver, code)) {
        driver_expect(driver, "complete", code, shadow_complete(&driver->shadow, server, driver_now(driver)));
    }
}

/* A server that another node states, where there is one: most changes shall be taken. */
static int remote_server(struct driver *driver)
{
    int first = driver_server(driver);
    for (int at = 0; at < driver->shadow.servers; at++) {
        int server = (first + at) % driver->shadow.servers;
        if (shadow_claimed(held_by(driver, server)) && !held_by(driver, server)->local) {
            driver_touches(driver, server);
            return server;
        }
    }
    return first;
}

/* --------------------------------------------------------------------------------------------------------- changes */

static struct shadow_change choose_change(struct driver *driver, int server)
{
    static const presence_reason reasons[] = {PRESENCE_REASON_SERVER_DOWN, PRESENCE_REASON_DRAINED,
                                              PRESENCE_REASON_TIMED_OUT, PRESENCE_REASON_SUPERSEDED};
    struct shadow_change change = {.number = held_by(driver, server)->number + 1, .id = driver_id(driver)};
    unsigned order = script_byte(&driver->script), kind = order / 16;
    if (order % 16 == 0) {
        change.number += 1 + script_below(&driver->script, 3);
    } else if (order % 16 == 1) {
        unsigned back = 1 + script_below(&driver->script, 3);
        change.number -= back < change.number ? back : 0;
    }
    change.kind = kind < 9    ? PRESENCE_CHANGE_CONNECT
                  : kind < 13 ? PRESENCE_CHANGE_DISCONNECT
                  : kind < 15 ? PRESENCE_CHANGE_DOWN
                              : PRESENCE_CHANGE_COMPLETE;
    change.time = driver_now(driver) - (presence_time)script_below(&driver->script, 5);
    change.last_seen = change.time;
    change.facts = driver_facts(driver);
    change.reason = reasons[script_below(&driver->script, 4)];
    return change;
}

static presence_change change_of(int server, const struct shadow_change *ours)
{
    presence_change change = {.number = ours->number,
                              .kind = ours->kind,
                              .reason = ours->kind == PRESENCE_CHANGE_DOWN ? ours->reason : PRESENCE_REASON_NONE,
                              .time = ours->time,
                              .value = universe_value(server, ours->id, &ours->facts)};
    change.value.last_seen = ours->last_seen;
    return change;
}

void driver_apply(struct driver *driver)
{
    int server = remote_server(driver);
    struct shadow_change ours = choose_change(driver, server);
    presence_claim claim = held_by(driver, server)->claim;
    if (script_chance(&driver->script, 12)) {
        claim = choose_claim(driver, server);
    }
    driver_says(driver, "apply to server %d %s number %llu (at %llu) kind %d id %u model %d agent %d data %d%s %s",
                server, claim_text(&claim), (unsigned long long)ours.number,
                (unsigned long long)held_by(driver, server)->number, (int)ours.kind, ours.id, ours.facts.model,
                ours.facts.agent, ours.facts.data, ours.facts.controller ? " controller" : "",
                presence_reason_string(ours.reason));
    presence_change change = change_of(server, &ours);
    bool applied = false, expected_applied = false;
    driver_arm(driver);
    int code = presence_replica_apply(driver->recorder, universe_server(server), &claim, &change, &applied, NULL);
    driver_disarm(driver);
    if (driver_tolerates(driver, code)) {
        return;
    }
    driver_expect(driver, "apply", code,
                  shadow_apply(&driver->shadow, server, &claim, &ours, driver_now(driver), &expected_applied));
    if (code == PRESENCE_OK && applied != expected_applied) {
        driver_differs(driver, "applied is %d, expected %d", applied, expected_applied);
    }
}

/* As one by one, up to the first that cannot be. */
void driver_apply_many(struct driver *driver)
{
    enum { MOST = 90 }; /* more than are applied under one lock */
    int server = remote_server(driver);
    size_t count = 1 + script_below(&driver->script, script_chance(&driver->script, 4) ? MOST : 6);
    presence_claim claim = held_by(driver, server)->claim;
    struct shadow_change ours[MOST];
    presence_change changes[MOST];
    for (size_t at = 0; at < count; at++) {
        ours[at] = choose_change(driver, server);
        ours[at].number += at;
        changes[at] = change_of(server, &ours[at]);
    }
    driver_says(driver, "apply %zu changes to server %d %s (at %llu)", count, server, claim_text(&claim),
                (unsigned long long)held_by(driver, server)->number);
    size_t taken = 999;
    driver_arm(driver);
    int code =
        presence_replica_apply_many(driver->recorder, universe_server(server), &claim, changes, count, &taken, NULL);
    driver_disarm(driver);
    bool applied, tolerated = driver_tolerates(driver, code);
    if (taken > count || (taken < count) != (code != PRESENCE_OK)) {
        driver_differs(driver, "%zu of %zu changes were taken, and it returned %d", taken, count, code);
    }
    for (size_t at = 0; at < taken; at++) {
        driver_expect(driver, "apply_many, before its end", PRESENCE_OK,
                      shadow_apply(&driver->shadow, server, &claim, &ours[at], driver_now(driver), &applied));
    }
    if (code != PRESENCE_OK && !tolerated) {
        driver_expect(driver, "apply_many", code,
                      shadow_apply(&driver->shadow, server, &claim, &ours[taken], driver_now(driver), &applied));
    }
}

void driver_remote_activity(struct driver *driver)
{
    int server = remote_server(driver);
    unsigned id = driver_id(driver), back = script_below(&driver->script, 4);
    struct shadow_server *held = held_by(driver, server);
    presence_claim claim = script_chance(&driver->script, 10) ? choose_claim(driver, server) : held->claim;
    uint64_t number = held->number - (back < held->number ? back : held->number);
    presence_time seen = driver_now(driver) - 1;
    driver_says(driver, "remote activity of server %d %s number %llu id %u", server, claim_text(&claim),
                (unsigned long long)number, id);
    driver_arm(driver);
    int code = presence_replica_activity(driver->recorder, universe_server(server), &claim, number, id, seen);
    driver_disarm(driver);
    if (driver_tolerates(driver, code)) {
        return;
    }
    /* Where the order to the number is not known any more the stamp may be left out: what was done is what is right. */
    struct shadow_connection before = held->connections[id];
    int expected = shadow_remote_activity(&driver->shadow, server, &claim, number, id, seen);
    if (code == PRESENCE_E_GAP && !shadow_recorded(&driver->shadow, server)) {
        expected = code; /* a server of which nothing is left may still be remembered by name */
    }
    driver_expect(driver, "remote activity", code, expected);
    presence_connections *view = presence_recorder_connections(driver->recorder);
    presence_value value;
    if (code == PRESENCE_OK && presence_connections_find(view, universe_server(server), id, &value) == PRESENCE_OK &&
        value.last_seen == before.last_seen) {
        held->connections[id].last_seen = before.last_seen;
    }
    presence_connections_free(view);
}

/* ----------------------------------------------------------------------------------------------------------- states */

/* In pieces, where nothing is recorded of the server; at times it is begun and aborted, or taken away in between, and
 * the state then comes at once. */
static int apply_in_pieces(struct driver *driver, const char *server, const struct shadow_state *state,
                           presence_error *error)
{
    const struct driver_list *list = &driver->list;
    presence_state_writer *writer = NULL;
    unsigned shape = script_byte(&driver->script);
    int code = presence_replica_state_begin(driver->recorder, server, &state->claim, state->number, state->floor,
                                            state->floor_reason, state->floor_time, &writer, error);
    size_t piece = 1 + shape % 4, disturbed = shape / 4 % 4 == 0 ? shape / 16 % (list->count + 1) : SIZE_MAX;
    for (size_t at = 0; code == PRESENCE_OK && at < list->count; at += piece) {
        size_t left = list->count - at;
        if (at >= disturbed)
            presence_connections_free(presence_replica_state(driver->recorder, server, NULL));
        driver_expect(driver, "check between two pieces", presence_recorder_check(driver->recorder, NULL), PRESENCE_OK);
        code = presence_replica_state_add(writer, &list->values[at], left < piece ? left : piece, error);
    }
    if (writer && code == PRESENCE_OK && shape >= 32)
        return presence_replica_state_commit(writer, error);
    presence_replica_state_abort(writer);
    bool again = writer || code == PRESENCE_E_INVALID; /* aborted, taken away, or there are connections */
    return again && (code == PRESENCE_OK || code == PRESENCE_E_LAGGED || code == PRESENCE_E_INVALID)
               ? presence_replica_apply_state(driver->recorder, server, &state->claim, state->number, state->floor,
                                              state->floor_reason, state->floor_time, list->values, list->count, error)
               : code;
}

struct shadow_state driver_choose_state(struct driver *driver, int server)
{
    const struct shadow_server *held = held_by(driver, server);
    struct driver_list *list = &driver->list;
    unsigned shape = script_byte(&driver->script);
    struct shadow_state state = {.claim = held->claim,
                                 .number = held->number + shape % 4,
                                 .floor_reason = PRESENCE_REASON_TIMED_OUT,
                                 .floor_time = driver_now(driver) - 3,
                                 .items = list->items,
                                 .count = list->count};
    if (shape % 16 == 0 && state.number > 0) {
        state.number--;
    }
    if (shape / 16 % 4 == 0 || !shadow_claimed(held)) {
        state.claim = choose_claim(driver, server);
        state.number = state.claim.epoch == held->claim.epoch ? state.number : shape % 8;
    }
    state.floor = state.number == 0 ? 0 : shape % (state.number + 1);
    for (size_t at = 0; at < list->count; at++) {
        bool missing = state.floor > 0 && (shape >> 6 == 0 || (at + shape) % 3 == 0);
        presence_status status = missing ? PRESENCE_MISSING : PRESENCE_ALIVE;
        presence_time seen = driver_now(driver) - (presence_time)at;
        list->values[at].status = status;
        list->values[at].last_seen = seen;
        list->items[at].status = status;
        list->items[at].last_seen = seen;
    }
    return state;
}

void driver_apply_state(struct driver *driver)
{
    int server = remote_server(driver);
    driver_make_list(driver, server, true);
    const struct driver_list *list = &driver->list;
    struct shadow_state state = driver_choose_state(driver, server);
    driver_says(driver, "state of server %d %s number %llu (at %llu) floor %llu of %zu values, fault %d", server,
                claim_text(&state.claim), (unsigned long long)state.number,
                (unsigned long long)held_by(driver, server)->number, (unsigned long long)state.floor, list->count,
                list->fault);
    presence_error error = {0};
    driver_arm(driver);
    int code = list->fault == PRESENCE_OK && script_chance(&driver->script, 2)
                   ? apply_in_pieces(driver, universe_server(server), &state, &error)
                   : presence_replica_apply_state(driver->recorder, universe_server(server), &state.claim, state.number,
                                                  state.floor, state.floor_reason, state.floor_time, list->values,
                                                  list->count, &error);
    driver_disarm(driver);
    if (driver_tolerates(driver, code)) {
        return;
    }
    bool unclaimed = state.claim.epoch == 0 && state.claim.turn == 0 && state.claim.random == 0;
    int expected = !driver->shadow.enabled ? PRESENCE_E_DISABLED : unclaimed ? PRESENCE_E_INVALID : list->fault;
    if (expected == PRESENCE_OK) {
        expected = shadow_apply_state(&driver->shadow, server, &state, driver_now(driver));
    }
    driver_expect(driver, "apply_state", code, expected);
}

void driver_lapse(struct driver *driver)
{
    int server = script_chance(&driver->script, 3) ? driver_server(driver) : remote_server(driver);
    bool lapse = !held_by(driver, server)->lapsed;
    lapse = script_chance(&driver->script, 6) ? !lapse : lapse;
    driver_says(driver, "%s server %d", lapse ? "lapse" : "restore", server);
    driver_arm(driver);
    int code = lapse ? presence_replica_lapse(driver->recorder, universe_server(server))
                     : presence_replica_restore(driver->recorder, universe_server(server));
    driver_disarm(driver);
    if (!driver_tolerates(driver, code)) {
        driver_expect(driver, lapse ? "lapse" : "restore", code,
                      shadow_lapse(&driver->shadow, server, lapse, driver_now(driver)));
    }
}

void driver_forget(struct driver *driver)
{
    int server = driver_server(driver);
    driver_says(driver, "forget server %d", server);
    driver_arm(driver);
    int code = presence_replica_forget(driver->recorder, universe_server(server), NULL);
    driver_disarm(driver);
    if (!driver_tolerates(driver, code)) {
        driver_expect(driver, "forget", code, shadow_forget(&driver->shadow, server, driver_now(driver)));
    }
}

void driver_bury(struct driver *driver)
{
    presence_time before = driver_now(driver) - (presence_time)script_below(&driver->script, 20) + 1;
    driver_end_fills(driver, true); /* their tombstones would not be buried */
    driver_says(driver, "bury before %lld", (long long)before);
    size_t buried = presence_replica_bury(driver->recorder, before);
    size_t expected = shadow_bury(&driver->shadow, before);
    if (buried != expected) {
        driver_differs(driver, "%zu tombstones were buried, expected %zu", buried, expected);
    }
}

/* ------------------------------------------------------------------------------------------------ what is described */

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash + word + 0x632be59bd9b4e019u) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93u;
    return hash ^ hash >> 29;
}

static void hash_contents(const struct driver *driver, int server, uint64_t *all, uint64_t *alive)
{
    *all = *alive = 1;
    for (unsigned id = 0; id < driver->shadow.ids; id++) {
        const struct shadow_connection *connection = &driver->shadow.server[server].connections[id];
        if (!connection->there || connection->inherited) {
            continue;
        }
        const struct shadow_facts *facts = &connection->facts;
        uint64_t word = id | (uint64_t)facts->model << 16 | (uint64_t)facts->agent << 24 | (uint64_t)facts->data << 40 |
                        (uint64_t)facts->controller << 48;
        *all = mix(*all, word);
        *alive = connection->missing ? *alive : mix(*alive, word);
    }
}

static void check_digest(struct driver *driver, int server, const presence_server_description *description)
{
    struct driver_digest now = {.claim = description->claim, .digest = description->digest};
    hash_contents(driver, server, &now.all, &now.alive);
    for (unsigned at = 0; at < DRIVER_DIGESTS; at++) {
        const struct driver_digest *then = &driver->digests[server][at];
        if (then->all == 0 || memcmp(&then->claim, &now.claim, sizeof now.claim) != 0) {
            continue;
        }
        if ((then->all == now.all) != (then->digest.all == now.digest.all) ||
            (then->alive == now.alive) != (then->digest.alive == now.digest.alive)) {
            driver_differs(driver, "server %d %s: contents of all %s, digests %llx and %llx; alive %s, %llx and %llx",
                           server, claim_text(&now.claim), then->all == now.all ? "equal an earlier one's" : "differ",
                           (unsigned long long)then->digest.all, (unsigned long long)now.digest.all,
                           then->alive == now.alive ? "equal" : "differ", (unsigned long long)then->digest.alive,
                           (unsigned long long)now.digest.alive);
        }
        if (then->all == now.all && then->alive == now.alive) {
            return;
        }
    }
    driver->digests[server][driver->next_digest[server]++ % DRIVER_DIGESTS] = now;
}

static void check_counts(struct driver *driver, int server, const presence_server_description *description)
{
    size_t connections = 0, alive = 0, inherited = 0;
    for (unsigned id = 0; id < driver->shadow.ids; id++) {
        const struct shadow_connection *connection = &driver->shadow.server[server].connections[id];
        inherited += connection->there && connection->inherited;
        connections += connection->there && !connection->inherited;
        alive += connection->there && !connection->inherited && !connection->missing;
    }
    if (description->connections != connections || description->alive != alive || description->inherited != inherited) {
        driver_differs(driver,
                       "server %d is described with %zu connections, %zu alive, %zu inherited; expected %zu, %zu, "
                       "%zu",
                       server, description->connections, description->alive, description->inherited, connections, alive,
                       inherited);
    }
}

static void check_description(struct driver *driver, int server)
{
    const struct shadow_server *held = &driver->shadow.server[server];
    presence_server_description described;
    int code = presence_replica_describe(driver->recorder, universe_server(server), &described);
    if (!shadow_recorded(&driver->shadow, server)) {
        if (code != PRESENCE_OK && code != PRESENCE_E_NOT_FOUND && code != PRESENCE_E_DISABLED) {
            driver_differs(driver, "describe of server %d returned %s", server, presence_error_name(code));
        }
        if (code == PRESENCE_OK) {
            check_counts(driver, server, &described);
        }
        return;
    }
    driver_expect(driver, "describe", code, PRESENCE_OK);
    /* Only a claim can be incomplete: the record of an unclaimed server may have been dropped and made anew. */
    if (memcmp(&described.claim, &held->claim, sizeof held->claim) != 0 || described.local != held->local ||
        (shadow_claimed(held) && described.complete != held->complete) || described.lapsed != held->lapsed ||
        described.forgotten != held->forgotten ||
        (shadow_claimed(held) && (described.number != held->number || described.floor != held->floor))) {
        driver_differs(
            driver,
            "server %d is described as %s local %d complete %d lapsed %d forgotten %d number %llu floor %llu, "
            "expected local %d complete %d lapsed %d forgotten %d number %llu floor %llu",
            server, claim_text(&described.claim), described.local, described.complete, described.lapsed,
            described.forgotten, (unsigned long long)described.number, (unsigned long long)described.floor, held->local,
            held->complete, held->lapsed, held->forgotten, (unsigned long long)held->number,
            (unsigned long long)held->floor);
    }
    check_counts(driver, server, &described);
    if (held->forgotten && described.forgotten_at != held->forgotten_at) {
        driver_differs(driver, "server %d is described as forgotten at another time", server);
    }
    if (shadow_claimed(held)) {
        check_digest(driver, server, &described);
    } else if (described.digest.all != 0 || described.digest.alive != 0) {
        driver_differs(driver, "unclaimed server %d has a digest", server);
    }
}

/* The state that is sent to others: what is stated under the claim, and nothing inherited. */
static void check_state(struct driver *driver, int server)
{
    presence_server_description described;
    presence_connections *state = presence_replica_state(driver->recorder, universe_server(server), &described);
    if (state == NULL) {
        if (shadow_recorded(&driver->shadow, server)) {
            driver_differs(driver, "no state of server %d", server);
        }
        return;
    }
    size_t seen = 0;
    presence_cursor cursor = {{0}};
    presence_value value;
    while (presence_connections_next(state, &cursor, &value)) {
        const struct shadow_connection *connection =
            value.connection_id < driver->shadow.ids ? &driver->shadow.server[server].connections[value.connection_id]
                                                     : NULL;
        if (connection == NULL || !connection->there || connection->inherited ||
            universe_server_of(value.server) != server || connection->last_seen != value.last_seen) {
            driver_differs(driver, "the state of server %d has id %llu", server,
                           (unsigned long long)value.connection_id);
        }
        seen++;
    }
    check_counts(driver, server, &described);
    if (seen != described.connections || seen != presence_connections_count(state)) {
        driver_differs(driver, "the state of server %d has %zu connections, counts %zu, is described with %zu", server,
                       seen, presence_connections_count(state), described.connections);
    }
    presence_connections_free(state);
}

static void check_names(struct driver *driver)
{
    char **names = NULL;
    size_t count = 0;
    int code = presence_replica_servers(driver->recorder, &names, &count);
    if (!driver->shadow.enabled && code == PRESENCE_E_DISABLED) {
        return;
    }
    driver_expect(driver, "replica_servers", code, PRESENCE_OK);
    size_t expected = 0;
    for (int server = 0; server < driver->shadow.servers; server++) {
        expected += shadow_recorded(&driver->shadow, server);
    }
    for (size_t at = 0; at < count; at++) {
        int server = universe_server_of(names[at]);
        if (server >= 0 && !shadow_recorded(&driver->shadow, server) && driver_fills(driver, server)) {
            expected++; /* is about to be recorded */
            continue;
        }
        if (server < 0 || !shadow_recorded(&driver->shadow, server) ||
            (at > 0 && strcmp(names[at - 1], names[at]) >= 0)) {
            driver_differs(driver, "replica_servers lists '%s'", names[at]);
        }
    }
    if (count != expected) {
        driver_differs(driver, "replica_servers lists %zu servers, expected %zu", count, expected);
    }
    presence_names_free(names);
}

void driver_check_servers(struct driver *driver)
{
    for (int server = 0; server < driver->shadow.servers; server++) {
        check_description(driver, server);
        if (driver_fills(driver, server) && (driver->step + (size_t)server) % 8 != 0) {
            continue; /* its state would be taken away */
        }
        driver_touches(driver, server);
        check_state(driver, server);
    }
    check_names(driver);
}
