/* SPDX-License-Identifier: Apache-2.0 */
/*
 * questions.c - verify and explain: what every node says, gathered until all have answered or the time is over.
 *
 * Keeps true: answers are copied as they come, with the lock held; rows are told on the asker's thread without it. A
 * gathering lives until both its asker and the step are done with it, for answers may come after the asker left.
 * Cost: O(answers log answers).
 */
#include "cluster/member.h"
#include "wire/wire.h"

#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

struct gathering {
    struct gathering *next;
    struct presence_cluster *cluster;
    bool asker_left, step_left;
    bool no_memory;
    char **nodes; /* that have answered */
    size_t node_count;
    presence_stand *stands; /* `server` begins the one allocation of a row's strings */
    size_t stand_count, stand_room;
    presence_testimony *testimonies; /* `node` begins the one allocation of a row's strings, `connections` another */
    size_t testimony_count;
};

/* ----------------------------------------------------------------------------------------------------- gathering -- */

static void free_testimony(presence_testimony *testimony)
{
    for (size_t i = 0; i < testimony->count; i++)
        free((void *)(uintptr_t)testimony->connections[i].server);
    free((void *)(uintptr_t)testimony->connections);
    free((void *)(uintptr_t)testimony->node);
}

static void free_contents(const struct gathering *gathering)
{
    for (size_t i = 0; i < gathering->node_count; i++)
        free(gathering->nodes[i]);
    for (size_t i = 0; i < gathering->stand_count; i++)
        free((void *)(uintptr_t)gathering->stands[i].server);
    for (size_t i = 0; i < gathering->testimony_count; i++)
        free_testimony(&gathering->testimonies[i]);
    free(gathering->nodes);
    free(gathering->stands);
    free(gathering->testimonies);
}

static void free_gathering(struct gathering *gathering)
{
    free_contents(gathering);
    free(gathering);
}

void gatherings_free(struct presence_cluster *cluster)
{
    while (cluster->gatherings) {
        struct gathering *next = cluster->gatherings->next;
        free_gathering(cluster->gatherings);
        cluster->gatherings = next;
    }
}

/* With the lock held, once the asker or the step is done with it. */
static void let_go(struct gathering *gathering)
{
    if (!gathering->asker_left || !gathering->step_left)
        return;
    struct gathering **link = &gathering->cluster->gatherings;
    while (*link != gathering)
        link = &(*link)->next;
    *link = gathering->next;
    free_gathering(gathering);
}

/* Copies of strings in one allocation, which begins with the first of them. */
static bool copy_strings(const char **strings[], size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (!*strings[i])
            *strings[i] = "";
        bytes += strlen(*strings[i]) + 1;
    }
    char *at = malloc(bytes);
    if (!at)
        return false;
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(*strings[i]) + 1;
        *strings[i] = memcpy(at, *strings[i], length);
        at += length;
    }
    return true;
}

static bool add_stand(struct gathering *gathering, const char *node, const struct wire_stand *told)
{
    if (gathering->stand_count == gathering->stand_room) {
        size_t room = gathering->stand_room ? gathering->stand_room * 2 : 64;
        presence_stand *more = realloc(gathering->stands, room * sizeof *more);
        if (!more)
            return false;
        gathering->stands = more;
        gathering->stand_room = room;
    }
    presence_stand stand = {.server = told->server,
                            .node = node,
                            .holder = told->holder,
                            .claim = told->claim,
                            .number = told->number,
                            .connections = told->connections,
                            .alive = told->alive,
                            .digest = told->digest,
                            .complete = told->complete,
                            .forgotten = told->forgotten,
                            .lapsed = told->lapsed};
    if (!copy_strings((const char **[]){&stand.server, &stand.node, &stand.holder}, 3))
        return false;
    gathering->stands[gathering->stand_count++] = stand;
    return true;
}

static bool copy_connections(presence_testimony *testimony, const struct wire_evidence *told)
{
    presence_testimony_connection *connections = calloc(told->count + 1, sizeof *connections);
    if (!connections)
        return false;
    testimony->connections = connections;
    for (size_t i = 0; i < told->count; i++) {
        const struct wire_connection *from = &told->connections[i];
        presence_testimony_connection *to = &connections[i];
        *to = (presence_testimony_connection){.server = from->server,
                                              .holder = from->holder,
                                              .connection_id = from->id,
                                              .last_seen = from->last_seen,
                                              .controller_agent = from->controller,
                                              .missing = from->missing,
                                              .stale = from->stale};
        if (!copy_strings((const char **[]){&to->server, &to->holder}, 2))
            return false;
        testimony->count++;
    }
    return true;
}

