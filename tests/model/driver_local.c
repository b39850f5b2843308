/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_local.c - the recorder's own calls as the driver makes them: connections, lists, handles, batches.
 *
 * Each operation makes its choices from the script, calls the recorder, then the shadow, and compares the codes. Where
 * the recorder failed for a reason that the shadow cannot know (driver_tolerates), the shadow is left as it is, so that
 * the comparison afterwards proves that nothing changed.
 */
#include "driver_inside.h"

#include <stdio.h>
#include <string.h>

enum { UNTOUCHED = 12345, BATCH = 80 };

/* --------------------------------------------------------------------------------------------- single connections */

static void connect_to(struct driver *driver, int server, unsigned id, const struct shadow_facts *facts)
{
    driver_says(driver, "connect server %d id %u model %d agent %d data %d%s", server, id, facts->model, facts->agent,
                facts->data, facts->controller ? " controller" : "");
    presence_value value = universe_value(server, id, facts);
    bool with_handle = script_chance(&driver->script, 2);
    struct driver_handle *kept = &driver->handles[script_below(&driver->script, DRIVER_HANDLES)];
    presence_handle handle = {{0}};
    bool is_new = false, expected_new = false;
    driver_arm(driver);
    int code = with_handle ? presence_recorder_connect_handle(driver->recorder, &value, &handle, &is_new, NULL)
                           : presence_recorder_connect(driver->recorder, value.server, value.model, value.agent, id,
                                                       value.controller_agent, value.user_data);
    driver_disarm(driver);
    if (driver_tolerates(driver, code)) {
        return;
    }
    driver_expect(driver, "connect", code,
                  shadow_connect(&driver->shadow, server, id, facts, driver_now(driver), &expected_new));
    if (code == PRESENCE_OK && with_handle) {
        const struct shadow_connection *connection = &driver->shadow.server[server].connections[id];
        if (is_new != expected_new) {
            driver_differs(driver, "is_new is %d, expected %d", is_new, expected_new);
        }
        *kept = (struct driver_handle){handle, server, id, connection->life, connection->wording};
    }
}

void driver_connect(struct driver *driver)
{
    int server = driver_server(driver);
    unsigned id = driver_id(driver);
    struct shadow_facts facts = driver_facts(driver);
    connect_to(driver, server, id, &facts);
}

/* The same statement again, where there is one. */
void driver_reconnect(struct driver *driver)
{
    int server = driver_server(driver);
    unsigned id = driver_id(driver);
    struct shadow_facts facts = driver_facts(driver);
    for (unsigned at = 0; at < driver->shadow.ids; at++) {
        unsigned candidate = (id + at) % driver->shadow.ids;
        if (driver->shadow.server[server].connections[candidate].there) {
            facts = driver->shadow.server[server].connections[candidate].facts;
            connect_to(driver, server, candidate, &facts);
            return;
        }
    }
    connect_to(driver, server, id, &facts);
}

void driver_disconnect(struct driver *driver)
{
    int server = driver_server(driver);
    unsigned id = driver_id(driver);
    driver_says(driver, "disconnect server %d id %u", server, id);
    driver_arm(driver);
    int code = presence_recorder_disconnect(driver->recorder, universe_server(server), id);
    driver_disarm(driver);
    if (!driver_tolerates(driver, code)) {
        driver_expect(driver, "disconnect", code, shadow_disconnect(&driver->shadow, server, id, driver_now(driver)));
    }
}

void driver_activity(struct driver *driver)
{
    int server = driver_server(driver);
    unsigned id = driver_id(driver);
    driver_says(driver, "activity server %d id %u", server, id);
    driver_arm(driver);
    int code = presence_recorder_activity(driver->recorder, universe_server(server), id);
    driver_disarm(driver);
    if (!driver_tolerates(driver, code)) {
        driver_expect(driver, "activity", code, shadow_activity(&driver->shadow, server, id, driver_now(driver)));
    }
}

