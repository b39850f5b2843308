/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_fill.c - whole states that are recorded in pieces, over many steps of the driver, with all else between.
 *
 * Several are open at once. Until one is committed the shadow knows nothing of it, so that every comparison in between
 * says that nothing of it shows. Who needs its server takes it away: then, and only then, its writer may say so.
 */
#include "driver_inside.h"

#include <stdio.h>
#include <string.h>

static struct driver_fill *fill_of(struct driver *driver, int server)
{
    for (int at = 0; at < DRIVER_FILLS; at++)
        if (driver->fills[at].writer != NULL && driver->fills[at].server == server)
            return &driver->fills[at];
    return NULL;
}

bool driver_fills(const struct driver *driver, int server)
{
    for (int at = 0; at < DRIVER_FILLS; at++)
        if (driver->fills[at].writer != NULL && driver->fills[at].server == server && !driver->fills[at].touched)
            return true;
    return false;
}

void driver_touches(struct driver *driver, int server)
{
    for (int at = 0; at < DRIVER_FILLS; at++)
        if (driver->fills[at].server == server)
            driver->fills[at].touched = true;
}

void driver_end_fills(struct driver *driver, bool of_forgotten)
{
    for (int at = 0; at < DRIVER_FILLS; at++) {
        if (of_forgotten && !driver->shadow.server[driver->fills[at].server].forgotten)
            continue;
        presence_replica_state_abort(driver->fills[at].writer);
        driver->fills[at].writer = NULL;
    }
}

/* Where nothing is recorded, if there is such a server; else any. */
static int empty_server(struct driver *driver)
{
    int first = (int)script_below(&driver->script, (unsigned)driver->shadow.servers);
    for (int at = 0; at < driver->shadow.servers; at++) {
        int server = (first + at) % driver->shadow.servers;
        if (shadow_counts(&driver->shadow, server).connections == 0 && !fill_of(driver, server))
            return server;
    }
    return first;
}

static int expected_begin(const struct driver *driver, int server, const struct shadow_state *state)
{
    const struct shadow_server *held = &driver->shadow.server[server];
    const presence_claim none = {0};
    if (!driver->shadow.enabled)
        return PRESENCE_E_DISABLED;
    if (presence_claim_compare(&state->claim, &none) == 0)
        return PRESENCE_E_INVALID;
    int order = presence_claim_compare(&state->claim, &held->claim);
    if (shadow_claimed(held) && (order < 0 || (order == 0 && (held->local || state->number < held->number))))
        return PRESENCE_E_STALE;
    return shadow_counts(&driver->shadow, server).connections > 0 ? PRESENCE_E_INVALID : PRESENCE_OK;
}

static void begin(struct driver *driver, struct driver_fill *fill)
{
    int server = empty_server(driver);
    driver_make_list(driver, server, false);
    struct shadow_state state = driver_choose_state(driver, server);
    driver_says(driver, "begin a fill of server %d of %zu values", server, state.count);
    driver_touches(driver, server); /* an older one of the same server */
    *fill = (struct driver_fill){.server = server, .state = state};
    memcpy(fill->values, driver->list.values, sizeof fill->values);
    memcpy(fill->items, driver->list.items, sizeof fill->items);
    fill->state.items = fill->items;
    driver_arm(driver);
    int code = presence_replica_state_begin(driver->recorder, universe_server(server), &state.claim, state.number,
                                            state.floor, state.floor_reason, state.floor_time, &fill->writer, NULL);
    driver_disarm(driver);
    if (driver_tolerates(driver, code))
        return;
    int expected = expected_begin(driver, server, &state);
    driver_expect(driver, "state_begin", code, expected);
    fill->enabled = driver->enabled_times;
}

/* Whether what the writer says is no surprise; false: it goes on. */
static bool breaks_off(struct driver *driver, const struct driver_fill *fill, const char *what, int code)
{
    if (driver_tolerates(driver, code))
        return true;
    bool disabled = !driver->shadow.enabled || fill->enabled != driver->enabled_times;
    if (code == PRESENCE_E_LAGGED && fill->touched)
        return true;
    if (code == PRESENCE_E_DISABLED && disabled)
        return true;
    if (disabled)
        driver_differs(driver, "%s of a recorder that was disabled returned %s", what, presence_error_name(code));
    return false;
}

static void add(struct driver *driver, struct driver_fill *fill)
{
    size_t left = fill->state.count - fill->added, piece = 1 + script_below(&driver->script, 5);
    piece = left < piece ? left : piece;
    driver_says(driver, "add %zu values to the fill of server %d", piece, fill->server);
    driver_arm(driver);
    int code = presence_replica_state_add(fill->writer, &fill->values[fill->added], piece, NULL);
    driver_disarm(driver);
    fill->added += piece;
    if (!breaks_off(driver, fill, "state_add", code)) {
        driver_expect(driver, "state_add", code, PRESENCE_OK);
        return;
    }
    presence_replica_state_abort(fill->writer);
    fill->writer = NULL;
}

static void commit(struct driver *driver, struct driver_fill *fill)
{
    driver_says(driver, "commit the fill of server %d", fill->server);
    driver_arm(driver);
    int code = presence_replica_state_commit(fill->writer, NULL);
    driver_disarm(driver);
    fill->writer = NULL;
    if (!breaks_off(driver, fill, "state_commit", code))
        driver_expect(driver, "state_commit", code,
                      shadow_apply_state(&driver->shadow, fill->server, &fill->state, driver_now(driver)));
}

/* Brings one of them on: begins it, adds a piece, or ends it one way or the other. */
void driver_bring_on_fill(struct driver *driver)
{
    struct driver_fill *fill = &driver->fills[script_below(&driver->script, DRIVER_FILLS)];
    if (fill->writer == NULL) {
        begin(driver, fill);
    } else if (script_chance(&driver->script, 16)) {
        driver_says(driver, "abort the fill of server %d", fill->server);
        presence_replica_state_abort(fill->writer);
        fill->writer = NULL;
    } else if (fill->added < fill->state.count) {
        add(driver, fill);
    } else {
        commit(driver, fill);
    }
}
