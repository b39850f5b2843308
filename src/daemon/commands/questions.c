/* SPDX-License-Identifier: Apache-2.0 */
/*
 * questions.c - what is asked of every node of the cluster: VERIFY, whether all hold the same, and TESTIMONY, what each
 * knows of an agent.
 *
 * Other nodes answer in their own time, a second at most for each try, so these are run as jobs that wait
 * (worker/worker.h), on no loop.
 *
 * Verifying: numbers move while answers travel. So what is not equal is asked again, and a node is behind only if it
 * lacks what the server had the time before. O(servers x nodes).
 */
#include "cluster/joined.h"
#include "commands/groups.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_ROWS = 1000, WAIT_MS = 1000, TRIES = 3, BETWEEN_TRIES_MS = 150 };

static const char *const agreements[] = {
    [PRESENCE_STAND_AGREES] = "agrees", [PRESENCE_STAND_BEHIND] = "behind", [PRESENCE_STAND_DIFFERS] = "differs"};

/* The nodes' stands of all servers, sorted by server. */
struct stands {
    presence_stand *stands; /* with strings of their own */
    size_t count, room;
};

/* The farthest that a server was, at the try before. */
struct mark {
    char *server;
    presence_claim claim;
    uint64_t number;
};

struct marks {
    struct mark *marks; /* sorted by server */
    size_t count, room;
};

struct verification {
    struct stands told, kept; /* kept: of servers that are not equal, MOST_ROWS at most */
    struct marks before, now;
    size_t servers, unequal, answered, asked;
    bool failed; /* out of memory */
};

/* -------------------------------------------------------------------------------------------------- verification -- */

static void free_stand(presence_stand *stand)
{
    free((char *)(uintptr_t)stand->server);
    free((char *)(uintptr_t)stand->node);
    free((char *)(uintptr_t)stand->holder);
}

static void stands_clear(struct stands *stands)
{
    for (size_t i = 0; i < stands->count; i++)
        free_stand(&stands->stands[i]);
    stands->count = 0;
}

static bool stands_grow(struct stands *stands)
{
    if (stands->count < stands->room)
        return true;
    size_t room = stands->room ? stands->room * 2 : 64;
    presence_stand *more = realloc(stands->stands, room * sizeof *more);
    if (!more)
        return false;
    stands->stands = more;
    stands->room = room;
    return true;
}

/* Adds a copy. False: out of memory. */
static bool stands_add(struct stands *stands, const presence_stand *stand)
{
    presence_stand copy = *stand;
    copy.server = strdup(stand->server);
    copy.node = strdup(stand->node);
    copy.holder = strdup(stand->holder);
    bool good = copy.server && copy.node && copy.holder && stands_grow(stands);
    if (good)
        stands->stands[stands->count++] = copy;
    else
        free_stand(&copy);
    return good;
}

static void marks_clear(struct marks *marks)
{
    for (size_t i = 0; i < marks->count; i++)
        free(marks->marks[i].server);
    marks->count = 0;
}

static bool marks_add(struct marks *marks, const presence_stand *stand)
{
    if (marks->count == marks->room) {
        size_t room = marks->room ? marks->room * 2 : 64;
        struct mark *more = realloc(marks->marks, room * sizeof *more);
        if (!more)
            return false;
        marks->marks = more;
        marks->room = room;
    }
    char *server = strdup(stand->server);
    if (!server)
        return false;
    marks->marks[marks->count++] = (struct mark){server, stand->claim, stand->number};
    return true;
}

static int compare_marks(const void *key, const void *mark)
{
    return strcmp(key, ((const struct mark *)mark)->server);
}

static bool is_farther(const presence_claim *claim, uint64_t number, const presence_claim *than, uint64_t than_number)
{
    int order = presence_claim_compare(claim, than);
    return order > 0 || (order == 0 && number > than_number);
}

/* Whether every node that answered holds the server of these stands alike, or is on its way to. */
static bool is_equal(const struct verification *found, const presence_stand *stands, size_t count)
{
    bool forgotten = false;
    const struct mark *mark = found->before.count == 0 ? NULL
                                                       : bsearch(stands->server, found->before.marks,
                                                                 found->before.count, sizeof *mark, compare_marks);
    for (const presence_stand *stand = stands; stand < stands + count; stand++) {
        forgotten |= stand->forgotten;
        if (stand->agreement == PRESENCE_STAND_DIFFERS)
            return false;
        if (stand->agreement == PRESENCE_STAND_BEHIND &&
            (!mark || is_farther(&mark->claim, mark->number, &stand->claim, stand->number)))
            return false;
    }
    /* A tombstone need not be everywhere; a server that was first heard of since the try before neither. */
    return count >= found->answered || forgotten || (found->before.count > 0 && !mark);
}

/* All that was told of one server. */
static void judge(struct verification *found, const presence_stand *stands, size_t count)
{
    const presence_stand *farthest = stands;
    for (size_t i = 1; i < count; i++)
        if (is_farther(&stands[i].claim, stands[i].number, &farthest->claim, farthest->number))
            farthest = &stands[i];
    found->servers++;
    found->failed |= !marks_add(&found->now, farthest);
    if (is_equal(found, stands, count))
        return;
    found->unequal++;
    for (size_t i = 0; i < count && found->kept.count < MOST_ROWS; i++)
        found->failed |= !stands_add(&found->kept, &stands[i]);
}

