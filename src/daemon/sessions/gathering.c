/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gathering.c - a server's whole list, sent in parts.
 *
 * The values are packed one behind the other, without the server's name: a record's head, then its three texts with
 * their NULs. At the commit they become the recorder's array of values, which point into them. Bytes are taken from
 * max-list-bytes before they are copied, for the array too, and given back with the list. One principal's lists take at
 * most three fourths of what those of others leave, so that nobody is left without any.
 *
 * Keeps true: the sum of what all gatherings hold is at most max-list-bytes, but for the slack of a buffer that
 * doubles; an id that was disconnected after the beginning is not made alive by the commit. Called on the client's
 * loop, but for gathering_note_gone, which is any loop's. Adding is O(bytes added); the commit costs what
 * presence_recorder_merge_server_since does; noting an id that goes is O(log ids noted) in the long run.
 */
#include "sessions/inside.h"

#include "access/principal.h"
#include "base/bytes.h"

#include <stdio.h>
#include <stdlib.h>

/* Ids that are noted with a list; beyond, it lags. They are sorted with the mutex held, so there is an end to it. */
enum { LEAST_GONE = 64, MOST_GONE = 1 << 20 };

/* What the lists of one principal take. The mutex's. */
struct share {
    struct share *next;
    size_t lists; /* freed with the last */
    uint64_t bytes;
    char owner[]; /* its name, which a reload does not change; "": no tokens are in use, and all is one owner's */
};

struct gathering {
    struct sessions *sessions;
    struct bytes records;
    size_t count;
    uint64_t revision; /* at which it was begun */
    bool spoilt;
    /* Shared with those who disconnect ids of the server; under the mutex of the sessions. */
    struct gathering *next, **link;
    struct share *share;
    uint64_t charged_bytes;
    uint64_t *gone; /* ids that went since the beginning */
    size_t gone_count, gone_room;
    bool forgot;     /* one of them could not be noted */
    bool committing; /* it is too late to note one */
    char server[];
};

struct record_head {
    uint64_t id;
    uint32_t model_bytes, agent_bytes, data_bytes; /* with their NULs */
    bool controller_agent;
};

/* Finds the owner's share, or makes it; with one list more. NULL: out of memory. */
static struct share *share_take(struct sessions *sessions, const struct principal *principal)
{
    const char *owner = principal ? principal_name(principal) : "";
    size_t length = strlen(owner) + 1;
    pthread_mutex_lock(&sessions->mutex);
    struct share *share = sessions->shares;
    while (share && strcmp(share->owner, owner) != 0)
        share = share->next;
    if (!share && (share = calloc(1, sizeof *share + length))) {
        memcpy(share->owner, owner, length);
        share->next = sessions->shares;
        sessions->shares = share;
    }
    if (share)
        share->lists++;
    pthread_mutex_unlock(&sessions->mutex);
    return share;
}

/* With the mutex held. */
static void share_leave(struct sessions *sessions, struct share *share)
{
    if (--share->lists > 0)
        return;
    struct share **link = &sessions->shares;
    while (*link != share)
        link = &(*link)->next;
    *link = share->next;
    free(share);
}

/* From here on it is told who goes. */
static void enlist(struct sessions *sessions, struct gathering *gathering)
{
    atomic_fetch_add(&sessions->gathering_count, 1); /* first: who finds 0 does not look at the list */
    pthread_mutex_lock(&sessions->mutex);
    gathering->link = &sessions->gatherings;
    gathering->next = sessions->gatherings;
    if (gathering->next)
        gathering->next->link = &gathering->next;
    sessions->gatherings = gathering;
    pthread_mutex_unlock(&sessions->mutex);
}

bool gathering_begin(struct client *client, const char *server)
{
    size_t length = strlen(server) + 1;
    struct gathering *gathering = calloc(1, sizeof *gathering + length);
    struct share *share = gathering ? share_take(client->node->sessions, client->principal) : NULL;
    if (!share) {
        free(gathering);
        return false;
    }
    gathering_drop(client);
    gathering->sessions = client->node->sessions;
    gathering->share = share;
    memcpy(gathering->server, server, length);
    enlist(gathering->sessions, gathering);
    gathering->revision = presence_recorder_revision(client->node->recorder);
    client->gathering = gathering;
    return true;
}

struct gathering *gathering_of(struct client *client, const char *server)
{
    struct gathering *gathering = client->gathering;
    return gathering && strcmp(gathering->server, server) == 0 ? gathering : NULL;
}

