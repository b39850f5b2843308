/* SPDX-License-Identifier: Apache-2.0 */
/*
 * questions.c - what is asked of every node of the cluster: whether all hold the same (GET /v1/cluster/verification),
 * and what each knows of an agent (GET .../agents/{agent}/testimony).
 *
 * Other nodes answer in their own time, so a thread waits for them, not the loop. It shares nothing with the loop but
 * the question; when it has its answer it posts that to the loop and is gone. A client that goes meanwhile is told
 * nothing; a stop waits, a second or two at most. At most MOST_UNDER_WAY at a time.
 *
 * Verifying: numbers move while answers travel. So what is not equal is asked again, and a node is behind only if it
 * lacks what the server had the time before. O(servers x nodes) on the thread.
 */
#include "cluster/joined.h"
#include "http/exchange.h"

#include <presence/cluster.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_UNDER_WAY = 4, MOST_ROWS = 1000, WAIT_MS = 1000, TRIES = 3, BETWEEN_TRIES_MS = 150 };

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

struct question {
    struct stream stream; /* first */
    struct http_connection *connection;
    struct node *node;
    struct loop *loop;
    enum evhttp_cmd_type method;
    bool gone;                  /* nobody waits for the answer */
    char *model, *agent;        /* NULL: a verification */
    struct verification *found; /* of a verification */
    json_t *nodes;              /* of a testimony: what they say */
    size_t answered, asked;
    int code;
};

static atomic_size_t under_way; /* questions */
static atomic_size_t waiting;   /* threads that have not posted their answer */

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

/* ----------------------------------------------------------------------------------------------------- testimony -- */

static json_t *time_of(presence_time time)
{
    char text[TIME_TEXT_BYTES];
    if (time == 0)
        return json_null();
    time_to_text(time, text);
    return json_string(text);
}

static json_t *connection_of(const presence_testimony_connection *one)
{
    char id[24];
    snprintf(id, sizeof id, "%llu", (unsigned long long)one->connection_id);
    return json_pack("{s:s, s:s, s:s*, s:s, s:b, s:o, s:s}", "server", one->server, "connection_id", id, "stated_by",
                     *one->holder ? one->holder : NULL, "status", one->missing ? "missing" : "alive",
                     "controller_agent", one->controller_agent, "last_seen", time_of(one->last_seen), "freshness",
                     one->stale ? "stale" : "fresh");
}

static void on_testimony(void *context, const presence_testimony *testimony)
{
    struct question *question = context;
    json_t *connections = json_array();
    for (size_t i = 0; connections && i < testimony->count; i++)
        json_array_append_new(connections, connection_of(&testimony->connections[i]));
    json_array_append_new(question->nodes,
                          json_pack("{s:s, s:s, s:s, s:o, s:o, s:s, s:I, s:o}", "node", testimony->node, "status",
                                    presence_status_string(testimony->status), "reason",
                                    presence_reason_string(testimony->reason), "since", time_of(testimony->since),
                                    "last_seen", time_of(testimony->last_seen), "freshness",
                                    testimony->stale ? "stale" : "fresh", "connections_in_all",
                                    (json_int_t)testimony->total, "connections", connections));
}

/* ------------------------------------------------------------------------------------------------- asking at all -- */

static void free_question(struct question *question)
{
    free_verification(question->found);
    json_decref(question->nodes);
    free(question->model);
    free(question->agent);
    free(question);
    atomic_fetch_sub(&under_way, 1);
}

/* The client has gone; the thread has not. */
static void let_go(struct stream *stream, bool gone)
{
    struct question *question = (struct question *)stream;
    question->gone = true;
    if (gone && !evhttp_request_get_connection(stream->request))
        evhttp_request_free(stream->request); /* parted from its connection, and nobody's but ours */
}

static void send_testimony(struct exchange *exchange, const struct question *question)
{
    struct bytes body = {0};
    json_t *whole = json_pack("{s:I, s:I, s:O}", "asked", (json_int_t)question->asked, "answered",
                              (json_int_t)question->answered, "nodes", question->nodes);
    char *text = whole ? json_dumps(whole, JSON_COMPACT) : NULL;
    json_decref(whole);
    if (!text) {
        exchange_problem(exchange, 503, "BUSY", "out of memory");
        return;
    }
    bytes_append(&body, text, strlen(text));
    bytes_append(&body, "\n", 1);
    free(text);
    exchange_send_bytes(exchange, 200, "application/json", &body);
}

