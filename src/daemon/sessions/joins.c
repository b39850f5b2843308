/* SPDX-License-Identifier: Apache-2.0 */
/*
 * joins.c - clients that are themselves an agent's connection to this node.
 *
 * A joined client is a connection of the node's own server, with an id that this run of the node uses once. Input of
 * the client stamps it; its end removes it. Names are kept, so that an agent is recorded again by its next input when
 * the record was cleared meanwhile (DISABLE, ENABLE), or the node had to begin a new life of its server.
 *
 * Called on the client's loop. A stamp costs what an activity by handle costs.
 */
#include "sessions/inside.h"

#include "access/principal.h"

#include <stdio.h>
#include <stdlib.h>

struct join {
    presence_handle handle;
    uint64_t id;
    uint64_t own_life;                /* of the node's server, when it was recorded */
    const char *model, *agent, *data; /* in `text` */
    char text[];
};

static struct join *make(const char *model, const char *agent, const char *data)
{
    size_t model_bytes = strlen(model) + 1, agent_bytes = strlen(agent) + 1, data_bytes = strlen(data) + 1;
    struct join *join = calloc(1, sizeof *join + model_bytes + agent_bytes + data_bytes);
    if (!join)
        return NULL;
    join->model = memcpy(join->text, model, model_bytes);
    join->agent = memcpy(join->text + model_bytes, agent, agent_bytes);
    join->data = memcpy(join->text + model_bytes + agent_bytes, data, data_bytes);
    return join;
}

static int record(struct node *node, struct join *join, presence_error *error)
{
    presence_value value = {
        .server = node->name,
        .model = join->model,
        .agent = join->agent,
        .user_data = join->data,
        .connection_id = join->id,
    };
    join->own_life = atomic_load(&node->sessions->own_life);
    int code = limits_check(node, &value, 1, false, error);
    return code ? code : presence_recorder_connect_handle(node->recorder, &value, &join->handle, NULL, error);
}

int join_open(struct client *client, const char *model, const char *agent, const char *data, uint64_t *id,
              presence_error *error)
{
    struct node *node = client->node;
    if (client->join) {
        snprintf(error->message, sizeof error->message, "this client has joined already");
        return PRESENCE_E_DUPLICATE;
    }
    struct join *join = make(model, agent, data ? data : "");
    if (!join)
        return PRESENCE_E_NO_MEMORY;
    join->id = atomic_fetch_add(&node->sessions->last_join_id, 1) + 1;
    int code = record(node, join, error);
    if (code) {
        free(join);
        return code;
    }
    *id = join->id;
    client->join = join;
    return PRESENCE_OK;
}

bool join_permits(const struct join *join, const struct principal *principal)
{
    return !join || (principal && principal_may_join(principal, join->model, join->agent));
}

void join_stamp(struct client *client)
{
    struct node *node = client->node;
    struct join *join = client->join;
    presence_error error;
    bool of_older_life = join->own_life != atomic_load_explicit(&node->sessions->own_life, memory_order_relaxed);
    if ((of_older_life || presence_recorder_activity_handle(node->recorder, &join->handle) == PRESENCE_E_NOT_FOUND) &&
        !atomic_load(&node->stopping))
        record(node, join, &error); /* at a limit, the next input tries again */
}

void join_close(struct client *client)
{
    struct join *join = client->join;
    client->join = NULL;
    /* Once the node stops, its server is drained: what ends afterwards was drained, and did not leave. */
    if (!atomic_load(&client->node->stopping))
        presence_recorder_disconnect_handle(client->node->recorder, &join->handle);
    free(join);
}