/* Takes the bytes from the limit of all lists. False: they are not there, and nothing was taken. The mutex is held. */
static bool charge(struct gathering *gathering, uint64_t bytes)
{
    struct sessions *sessions = gathering->sessions;
    struct share *share = gathering->share;
    uint64_t most = sessions->node->config->max_list_bytes, others = sessions->gathering_bytes - share->bytes;
    uint64_t room = others < most ? most - others : 0;
    if (*share->owner)
        room -= room / 4;
    if (bytes > room || share->bytes > room - bytes)
        return false;
    sessions->gathering_bytes += bytes;
    share->bytes += bytes;
    gathering->charged_bytes += bytes;
    return true;
}

static struct record_head head_of(const presence_value *value)
{
    return (struct record_head){
        .id = value->connection_id,
        .model_bytes = (uint32_t)strlen(value->model) + 1,
        .agent_bytes = (uint32_t)strlen(value->agent) + 1,
        .data_bytes = (uint32_t)(value->user_data ? strlen(value->user_data) : 0) + 1,
        .controller_agent = value->controller_agent,
    };
}

int gathering_add(struct gathering *gathering, const presence_value *values, size_t count)
{
    struct bytes *records = &gathering->records;
    uint64_t wanted = count * sizeof(presence_value);
    for (size_t i = 0; i < count; i++) {
        struct record_head head = head_of(&values[i]);
        wanted += sizeof head + head.model_bytes + head.agent_bytes + head.data_bytes;
    }
    if (gathering->spoilt)
        return PRESENCE_OK; /* nothing that is added now can be used */
    pthread_mutex_lock(&gathering->sessions->mutex);
    bool fits = charge(gathering, wanted);
    pthread_mutex_unlock(&gathering->sessions->mutex);
    if (!fits) {
        gathering_spoil(gathering);
        return PRESENCE_E_LIMIT;
    }
    for (size_t i = 0; i < count; i++) {
        struct record_head head = head_of(&values[i]);
        bytes_append(records, &head, sizeof head);
        bytes_append(records, values[i].model, head.model_bytes);
        bytes_append(records, values[i].agent, head.agent_bytes);
        bytes_append(records, values[i].user_data ? values[i].user_data : "", head.data_bytes);
    }
    gathering->count += count;
    if (!records->failed)
        return PRESENCE_OK;
    gathering_spoil(gathering);
    return PRESENCE_E_NO_MEMORY;
}

/* Gives back all that was charged; the records are freed. What goes from here on is not noted any more. The mutex is
 * held. */
static void give_back(struct gathering *gathering)
{
    free(gathering->gone);
    gathering->gone = NULL;
    gathering->gone_count = gathering->gone_room = 0;
    gathering->forgot = true;
    gathering->sessions->gathering_bytes -= gathering->charged_bytes;
    gathering->share->bytes -= gathering->charged_bytes;
    gathering->charged_bytes = 0;
}

void gathering_spoil(struct gathering *gathering)
{
    gathering->spoilt = true;
    bytes_free(&gathering->records);
    pthread_mutex_lock(&gathering->sessions->mutex);
    give_back(gathering);
    pthread_mutex_unlock(&gathering->sessions->mutex);
}

bool gathering_is_spoilt(const struct gathering *gathering)
{
    return gathering->spoilt;
}

size_t gathering_count(const struct gathering *gathering)
{
    return gathering->count;
}

/* The records as the recorder wants them, pointing into them. */
static presence_value *unpack(const struct gathering *gathering)
{
    presence_value *values = calloc(gathering->count ? gathering->count : 1, sizeof *values);
    const char *at = gathering->records.data;
    for (size_t i = 0; values && i < gathering->count; i++) {
        struct record_head head;
        memcpy(&head, at, sizeof head);
        const char *model = at + sizeof head, *agent = model + head.model_bytes, *data = agent + head.agent_bytes;
        values[i] = (presence_value){
            .server = gathering->server,
            .model = model,
            .agent = agent,
            .user_data = data,
            .connection_id = head.id,
            .controller_agent = head.controller_agent,
        };
        at = data + head.data_bytes;
    }
    return values;
}

/* ----------------------------------------------------------------------------------------------------- who goes -- */