void driver_down(struct driver *driver)
{
    static const presence_reason reasons[] = {PRESENCE_REASON_SERVER_DOWN, PRESENCE_REASON_DRAINED,
                                              PRESENCE_REASON_TIMED_OUT, PRESENCE_REASON_SUPERSEDED};
    int server = driver_server(driver);
    presence_reason reason = reasons[script_below(&driver->script, 4)];
    bool plain = script_chance(&driver->script, 2);
    reason = plain ? PRESENCE_REASON_SERVER_DOWN : reason;
    driver_says(driver, "server_down server %d, %s", server, presence_reason_string(reason));
    size_t became = 0, expected = 0;
    driver_arm(driver);
    int code = plain
                   ? presence_recorder_server_down(driver->recorder, universe_server(server))
                   : presence_recorder_server_down_because(driver->recorder, universe_server(server), reason, &became);
    driver_disarm(driver);
    if (driver_tolerates(driver, code)) {
        return;
    }
    driver_expect(driver, "server_down", code,
                  shadow_down(&driver->shadow, server, reason, driver_now(driver), &expected));
    if (code == PRESENCE_OK && !plain && became != expected) {
        driver_differs(driver, "%zu became missing, expected %zu", became, expected);
    }
}

void driver_mark(struct driver *driver)
{
    driver_says(driver, "mark");
    uint64_t mark = 0, expected = 0;
    int code = presence_recorder_mark(driver->recorder, &mark);
    driver_expect(driver, "mark", code, shadow_mark(&driver->shadow, &expected));
    if (code == PRESENCE_OK && mark != expected) {
        driver_differs(driver, "the mark is %llu, expected %llu", (unsigned long long)mark,
                       (unsigned long long)expected);
    }
    if (code == PRESENCE_OK) {
        driver->mark = mark;
        driver->has_mark = true;
    }
}

void driver_unstated(struct driver *driver)
{
    int server = driver_server(driver);
    if (!driver->has_mark) {
        driver_mark(driver);
        return;
    }
    driver_says(driver, "server_down_unstated server %d since %llu", server, (unsigned long long)driver->mark);
    size_t became = 0, expected = 0;
    driver_arm(driver);
    int code = presence_recorder_server_down_unstated(driver->recorder, universe_server(server), driver->mark,
                                                      PRESENCE_REASON_TIMED_OUT, &became);
    driver_disarm(driver);
    if (driver_tolerates(driver, code)) {
        return;
    }
    driver_expect(driver, "server_down_unstated", code,
                  shadow_unstated(&driver->shadow, server, driver->mark, PRESENCE_REASON_TIMED_OUT, driver_now(driver),
                                  &expected));
    if (code == PRESENCE_OK && became != expected) {
        driver_differs(driver, "%zu became missing, expected %zu", became, expected);
    }
}

void driver_disable(struct driver *driver)
{
    if (script_byte(&driver->script) % 2 == 0) {
        driver_says(driver, "enable");
        presence_recorder_enable(driver->recorder);
        shadow_enable(&driver->shadow);
        return;
    }
    driver_says(driver, "disable");
    presence_recorder_disable(driver->recorder);
    shadow_disable(&driver->shadow);
    driver->enabled_times++;
}

/* ------------------------------------------------------------------------------------------------------------ lists */

static void put_fault(struct driver *driver, int server)
{
    struct driver_list *list = &driver->list;
    size_t at = script_below(&driver->script, (unsigned)list->count);
    int other = (server + 1) % driver->shadow.servers;
    switch (script_below(&driver->script, 4)) {
    case 0:
        if (other == server) {
            return;
        }
        list->values[at].server = universe_server(other);
        list->fault = PRESENCE_E_MISMATCH;
        if (strlen(universe_server(other)) < 40 && strlen(universe_server(server)) < 40) {
            snprintf(list->message, sizeof list->message, "connection server mismatch, got \"%s\" expected \"%s\"",
                     universe_server(other), universe_server(server));
        }
        return;
    case 1:
        list->values[list->count] = list->values[at];
        list->count++;
        list->fault = PRESENCE_E_DUPLICATE;
        return;
    case 2:
        list->values[at].agent = "tab\there";
        list->fault = PRESENCE_E_INVALID;
        return;
    default:
        list->values[at].model = NULL;
        list->fault = PRESENCE_E_INVALID;
        return;
    }
}