static void on_stand(void *context, const presence_stand *stand)
{
    struct verification *found = context;
    found->failed |= !stands_add(&found->told, stand);
}

static int verify_once(struct node *node, struct verification *found)
{
    struct marks before = found->before;
    marks_clear(&before);
    found->before = found->now;
    found->now = before;
    stands_clear(&found->told);
    stands_clear(&found->kept);
    found->servers = found->unequal = 0;
    int code = cluster_verify(node, WAIT_MS, on_stand, found, &found->answered, &found->asked);
    const struct stands *told = &found->told;
    for (size_t i = 0, next; code == PRESENCE_OK && i < told->count; i = next) {
        for (next = i + 1; next < told->count && strcmp(told->stands[next].server, told->stands[i].server) == 0;)
            next++;
        judge(found, &told->stands[i], next - i);
    }
    return found->failed ? PRESENCE_E_NO_MEMORY : code;
}

static int verify(struct node *node, struct verification *found)
{
    int code = verify_once(node, found);
    for (int i = 1; i < TRIES && code == PRESENCE_OK && (found->unequal > 0 || found->answered < found->asked); i++) {
        nanosleep(&(struct timespec){.tv_nsec = BETWEEN_TRIES_MS * 1000000L}, NULL);
        code = verify_once(node, found);
    }
    return code;
}

static void free_verification(struct verification *found)
{
    if (!found)
        return;
    stands_clear(&found->told);
    stands_clear(&found->kept);
    marks_clear(&found->before);
    marks_clear(&found->now);
    free(found->told.stands);
    free(found->kept.stands);
    free(found->before.marks);
    free(found->now.marks);
    free(found);
}

static void say_stand(struct reply *reply, const presence_stand *stand)
{
    reply_map(reply, 12);
    reply_key(reply, "server");
    reply_string(reply, stand->server);
    reply_key(reply, "node");
    reply_string(reply, stand->node);
    reply_key(reply, "stated_by");
    if (*stand->holder)
        reply_string(reply, stand->holder);
    else
        reply_null(reply);
    reply_key(reply, "epoch");
    reply_id(reply, stand->claim.epoch);
    reply_key(reply, "turn");
    reply_id(reply, stand->claim.turn);
    reply_key(reply, "number");
    reply_id(reply, stand->number);
    reply_key(reply, "connections");
    reply_integer(reply, (int64_t)stand->connections);
    reply_key(reply, "alive");
    reply_integer(reply, (int64_t)stand->alive);
    reply_key(reply, "complete");
    reply_boolean(reply, stand->complete);
    reply_key(reply, "forgotten");
    reply_boolean(reply, stand->forgotten);
    reply_key(reply, "lapsed");
    reply_boolean(reply, stand->lapsed);
    reply_key(reply, "agreement");
    reply_word(reply, agreements[stand->agreement]);
}

static void say_verification(struct reply *reply, const struct verification *found)
{
    reply_map(reply, 6);
    reply_key(reply, "agreed");
    reply_boolean(reply, found->unequal == 0 && found->answered == found->asked);
    reply_key(reply, "asked");
    reply_integer(reply, (int64_t)found->asked);
    reply_key(reply, "answered");
    reply_integer(reply, (int64_t)found->answered);
    reply_key(reply, "servers");
    reply_integer(reply, (int64_t)found->servers);
    reply_key(reply, "unequal");
    reply_integer(reply, (int64_t)found->unequal);
    reply_key(reply, "stands");
    reply_array(reply, found->kept.count);
    for (size_t i = 0; i < found->kept.count; i++)
        say_stand(reply, &found->kept.stands[i]);
}

/* NOT_FOUND: the node is alone, or has left because it stops. */
static void say_failure(struct call *call, int code)
{
    if (code == PRESENCE_E_NOT_FOUND)
        reply_error(call->reply, ERROR_ERR, "this node is in no cluster");
    else
        command_failed(call, code, NULL);
}

static void run_verify(struct call *call)
{
    struct verification *found = calloc(1, sizeof *found);
    int code = found ? verify(call->client->node, found) : PRESENCE_E_NO_MEMORY;
    if (code == PRESENCE_OK)
        say_verification(call->reply, found);
    else
        say_failure(call, code);
    free_verification(found);
}

/* ----------------------------------------------------------------------------------------------------- testimony -- */

/* What the nodes say, with strings of its own. */
struct testimonies {
    presence_testimony *rows;
    size_t count, room;
    bool failed; /* out of memory */
};

static void free_testimony(presence_testimony *testimony)
{
    presence_testimony_connection *connections = (presence_testimony_connection *)(uintptr_t)testimony->connections;
    for (size_t i = 0; connections && i < testimony->count; i++) {
        free((char *)(uintptr_t)connections[i].server);
        free((char *)(uintptr_t)connections[i].holder);
    }
    free(connections);
    free((char *)(uintptr_t)testimony->node);
}