static int compare_ids(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* Sorts them, each once. */
static void sort_gone(struct gathering *gathering)
{
    size_t count = 0;
    if (gathering->gone_count == 0)
        return;
    qsort(gathering->gone, gathering->gone_count, sizeof *gathering->gone, compare_ids);
    for (size_t i = 0; i < gathering->gone_count; i++)
        if (count == 0 || gathering->gone[count - 1] != gathering->gone[i])
            gathering->gone[count++] = gathering->gone[i];
    gathering->gone_count = count;
}

/* Room for more ids: that of those who repeat, if half of them do, else twice as much. False: there is none. The mutex
 * is held. */
static bool make_room(struct gathering *gathering)
{
    sort_gone(gathering);
    size_t room = gathering->gone_room ? 2 * gathering->gone_room : LEAST_GONE;
    if (gathering->gone_count < gathering->gone_room / 2)
        return true;
    if (room > MOST_GONE || !charge(gathering, (room - gathering->gone_room) * sizeof *gathering->gone))
        return false;
    uint64_t *gone = realloc(gathering->gone, room * sizeof *gone);
    if (!gone)
        return false; /* what was charged for it is given back with the list */
    gathering->gone = gone;
    gathering->gone_room = room;
    return true;
}

/* The mutex is held. */
static void note(struct gathering *gathering, const uint64_t *ids, size_t count)
{
    for (size_t i = 0; i < count && !gathering->forgot; i++)
        if (gathering->gone_count < gathering->gone_room || make_room(gathering))
            gathering->gone[gathering->gone_count++] = ids[i];
        else
            gathering->forgot = true;
}

static bool is_being_committed(const struct sessions *sessions, const char *server)
{
    for (const struct gathering *each = sessions->gatherings; each; each = each->next)
        if (each->committing && strcmp(each->server, server) == 0)
            return true;
    return false;
}

void gathering_note_gone(struct node *node, const char *server, const uint64_t *ids, size_t count)
{
    struct sessions *sessions = node->sessions;
    if (atomic_load(&sessions->gathering_count) == 0)
        return;
    pthread_mutex_lock(&sessions->mutex);
    while (is_being_committed(sessions, server))
        pthread_cond_wait(&sessions->committed, &sessions->mutex);
    for (struct gathering *each = sessions->gatherings; each; each = each->next)
        if (strcmp(each->server, server) == 0)
            note(each, ids, count);
    pthread_mutex_unlock(&sessions->mutex);
}

/* Takes those who have gone out of the values; how many are left. They are left as they are: if one has come again, the
 * recorder keeps it as newer than the list. From here on nobody is noted any more. */
static size_t without_gone(struct gathering *gathering, presence_value *values)
{
    size_t left = 0;
    pthread_mutex_lock(&gathering->sessions->mutex);
    gathering->committing = true;
    pthread_mutex_unlock(&gathering->sessions->mutex);
    if (gathering->gone_count == 0)
        return gathering->count;
    sort_gone(gathering);
    for (size_t i = 0; i < gathering->count; i++)
        if (!bsearch(&values[i].connection_id, gathering->gone, gathering->gone_count, sizeof *gathering->gone,
                     compare_ids))
            values[left++] = values[i];
    return left;
}

/* ------------------------------------------------------------------------------------------------------ the end -- */

static int commit_values(struct node *node, struct gathering *gathering, presence_error *error)
{
    presence_value *values = unpack(gathering);
    if (!values)
        return PRESENCE_E_NO_MEMORY;
    size_t count = without_gone(gathering, values);
    int code = gathering->forgot ? PRESENCE_E_LAGGED : limits_check(node, values, count, true, error);
    if (code == PRESENCE_OK)
        code = presence_recorder_merge_server_since(node->recorder, gathering->server, gathering->revision, values,
                                                    count, error);
    free(values);
    return code;
}

int gathering_commit(struct client *client, presence_error *error)
{
    struct gathering *gathering = client->gathering;
    int code = PRESENCE_E_INVALID;
    if (gathering->spoilt)
        snprintf(error->message, sizeof error->message, "a part of the list was refused, so all of it is: begin again");
    else
        code = commit_values(client->node, gathering, error);
    gathering_drop(client);
    return code;
}

void gathering_drop(struct client *client)
{
    struct gathering *gathering = client->gathering;
    client->gathering = NULL;
    if (!gathering)
        return;
    struct sessions *sessions = gathering->sessions;
    bytes_free(&gathering->records);
    pthread_mutex_lock(&sessions->mutex);
    *gathering->link = gathering->next;
    if (gathering->next)
        gathering->next->link = gathering->link;
    pthread_cond_broadcast(&sessions->committed);
    give_back(gathering);
    share_leave(sessions, gathering->share);
    pthread_mutex_unlock(&sessions->mutex);
    atomic_fetch_sub(&sessions->gathering_count, 1);
    free(gathering);
}

uint64_t gathering_bytes(struct node *node)
{
    struct sessions *sessions = node->sessions;
    pthread_mutex_lock(&sessions->mutex);
    uint64_t bytes = sessions->gathering_bytes;
    pthread_mutex_unlock(&sessions->mutex);
    return bytes;
}