void driver_make_list(struct driver *driver, int server, bool faults)
{
    struct driver_list *list = &driver->list;
    unsigned shape = script_byte(&driver->script);
    unsigned most = shape % 8 == 0 ? 0 : shape % 8 == 1 ? driver->shadow.ids : 1 + driver->shadow.ids / 3;
    unsigned first = driver_id(driver), stride = 1 + shape / 8 % 3;
    bool restates = shape / 32 % 2 == 0; /* what is recorded, mostly */
    list->count = 0;
    list->fault = PRESENCE_OK;
    list->message[0] = '\0';
    bool listed[SHADOW_IDS] = {false};
    for (unsigned at = 0; at < most; at++) {
        unsigned id = (first + at * stride) % driver->shadow.ids;
        const struct shadow_connection *connection = &driver->shadow.server[server].connections[id];
        struct shadow_facts facts = {.model = (int)(at % (unsigned)driver->shadow.models),
                                     .agent = (int)((id + shape) % (unsigned)driver->shadow.agents),
                                     .data = (int)(shape / 64) % driver->shadow.datas,
                                     .controller = (id + shape) % 9 == 0};
        if (listed[id]) {
            continue;
        }
        listed[id] = true;
        facts = restates && connection->there && at % 5 != 4 ? connection->facts : facts;
        list->items[list->count] = (struct shadow_item){.id = id, .facts = facts};
        list->values[list->count] = universe_value(server, id, &facts);
        list->values[list->count].status = PRESENCE_MISSING; /* to be ignored, and so is this: */
        list->values[list->count].last_seen = -77;
        list->count++;
    }
    if (faults && list->count > 0 && script_chance(&driver->script, 6)) {
        put_fault(driver, server);
    }
}

/* The error's detail: written on failure with its code, left alone on success. */
static void check_detail(struct driver *driver, int code, const presence_error *error)
{
    if (code == PRESENCE_OK ? error->code != UNTOUCHED : error->code != code) {
        driver_differs(driver, "the call returned %d, its error detail says %d", code, error->code);
    }
    if (code != PRESENCE_OK && error->message[0] == '\0') {
        driver_differs(driver, "an error without a message");
    }
    if (code == driver->list.fault && driver->list.message[0] != '\0' &&
        strcmp(error->message, driver->list.message) != 0) {
        driver_differs(driver, "the message is '%s', expected '%s'", error->message, driver->list.message);
    }
}

/* What a call on a whole list returns before it looks at the shadow's server: the order of checks. */
static int list_code(const struct driver *driver, int otherwise)
{
    if (!driver->shadow.enabled) {
        return PRESENCE_E_DISABLED;
    }
    return driver->list.fault != PRESENCE_OK ? driver->list.fault : otherwise;
}

void driver_update(struct driver *driver)
{
    int server = driver_server(driver);
    driver_make_list(driver, server, true);
    struct driver_list *list = &driver->list;
    driver_says(driver, "update server %d with %zu values, fault %d", server, list->count, list->fault);
    presence_error error = {.code = UNTOUCHED};
    driver_arm(driver);
    int code =
        presence_recorder_update_server(driver->recorder, universe_server(server), list->values, list->count, &error);
    driver_disarm(driver);
    check_detail(driver, code, &error);
    if (driver_tolerates(driver, code)) {
        return;
    }
    int expected = list_code(driver, PRESENCE_OK);
    if (expected == PRESENCE_OK) {
        expected = shadow_update(&driver->shadow, server, list->items, list->count, driver_now(driver));
    }
    driver_expect(driver, "update_server", code, expected);
}