static void free_testimonies(struct testimonies *told)
{
    for (size_t i = 0; i < told->count; i++)
        free_testimony(&told->rows[i]);
    free(told->rows);
}

/* False: out of memory, and what was copied is to be freed. */
static bool copy_testimony(presence_testimony *copy, const presence_testimony *testimony)
{
    presence_testimony_connection *connections =
        calloc(testimony->count ? testimony->count : 1, sizeof *copy->connections);
    *copy = *testimony;
    copy->connections = connections;
    copy->node = strdup(testimony->node);
    bool good = connections && copy->node;
    for (size_t i = 0; connections && i < testimony->count; i++) {
        connections[i] = testimony->connections[i];
        connections[i].server = strdup(testimony->connections[i].server);
        connections[i].holder = strdup(testimony->connections[i].holder);
        good = good && connections[i].server && connections[i].holder;
    }
    return good;
}

static void on_testimony(void *context, const presence_testimony *testimony)
{
    struct testimonies *told = context;
    if (told->count == told->room) {
        size_t room = told->room ? told->room * 2 : 8;
        presence_testimony *more = realloc(told->rows, room * sizeof *more);
        if (!more) {
            told->failed = true;
            return;
        }
        told->rows = more;
        told->room = room;
    }
    if (copy_testimony(&told->rows[told->count], testimony)) {
        told->count++;
    } else {
        free_testimony(&told->rows[told->count]);
        told->failed = true;
    }
}

static void say_connection(struct reply *reply, const presence_testimony_connection *one)
{
    reply_map(reply, 7);
    reply_key(reply, "server");
    reply_string(reply, one->server);
    reply_key(reply, "connection_id");
    reply_id(reply, one->connection_id);
    reply_key(reply, "stated_by");
    if (*one->holder)
        reply_string(reply, one->holder);
    else
        reply_null(reply);
    reply_key(reply, "status");
    reply_word(reply, presence_status_string(one->missing ? PRESENCE_MISSING : PRESENCE_ALIVE));
    reply_key(reply, "controller_agent");
    reply_boolean(reply, one->controller_agent);
    reply_key(reply, "last_seen");
    reply_time(reply, one->last_seen);
    reply_key(reply, "freshness");
    reply_word(reply, one->stale ? "stale" : "fresh");
}

static void say_testimony(struct reply *reply, const presence_testimony *testimony)
{
    reply_map(reply, 8);
    reply_key(reply, "node");
    reply_string(reply, testimony->node);
    reply_judgement(reply, testimony->status, testimony->reason, testimony->since, testimony->last_seen);
    reply_key(reply, "freshness");
    reply_word(reply, testimony->stale ? "stale" : "fresh");
    reply_key(reply, "connections_in_all");
    reply_integer(reply, (int64_t)testimony->total);
    reply_key(reply, "connections");
    reply_array(reply, testimony->count);
    for (size_t i = 0; i < testimony->count; i++)
        say_connection(reply, &testimony->connections[i]);
}

static void run_testimony(struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    struct testimonies told = {0};
    size_t answered = 0, asked = 0;
    if (!command_sees_servers(call)) {
        reply_error(call->reply, ERROR_NOPERM, "what each node knows is told to the role read");
        return;
    }
    if (name_problem(slice_of(arguments->model)) || name_problem(slice_of(arguments->agent))) {
        command_failed(call, PRESENCE_E_INVALID, NULL);
        return;
    }
    int code = cluster_explain(call->client->node, arguments->model, arguments->agent, WAIT_MS, on_testimony, &told,
                               &answered, &asked);
    if (code == PRESENCE_OK && told.failed)
        code = PRESENCE_E_NO_MEMORY;
    if (code) {
        say_failure(call, code);
    } else {
        reply_map(call->reply, 3);
        reply_key(call->reply, "asked");
        reply_integer(call->reply, (int64_t)asked);
        reply_key(call->reply, "answered");
        reply_integer(call->reply, (int64_t)answered);
        reply_key(call->reply, "nodes");
        reply_array(call->reply, told.count);
        for (size_t i = 0; i < told.count; i++)
            say_testimony(call->reply, &told.rows[i]);
    }
    free_testimonies(&told);
}

static const struct command commands[] = {
    {
        .name = "PRESENCE.VERIFY",
        .flags = COMMAND_READ | COMMAND_WAITS,
        .least_words = 1,
        .most_words = 1,
        .syntax = "",
        .summary = "Asks every node of the cluster whether all hold the same, and tells where not.",
        .run = run_verify,
    },
    {
        .name = "PRESENCE.TESTIMONY",
        .flags = COMMAND_READ | COMMAND_WAITS,
        .least_words = 3,
        .most_words = 3,
        .syntax = "model agent",
        .summary = "What each node of the cluster knows of an agent.",
        .specs = {{SLOT_MODEL, NULL}, {SLOT_AGENT, NULL}},
        .spec_count = 2,
        .run = run_testimony,
    },
};

const struct command_group group_questions = {commands, sizeof commands / sizeof *commands};
