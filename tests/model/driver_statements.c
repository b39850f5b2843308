/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_statements.c - a reader of what the recorder states itself, replayed onto copies of the servers stated here.
 *
 * Keeps true, and so proves of the recorder: under one claim each number is told once and in order, the last is the one
 * that the shadow stands at, and what is told adds up to the connections that the shadow holds; the descriptor is
 * readable exactly until all was read, and again from the step that states something here, or disables or enables the
 * recorder; and a reader lags only when it may, never for what others state while it waits.
 */
#include "driver_inside.h"

#include <poll.h>
#include <string.h>

/* While fewer changes than this were made since it was woken, a history that is not tiny must still have them. */
enum { SURELY_KEPT = 24, READ_MOST = 5 };

static bool stated_here(const struct shadow_server *held)
{
    return !shadow_claimed(held) || held->local;
}

static bool same_claim(const presence_claim *a, const presence_claim *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* -------------------------------------------------------------------------------------------------- after each step */

static bool is_readable(const struct driver_statements *feed)
{
    struct pollfd descriptor = {.fd = presence_statement_fd(feed->reader), .events = POLLIN};
    return poll(&descriptor, 1, 0) == 1;
}

/* Notes what the last step did to the servers stated here. */
static bool note_step(struct driver *driver)
{
    struct driver_statements *feed = &driver->statements;
    const struct shadow *shadow = &driver->shadow;
    bool switched = feed->enabled != shadow->enabled || feed->disabled_at != shadow->disabled_at;
    bool stated = switched;
    for (int server = 0; server < shadow->servers; server++) {
        const struct shadow_server *held = &shadow->server[server];
        struct driver_stated *noted = &feed->servers[server];
        bool here = stated_here(held);
        bool same = noted->here && here && same_claim(&noted->claim, &held->claim) && !switched;
        stated = stated || (same && held->number > noted->number);
        noted->sure = noted->sure && same && noted->forgotten == held->forgotten;
        noted->here = here;
        noted->forgotten = held->forgotten;
        noted->claim = held->claim;
        noted->number = held->number;
    }
    feed->reset = feed->reset || feed->disabled_at != shadow->disabled_at;
    feed->enabled = shadow->enabled;
    feed->disabled_at = shadow->disabled_at;
    return stated;
}

void driver_follow_statements(struct driver *driver)
{
    struct driver_statements *feed = &driver->statements;
    bool stated = note_step(driver);
    if (feed->reader != NULL) {
        if (feed->waiting && stated) {
            feed->waiting = false;
            feed->woken_at = feed->revision;
        }
        if (is_readable(feed) == feed->waiting) {
            driver_differs(driver, "the descriptor of statements is %sreadable", feed->waiting ? "" : "not ");
        }
    }
    feed->revision = driver->shadow.revision;
}

/* ----------------------------------------------------------------------------------------------------------- copies */

/* All that was stated so far was told, or is not asked for: the copies are what the shadow is. */
static void begin_copies(struct driver *driver)
{
    const struct shadow *shadow = &driver->shadow;
    for (int server = 0; server < shadow->servers; server++) {
        struct driver_stated *copy = &driver->statements.servers[server];
        copy->sure = copy->here;
        copy->whole = true;
        copy->told = copy->number;
        for (unsigned id = 0; id < shadow->ids; id++) {
            const struct shadow_connection *connection = &shadow->server[server].connections[id];
            copy->rows[id] = (struct driver_row){.there = connection->there,
                                                 .facts = connection->facts,
                                                 .status = connection->missing ? PRESENCE_MISSING : PRESENCE_ALIVE};
        }
    }
}

static void check_rows(struct driver *driver, int server)
{
    const struct shadow *shadow = &driver->shadow;
    for (unsigned id = 0; id < shadow->ids; id++) {
        const struct driver_row *row = &driver->statements.servers[server].rows[id];
        const struct shadow_connection *connection = &shadow->server[server].connections[id];
        presence_status status = connection->missing ? PRESENCE_MISSING : PRESENCE_ALIVE;
        if (row->there != connection->there ||
            (row->there && (row->status != status || !shadow_facts_equal(&row->facts, &connection->facts)))) {
            driver_differs(driver, "statements: the copy of server %d id %u is %s, expected %s", server, id,
                           row->there ? presence_status_string(row->status) : "not there",
                           connection->there ? presence_status_string(status) : "not there");
        }
    }
}

static void check_copies(struct driver *driver)
{
    for (int server = 0; server < driver->shadow.servers; server++) {
        const struct driver_stated *copy = &driver->statements.servers[server];
        if (!copy->sure) {
            continue;
        }
        if (shadow_claimed(&driver->shadow.server[server]) && copy->told != copy->number) {
            driver_differs(driver, "statements of server %d were told up to %llu, expected %llu", server,
                           (unsigned long long)copy->told, (unsigned long long)copy->number);
        }
        if (copy->whole) {
            check_rows(driver, server);
        }
    }
}

/* ----------------------------------------------------------------------------------------------------------- replay */

static void replay_rows(struct driver *driver, struct driver_stated *copy, int server, const presence_change *change)
{
    struct shadow_facts facts;
    int named = server;
    uint64_t id = change->value.connection_id;
    switch (change->kind) {
    case PRESENCE_CHANGE_CONNECT:
        if (!universe_facts(&change->value, &named, &facts) || named != server || id >= driver->shadow.ids) {
            driver_differs(driver, "statements: a connection of nobody");
        }
        copy->rows[id] = (struct driver_row){.there = true, .facts = facts, .status = PRESENCE_ALIVE};
        return;
    case PRESENCE_CHANGE_DISCONNECT:
        if (id >= driver->shadow.ids || (copy->whole && !copy->rows[id].there)) {
            driver_differs(driver, "statements: server %d id %llu goes, but was not there", server,
                           (unsigned long long)id);
        }
        copy->rows[id].there = false;
        return;
    case PRESENCE_CHANGE_DOWN:
        for (unsigned at = 0; at < driver->shadow.ids; at++) {
            copy->rows[at].status = PRESENCE_MISSING;
        }
        return;
    default: /* which are inherited is not told */
        copy->whole = false;
    }
}

static void replay(struct driver *driver, const presence_statement *statement)
{
    int server = universe_server_of(statement->server);
    if (server < 0 || statement->change.number == 0) {
        driver_differs(driver, "statements: server '%s' number %llu", statement->server,
                       (unsigned long long)statement->change.number);
    }
    struct driver_stated *copy = &driver->statements.servers[server];
    if (!copy->sure) {
        return; /* of an earlier claim, perhaps: the next time that all was read it begins anew */
    }
    bool claimed = shadow_claimed(&driver->shadow.server[server]);
    if (!same_claim(&statement->claim, &copy->claim) || (claimed && statement->change.number != copy->told + 1)) {
        driver_differs(driver, "statements: server %d number %llu of epoch %llu is told after %llu of epoch %llu",
                       server, (unsigned long long)statement->change.number, (unsigned long long)statement->claim.epoch,
                       (unsigned long long)copy->told, (unsigned long long)copy->claim.epoch);
    }
    copy->told = statement->change.number;
    if (statement->whole) {
        copy->whole = false;
    } else {
        replay_rows(driver, copy, server, &statement->change);
    }
}

static void take_lag(struct driver *driver)
{
    struct driver_statements *feed = &driver->statements;
    uint64_t made = driver->shadow.revision - feed->woken_at;
    if (feed->waiting || (!feed->reset && made < SURELY_KEPT && driver->failed_calls == 0)) {
        driver_differs(driver, "statements lag after %llu changes%s", (unsigned long long)made,
                       feed->waiting ? ", while waiting" : "");
    }
    feed->woken_at = driver->shadow.revision;
    feed->reset = false;
    for (int server = 0; server < driver->shadow.servers; server++) {
        feed->servers[server].sure = false;
    }
}

/* ------------------------------------------------------------------------------------------------------- operations */

void driver_open_statements(struct driver *driver)
{
    struct driver_statements *feed = &driver->statements;
    if (feed->reader != NULL && !script_chance(&driver->script, 4)) {
        return;
    }
    driver_says(driver, "%s a reader of statements", feed->reader != NULL ? "free" : "open");
    driver_follow_statements(driver);
    if (feed->reader != NULL) {
        presence_statement_reader_free(feed->reader);
        feed->reader = NULL;
        return;
    }
    driver_arm(driver);
    int code = presence_replica_statements(driver->recorder, &feed->reader);
    driver_disarm(driver);
    if (driver_tolerates(driver, code)) {
        feed->reader = NULL;
        return;
    }
    driver_expect(driver, "statements", code, PRESENCE_OK);
    feed->waiting = feed->reset = false;
    feed->woken_at = driver->shadow.revision;
    begin_copies(driver);
}

/* All of it, or some. */
void driver_read_statements(struct driver *driver)
{
    struct driver_statements *feed = &driver->statements;
    size_t reads = script_chance(&driver->script, 3) ? 1 + script_below(&driver->script, 3) : SIZE_MAX;
    size_t most = 1 + script_below(&driver->script, READ_MOST);
    if (feed->reader == NULL) {
        return;
    }
    driver_says(driver, "read statements, %zu at once", most);
    driver_follow_statements(driver);
    for (; reads > 0; reads--) {
        presence_statement told[READ_MOST];
        size_t count = 99;
        driver_arm(driver);
        int code = presence_statements_read(feed->reader, told, most, &count);
        driver_disarm(driver);
        if (driver_tolerates(driver, code)) {
            continue;
        }
        if (code == PRESENCE_E_LAGGED && driver->shadow.enabled) {
            take_lag(driver);
            continue;
        }
        for (size_t at = 0; at < count; at++) { /* copied before it was disabled, some */
            replay(driver, &told[at]);
        }
        if (count > 0 && feed->waiting) {
            driver_differs(driver, "statements were told to a reader that waits");
        }
        if (count == 0) {
            driver_expect(driver, "statements_read", code, driver->shadow.enabled ? PRESENCE_OK : PRESENCE_E_DISABLED);
            if (driver->shadow.enabled) {
                check_copies(driver);
                begin_copies(driver);
            }
            feed->waiting = true;
            return;
        }
    }
}