void driver_merge(struct driver *driver)
{
    int server = driver_server(driver);
    driver_make_list(driver, server, true);
    struct driver_list *list = &driver->list;
    driver_says(driver, "merge server %d with %zu values, fault %d", server, list->count, list->fault);
    presence_error error = {.code = UNTOUCHED};
    driver_arm(driver);
    int code =
        presence_recorder_merge_server(driver->recorder, universe_server(server), list->values, list->count, &error);
    driver_disarm(driver);
    check_detail(driver, code, &error);
    if (driver_tolerates(driver, code)) {
        return;
    }
    int expected = list_code(driver, PRESENCE_OK);
    if (expected == PRESENCE_OK) {
        expected = shadow_merge(&driver->shadow, server, list->items, list->count, driver_now(driver));
    }
    driver_expect(driver, "merge_server", code, expected);
}

void driver_merge_since(struct driver *driver)
{
    int server = driver_server(driver);
    unsigned ago = script_byte(&driver->script);
    uint64_t now = driver->shadow.revision;
    uint64_t revision = ago == 255 ? now + 1 : ago > 200 ? now : now - (ago % 40 < now ? ago % 40 : now);
    driver_make_list(driver, server, revision <= now);
    struct driver_list *list = &driver->list;
    driver_says(driver, "merge server %d since %llu (now %llu) with %zu values, fault %d", server,
                (unsigned long long)revision, (unsigned long long)now, list->count, list->fault);
    presence_error error = {.code = UNTOUCHED};
    driver_arm(driver);
    int code = presence_recorder_merge_server_since(driver->recorder, universe_server(server), revision, list->values,
                                                    list->count, &error);
    driver_disarm(driver);
    check_detail(driver, code, &error);
    if (driver_tolerates(driver, code)) {
        return;
    }
    bool may_lag =
        driver->failed_calls > 0 || driver->runs_out || !shadow_departures_kept_since(&driver->shadow, -1, revision);
    if (code == PRESENCE_E_LAGGED && may_lag) {
        return; /* what was forgotten of another server may count too */
    }
    int expected = list_code(driver, PRESENCE_OK);
    if (expected == PRESENCE_OK) {
        expected = shadow_merge_since(&driver->shadow, server, revision, list->items, list->count, driver_now(driver));
    }
    driver_expect(driver, "merge_server_since", code, expected);
}

/* -------------------------------------------------------------------------------------------------- bad arguments */

void driver_bad_arguments(struct driver *driver)
{
    static char too_long[1026], too_much[65537];
    memset(too_long, 'x', sizeof too_long - 1);
    memset(too_much, 'x', sizeof too_much - 1);
    const char *const bad[] = {NULL, "", too_long, "new\nline", "\xff", "\xc0\xaf", "\xed\xa0\x80", "\x7f", "\xc2\x85"};
    const char *name = bad[script_below(&driver->script, sizeof bad / sizeof bad[0])];
    unsigned which = script_below(&driver->script, 7);
    int server = driver_server(driver);
    driver_says(driver, "bad argument, call %u", which);
    const char *good = universe_server(server);
    presence_recorder *recorder = driver->recorder;
    presence_evidence evidence;
    int code = which == 0   ? presence_recorder_connect(recorder, name, "m", "a", 1, false, "")
               : which == 1 ? presence_recorder_connect(recorder, good, name, "a", 1, false, "")
               : which == 2 ? presence_recorder_connect(recorder, good, "m", name, 1, false, "")
               : which == 3 ? presence_recorder_connect(recorder, good, "m", "a", 1, false, too_much)
               : which == 4 ? presence_recorder_server_down(recorder, name)
               : which == 5 ? presence_recorder_server_down_because(recorder, good, PRESENCE_REASON_LEFT, NULL)
                            : presence_recorder_agent_evidence(recorder, "m", name, &evidence);
    driver_expect(driver, "a call with a bad argument", code,
                  driver->shadow.enabled ? PRESENCE_E_INVALID : PRESENCE_E_DISABLED);
}

/* ---------------------------------------------------------------------------------------------------------- handles */