static bool add_testimony(struct gathering *gathering, const char *node, const struct wire_evidence *told)
{
    size_t count = gathering->testimony_count;
    presence_testimony *more = realloc(gathering->testimonies, (count + 1) * sizeof *more);
    if (!more)
        return false;
    gathering->testimonies = more;
    presence_testimony testimony = {.node = node,
                                    .status = told->status,
                                    .reason = told->reason,
                                    .since = told->since,
                                    .last_seen = told->last_seen,
                                    .stale = told->stale,
                                    .total = (size_t)told->total};
    if (!copy_strings((const char **[]){&testimony.node}, 1))
        return false;
    bool whole = copy_connections(&testimony, told);
    more[gathering->testimony_count++] = testimony;
    return whole;
}

static bool has_answered(const struct gathering *gathering, const char *node)
{
    for (size_t i = 0; i < gathering->node_count; i++)
        if (strcmp(gathering->nodes[i], node) == 0)
            return true;
    return false;
}

static bool note_answered(struct gathering *gathering, const char *node)
{
    char **more = realloc(gathering->nodes, (gathering->node_count + 1) * sizeof *more);
    if (!more)
        return false;
    gathering->nodes = more;
    more[gathering->node_count] = strdup(node);
    return more[gathering->node_count] && ++gathering->node_count;
}

/* From the step, with the lock held. */
static void told(void *context, const struct wire_message *answer)
{
    struct gathering *gathering = context;
    if (!answer->node) { /* the time is over */
        gathering->step_left = true;
        pthread_cond_broadcast(&gathering->cluster->changed);
        let_go(gathering);
        return;
    }
    if (gathering->asker_left || gathering->no_memory || has_answered(gathering, answer->node))
        return;
    bool fine = true, last = true;
    if (answer->kind == WIRE_KNOWN) {
        for (size_t i = 0; fine && i < answer->known.count; i++)
            fine = add_stand(gathering, answer->node, &answer->known.stands[i]);
        last = !answer->known.more;
    } else {
        fine = add_testimony(gathering, answer->node, &answer->evidence);
    }
    gathering->no_memory = !fine || (last && !note_answered(gathering, answer->node));
    if (last || gathering->no_memory)
        pthread_cond_broadcast(&gathering->cluster->changed);
}

/* How many nodes are to answer. */
static size_t count_asked(struct presence_cluster *cluster)
{
    size_t count = step_peers(cluster->step, NULL, 0), asked = 1;
    struct step_peer *peers = calloc(count + 1, sizeof *peers);
    count = peers ? step_peers(cluster->step, peers, count) : 0;
    for (size_t i = 0; i < count; i++)
        asked += !peers[i].silent;
    free(peers);
    return asked;
}

/* Asks and waits. On OK *out is the asker's until it leaves it. */
static int ask(struct presence_cluster *cluster, uint32_t timeout_ms, const char *model, const char *agent,
               struct gathering **out, size_t *asked)
{
    struct gathering *gathering = calloc(1, sizeof *gathering);
    if (!gathering)
        return PRESENCE_E_NO_MEMORY;
    pthread_mutex_lock(&cluster->lock);
    gathering->cluster = cluster;
    gathering->next = cluster->gatherings;
    cluster->gatherings = gathering;
    *asked = count_asked(cluster);
    uint64_t until = cluster_now() + timeout_ms * MS;
    int code = cluster->is_refused ? PRESENCE_E_DUPLICATE : PRESENCE_OK;
    if (code == PRESENCE_OK)
        code = step_ask(cluster->step, cluster_now(), until, model, agent, told, gathering);
    if (code != PRESENCE_OK)
        gathering->step_left = true;
    cluster_wake(cluster);
    while (code == PRESENCE_OK && !gathering->no_memory && !gathering->step_left && gathering->node_count < *asked &&
           cluster_await(cluster, until + 1000 * MS))
        ;
    if (code == PRESENCE_OK && gathering->no_memory)
        code = PRESENCE_E_NO_MEMORY;
    if (code != PRESENCE_OK) {
        gathering->asker_left = true;
        let_go(gathering);
    }
    pthread_mutex_unlock(&cluster->lock);
    *out = gathering;
    return code;
}