/* On the loop, with the answer. */
static void finish(struct loop *loop, void *context)
{
    (void)loop;
    struct question *question = context;
    if (question->gone) {
        free_question(question);
        return;
    }
    struct http_connection *connection = question->connection;
    struct exchange exchange = {
        .connection = connection, .request = question->stream.request, .method = question->method};
    connection->stream = NULL;
    json_reply_init(&exchange.json);
    exchange.call = (struct call){.client = &connection->client, .reply = &exchange.json.reply};
    if (question->code == PRESENCE_E_NOT_FOUND) {
        exchange_problem(&exchange, 404, "ERR", "this node is in no cluster");
    } else if (question->code == PRESENCE_OK && question->nodes) {
        send_testimony(&exchange, question);
    } else {
        if (question->code == PRESENCE_OK)
            say_verification(exchange.call.reply, question->found);
        else
            command_failed(&exchange.call, question->code, NULL);
        exchange_send_reply(&exchange);
    }
    json_reply_free(&exchange.json);
    connection_rest(connection);
    free_question(question);
}

static void *ask(void *context)
{
    struct question *question = context;
    if (question->nodes)
        question->code = cluster_explain(question->node, question->model, question->agent, WAIT_MS, on_testimony,
                                         question, &question->answered, &question->asked);
    else
        question->code = verify(question->node, question->found);
    struct loop *loop = question->loop;
    while (!loop_post(loop, finish, question)) /* out of memory: the client waits */
        nanosleep(&(struct timespec){.tv_nsec = BETWEEN_TRIES_MS * 1000000L}, NULL);
    atomic_fetch_sub(&waiting, 1);
    return NULL;
}

static bool start_thread(struct question *question)
{
    sigset_t all, before;
    pthread_t thread;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    atomic_fetch_add(&waiting, 1);
    bool good = pthread_create(&thread, &detached, ask, question) == 0;
    if (!good)
        atomic_fetch_sub(&waiting, 1);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
    return good;
}

static void begin(struct exchange *exchange, bool of_agent)
{
    const struct arguments *arguments = &exchange->call.arguments;
    struct http_connection *connection = exchange->connection;
    if (!connection->client.node->cluster) {
        exchange_problem(exchange, 404, "ERR", "this node is in no cluster");
        return;
    }
    if (atomic_fetch_add(&under_way, 1) >= MOST_UNDER_WAY) {
        atomic_fetch_sub(&under_way, 1);
        counter_add(&connection_counters(connection)->limited, 1);
        exchange_header(exchange, "Retry-After", "1");
        exchange_problem(exchange, 503, "BUSY", "other questions to the whole cluster are under way");
        return;
    }
    struct question *question = calloc(1, sizeof *question);
    if (!question) {
        atomic_fetch_sub(&under_way, 1);
        exchange_problem(exchange, 503, "BUSY", "out of memory");
        return;
    }
    question->node = connection->client.node;
    question->loop = connection->client.loop;
    question->connection = connection;
    question->method = exchange->method;
    question->model = of_agent ? strdup(arguments->model) : NULL;
    question->agent = of_agent ? strdup(arguments->agent) : NULL;
    question->nodes = of_agent ? json_array() : NULL;
    question->found = of_agent ? NULL : calloc(1, sizeof *question->found);
    bool whole = of_agent ? question->model && question->agent && question->nodes : question->found != NULL;
    question->stream = (struct stream){exchange->request, let_go, .ends_soon = true};
    connection->stream = &question->stream;
    if (whole && start_thread(question))
        return;
    connection->stream = NULL;
    free_question(question);
    exchange_problem(exchange, 503, "BUSY", "out of memory, or of threads");
}

void questions_verify(struct exchange *exchange)
{
    begin(exchange, false);
}

void questions_explain(struct exchange *exchange)
{
    struct call *call = &exchange->call;
    const struct arguments *arguments = &call->arguments;
    if (!command_sees_servers(call)) {
        reply_error(call->reply, ERROR_NOPERM, "what each node knows is told to the role read");
        exchange_send_reply(exchange);
    } else if (name_problem(slice_of(arguments->model)) || name_problem(slice_of(arguments->agent))) {
        command_failed(call, PRESENCE_E_INVALID, NULL);
        exchange_send_reply(exchange);
    } else {
        begin(exchange, true);
    }
}

void questions_wait(void)
{
    while (atomic_load(&waiting) > 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000L}, NULL);
}