void driver_find_handle(struct driver *driver)
{
    int server = driver_server(driver);
    unsigned id = driver_id(driver);
    driver_says(driver, "find handle of server %d id %u", server, id);
    struct driver_handle *kept = &driver->handles[script_below(&driver->script, DRIVER_HANDLES)];
    const struct shadow_connection *connection = &driver->shadow.server[server].connections[id];
    presence_handle handle;
    int code = presence_recorder_find_handle(driver->recorder, universe_server(server), id, &handle);
    driver_expect(driver, "find_handle", code,
                  !driver->shadow.enabled ? PRESENCE_E_DISABLED
                  : connection->there     ? PRESENCE_OK
                                          : PRESENCE_E_NOT_FOUND);
    if (code == PRESENCE_OK) {
        *kept = (struct driver_handle){handle, server, id, connection->life, connection->wording};
    }
}

/* Stale: it must be refused. Else it must work, or may do either where only the words about the connection changed. */
static bool is_stale(const struct driver *driver, const struct driver_handle *kept)
{
    const struct shadow_connection *connection = &driver->shadow.server[kept->server].connections[kept->id];
    return kept->life == 0 || !connection->there || connection->life != kept->life;
}

static bool may_be_either(const struct driver *driver, const struct driver_handle *kept)
{
    return driver->shadow.server[kept->server].connections[kept->id].wording != kept->wording;
}

void driver_use_handle(struct driver *driver)
{
    struct driver_handle *kept = &driver->handles[script_below(&driver->script, DRIVER_HANDLES)];
    bool leaves = script_chance(&driver->script, 2);
    bool stale = is_stale(driver, kept);
    driver_says(driver, "%s by handle of server %d id %u, %s", leaves ? "disconnect" : "activity", kept->server,
                kept->id, stale ? "stale" : "good");
    driver_arm(driver);
    int code = leaves ? presence_recorder_disconnect_handle(driver->recorder, &kept->handle)
                      : presence_recorder_activity_handle(driver->recorder, &kept->handle);
    driver_disarm(driver);
    if (driver_tolerates(driver, code)) {
        return;
    }
    if (stale || (code == PRESENCE_E_NOT_FOUND && may_be_either(driver, kept))) {
        driver_expect(driver, "a call by a stale handle", code,
                      driver->shadow.enabled ? PRESENCE_E_NOT_FOUND : PRESENCE_E_DISABLED);
        return;
    }
    int expected = leaves ? shadow_disconnect(&driver->shadow, kept->server, kept->id, driver_now(driver))
                          : shadow_activity(&driver->shadow, kept->server, kept->id, driver_now(driver));
    driver_expect(driver, "a call by handle", code, expected);
}

/* ---------------------------------------------------------------------------------------------------------- batches */

/* Plays a batch on the shadow, one element at a time; a failure of the recorder ends it after `done` elements. */
struct batch {
    int code;    /* what the recorder returned */
    size_t done; /* ... and counted */
    bool tolerated;
    size_t counted;
    int expected;
};

/* True: go on with the next element. */
static bool batch_element(struct batch *batch, struct driver *driver, int server, unsigned id, bool leaves)
{
    if (batch->tolerated && batch->counted == batch->done) {
        return false;
    }
    int code = leaves ? shadow_disconnect(&driver->shadow, server, id, driver_now(driver))
                      : shadow_activity(&driver->shadow, server, id, driver_now(driver));
    batch->counted += code == PRESENCE_OK;
    batch->expected = code == PRESENCE_E_NOT_FOUND ? PRESENCE_OK : code;
    return batch->expected == PRESENCE_OK;
}

static void check_batch(struct driver *driver, const struct batch *batch)
{
    if (!batch->tolerated) {
        driver_expect(driver, "a batch", batch->code, batch->expected);
    }
    if (batch->done != batch->counted) {
        driver_differs(driver, "a batch of which %zu were done, expected %zu", batch->done, batch->counted);
    }
}