/* Takes what was gathered, so that it is read without the lock. */
static struct gathering take(struct gathering *gathering)
{
    struct presence_cluster *cluster = gathering->cluster;
    pthread_mutex_lock(&cluster->lock);
    struct gathering taken = *gathering;
    gathering->nodes = NULL;
    gathering->stands = NULL;
    gathering->testimonies = NULL;
    gathering->node_count = gathering->stand_count = gathering->testimony_count = 0;
    gathering->asker_left = true;
    let_go(gathering);
    pthread_mutex_unlock(&cluster->lock);
    return taken;
}

/* -------------------------------------------------------------------------------------------------------- verify -- */

const char *presence_agreement_string(presence_agreement agreement)
{
    static const char *const names[] = {"agrees", "behind", "differs"};
    return (unsigned)agreement < sizeof names / sizeof names[0] ? names[agreement] : "";
}

static int by_server_and_node(const void *a, const void *b)
{
    const presence_stand *left = a, *right = b;
    int order = strcmp(left->server, right->server);
    return order ? order : strcmp(left->node, right->node);
}

static int compare_position(const presence_stand *a, const presence_stand *b)
{
    int order = presence_claim_compare(&a->claim, &b->claim);
    return order ? order : (a->number > b->number) - (a->number < b->number);
}

static bool is_holder(const presence_stand *stand)
{
    return strcmp(stand->node, stand->holder) == 0;
}

/* The rows of one server: against the furthest of them, the holder's own if it is among those. */
static void judge(presence_stand *stands, size_t count)
{
    const presence_stand *best = &stands[0];
    for (size_t i = 1; i < count; i++) {
        int order = compare_position(&stands[i], best);
        if (order > 0 || (order == 0 && is_holder(&stands[i])))
            best = &stands[i];
    }
    for (size_t i = 0; i < count; i++) {
        presence_stand *one = &stands[i];
        bool same = one->digest.all == best->digest.all && one->digest.alive == best->digest.alive &&
                    one->connections == best->connections && one->alive == best->alive &&
                    one->forgotten == best->forgotten;
        one->agreement = compare_position(one, best) < 0 ? PRESENCE_STAND_BEHIND
                         : same                          ? PRESENCE_STAND_AGREES
                                                         : PRESENCE_STAND_DIFFERS;
    }
}

static void judge_all(presence_stand *stands, size_t count)
{
    qsort(stands, count, sizeof *stands, by_server_and_node);
    for (size_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && strcmp(stands[end].server, stands[first].server) == 0;)
            end++;
        judge(stands + first, end - first);
    }
}

int presence_cluster_verify(presence_cluster *cluster, uint32_t timeout_ms,
                            void (*row)(void *context, const presence_stand *stand), void *context, size_t *answered,
                            size_t *asked)
{
    size_t nodes = 0;
    struct gathering *gathering;
    if (!row)
        return PRESENCE_E_INVALID;
    int code = ask(cluster, timeout_ms, NULL, NULL, &gathering, &nodes);
    if (code != PRESENCE_OK)
        return code;
    struct gathering taken = take(gathering);
    if (taken.stand_count > 0)
        judge_all(taken.stands, taken.stand_count);
    for (size_t i = 0; i < taken.stand_count; i++)
        row(context, &taken.stands[i]);
    if (answered)
        *answered = taken.node_count;
    if (asked)
        *asked = nodes;
    free_contents(&taken);
    return PRESENCE_OK;
}

/* ------------------------------------------------------------------------------------------------------- explain -- */

static int by_node(const void *a, const void *b)
{
    const presence_testimony *left = a, *right = b;
    return strcmp(left->node, right->node);
}

int presence_cluster_explain(presence_cluster *cluster, const char *model, const char *agent, uint32_t timeout_ms,
                             void (*row)(void *context, const presence_testimony *testimony), void *context,
                             size_t *answered, size_t *asked)
{
    size_t nodes = 0;
    struct gathering *gathering;
    presence_evidence evidence;
    if (!row || !model || !agent)
        return PRESENCE_E_INVALID;
    int code = presence_recorder_agent_evidence(cluster->recorder, model, agent, &evidence);
    if (code == PRESENCE_OK)
        code = ask(cluster, timeout_ms, model, agent, &gathering, &nodes);
    if (code != PRESENCE_OK)
        return code;
    struct gathering taken = take(gathering);
    if (taken.testimony_count > 0)
        qsort(taken.testimonies, taken.testimony_count, sizeof *taken.testimonies, by_node);
    for (size_t i = 0; i < taken.testimony_count; i++)
        row(context, &taken.testimonies[i]);
    if (answered)
        *answered = taken.node_count;
    if (asked)
        *asked = nodes;
    free_contents(&taken);
    return PRESENCE_OK;
}