void driver_batch_ids(struct driver *driver)
{
    uint64_t ids[BATCH];
    int server = driver_server(driver);
    bool leaves = script_chance(&driver->script, 2);
    size_t count = script_below(&driver->script, driver->shadow.ids < BATCH ? driver->shadow.ids : BATCH);
    unsigned first = driver_id(driver), stride = 1 + script_below(&driver->script, 3);
    for (size_t at = 0; at < count; at++) {
        ids[at] = (first + at * stride) % driver->shadow.ids;
    }
    driver_says(driver, "%s of %zu ids of server %d from %u by %u", leaves ? "disconnect" : "activity", count, server,
                first, stride);
    struct batch batch = {.done = 999};
    driver_arm(driver);
    batch.code =
        leaves ? presence_recorder_disconnect_many(driver->recorder, universe_server(server), ids, count, &batch.done)
               : presence_recorder_activity_many(driver->recorder, universe_server(server), ids, count, &batch.done);
    driver_disarm(driver);
    batch.tolerated = driver_tolerates(driver, batch.code);
    batch.expected = driver->shadow.enabled ? PRESENCE_OK : PRESENCE_E_DISABLED;
    for (size_t at = 0; at < count; at++) {
        if (!batch_element(&batch, driver, server, (unsigned)ids[at], leaves)) {
            break;
        }
    }
    check_batch(driver, &batch);
}

void driver_batch_handles(struct driver *driver)
{
    presence_handle handles[DRIVER_HANDLES];
    size_t which[DRIVER_HANDLES], count = 0;
    size_t first = script_below(&driver->script, DRIVER_HANDLES);
    size_t most = script_below(&driver->script, 10);
    bool leaves = script_chance(&driver->script, 2);
    for (size_t at = 0; at < most; at++) {
        size_t candidate = (first + at) % DRIVER_HANDLES;
        const struct driver_handle *kept = &driver->handles[candidate];
        if (is_stale(driver, kept) || !may_be_either(driver, kept)) {
            handles[count] = kept->handle;
            which[count++] = candidate;
        }
    }
    driver_says(driver, "%s by %zu handles", leaves ? "disconnect" : "activity", count);
    struct batch batch = {.done = 999};
    driver_arm(driver);
    batch.code = leaves ? presence_recorder_disconnect_handles(driver->recorder, handles, count, &batch.done)
                        : presence_recorder_activity_handles(driver->recorder, handles, count, &batch.done);
    driver_disarm(driver);
    batch.tolerated = driver_tolerates(driver, batch.code);
    batch.expected = driver->shadow.enabled ? PRESENCE_OK : PRESENCE_E_DISABLED;
    for (size_t at = 0; at < count && driver->shadow.enabled; at++) {
        const struct driver_handle *kept = &driver->handles[which[at]];
        if (!is_stale(driver, kept) && !batch_element(&batch, driver, kept->server, kept->id, leaves)) {
            break;
        }
    }
    check_batch(driver, &batch);
}

void driver_batch_connect(struct driver *driver)
{
    enum { MOST = 12 };
    presence_value values[MOST];
    int servers[MOST];
    unsigned ids[MOST];
    struct shadow_facts facts[MOST];
    size_t count = script_below(&driver->script, MOST);
    for (size_t at = 0; at < count; at++) {
        servers[at] = driver_server(driver);
        ids[at] = driver_id(driver);
        facts[at] = driver_facts(driver);
        values[at] = universe_value(servers[at], ids[at], &facts[at]);
    }
    driver_says(driver, "connect of %zu values", count);
    size_t done = 999, expected_done = 0;
    driver_arm(driver);
    int code = presence_recorder_connect_many(driver->recorder, values, count, &done, NULL);
    driver_disarm(driver);
    bool tolerated = driver_tolerates(driver, code);
    int expected = driver->shadow.enabled ? PRESENCE_OK : PRESENCE_E_DISABLED;
    while (expected_done < count && expected == PRESENCE_OK && !(tolerated && expected_done == done)) {
        bool is_new;
        expected = shadow_connect(&driver->shadow, servers[expected_done], ids[expected_done], &facts[expected_done],
                                  driver_now(driver), &is_new);
        expected_done += expected == PRESENCE_OK;
    }
    if (!tolerated) {
        driver_expect(driver, "connect_many", code, expected);
    }
    if (done != expected_done) {
        driver_differs(driver, "%zu connected, expected %zu", done, expected_done);
    }
}
