/* SPDX-License-Identifier: Apache-2.0 */
/*
 * output.c - replies on their way out.
 *
 * What the socket does not take at once is kept with the client, in its order. Beyond half of max-output-bytes the
 * client is paused: whoever does not read its replies gets no new ones; up to there it may send whole pipelines before
 * it reads, as client libraries do. Beyond all of it (one reply larger than the other half; or a watch, which no pause
 * stops) the client is cut off.
 *
 * Keeps true: at most max-output-bytes and one reply are kept for a client. The owner's loop only. A system call for
 * each take, as long as nothing waits.
 */
#include "base/log.h"
#include "resp/client.h"
#include "watches/feed.h"

#include <event2/event.h>

enum { SCRATCH_KEPT_BYTES = 1024 * 1024, COMPACT_FROM_BYTES = 64 * 1024 };

static struct counters *counters_of(const struct resp_client *client)
{
    return &client->owner->node->counters[client->owner->loop->index];
}

void resp_client_cut_off(struct resp_client *client, const char *why, _Atomic uint64_t *counter)
{
    log_event(LOG_LEVEL_WARNING, "client cut off", "client", client->client.peer, "why", why, NULL);
    if (counter)
        counter_add(counter, 1);
    client->lost = true;
}

/* Writes until the socket takes no more; how much. */
static size_t write_some(struct resp_client *client, const char *data, size_t length)
{
    size_t sum = 0;
    while (sum < length) {
        ssize_t written = client->transport->write(client, data + sum, length - sum);
        if (written == TRANSPORT_LOST)
            client->lost = true;
        if (written < 0)
            break;
        sum += (size_t)written;
    }
    counter_add(&counters_of(client)->bytes_out, sum);
    return sum;
}

/* Keeps what the socket did not take. */
static void keep(struct resp_client *client, const char *data, size_t length)
{
    const uint64_t most = client->owner->node->config->max_output_bytes;
    bool first = resp_output_waiting(client) == 0;
    bytes_append(&client->output, data, length);
    if (client->output.failed || (first && event_add(client->writable, NULL) != 0)) {
        resp_client_cut_off(client, "out of memory", &counters_of(client)->cut_off_output);
        return;
    }
    if (first)
        client->moved = client->owner->tick;
    if (resp_output_waiting(client) > most) {
        resp_client_cut_off(client, "reads too slowly", &counters_of(client)->cut_off_output);
    } else if (resp_output_waiting(client) > most / 2 && !client->paused) {
        client->paused = true;
        event_del(client->readable);
    }
}

void resp_output_take(struct resp_client *client, struct bytes *replies)
{
    size_t written = 0;
    if (replies->failed)
        resp_client_cut_off(client, "out of memory", &counters_of(client)->cut_off_output);
    if (!client->lost && resp_output_waiting(client) == 0)
        written = write_some(client, replies->data, replies->length);
    if (!client->lost && written < replies->length)
        keep(client, replies->data + written, replies->length - written);
    replies->length = 0;
    replies->failed = false;
    if (replies->capacity > SCRATCH_KEPT_BYTES)
        bytes_free(replies);
}

void resp_output_more(struct resp_client *client)
{
    struct bytes *output = &client->output;
    size_t waiting = resp_output_waiting(client);
    size_t written = waiting > 0 ? write_some(client, output->data + client->sent, waiting) : 0;
    client->sent += written;
    if (client->lost)
        return;
    if (written > 0)
        client->moved = client->owner->tick;
    if (resp_output_waiting(client) == 0) {
        bytes_free(output);
        client->sent = 0;
        event_del(client->writable);
    } else if (client->sent >= COMPACT_FROM_BYTES && client->sent > output->length / 2) {
        bytes_drop(output, client->sent);
        client->sent = 0;
    }
    if (client->paused && resp_output_waiting(client) < client->owner->node->config->max_output_bytes / 4) {
        client->paused = false;
        resp_client_resume(client);
    }
}

/* ----------------------------------------------------------------------------------------------- what is watched -- */

/* RESP3: > presence event {...}. RESP2, as though the client had subscribed to a channel: * message presence TEXT;
 * the text is JSON, since client libraries take a message's payload to be a string. */
static struct reply *begin_push(struct client *client, const char *kind, const char *id)
{
    (void)kind, (void)id; /* both are in the event */
    struct resp_client *resp = (struct resp_client *)(void *)client;
    struct reply *reply = &resp->owner->push.reply;
    resp_reply_init(&resp->owner->push, &resp->owner->loop->output, client->version);
    if (client->version < 3) {
        json_reply_init(&resp->owner->message);
        return &resp->owner->message.reply;
    }
    reply_push(reply, 3);
    reply_string(reply, "presence");
    reply_string(reply, "event");
    return reply;
}

static void end_push(struct client *client)
{
    struct resp_client *resp = (struct resp_client *)(void *)client;
    struct reply *reply = &resp->owner->push.reply;
    struct bytes text = {0};
    if (client->version >= 3)
        return;
    if (json_reply_dump(&resp->owner->message, &text)) {
        reply_array(reply, 3);
        reply_string(reply, "message");
        reply_string(reply, "presence");
        reply_text(reply, (struct slice){text.data, text.length});
    } else {
        resp->owner->loop->output.failed = true;
    }
    json_reply_free(&resp->owner->message);
    bytes_free(&text);
}

static bool flush_pushes(struct client *client)
{
    struct resp_client *resp = (struct resp_client *)(void *)client;
    struct bytes *pushes = &resp->owner->loop->output;
    if (resp->stage != RESP_SERVING)
        pushes->length = 0; /* its last reply is said: nothing comes behind that */
    else
        resp_output_take(resp, pushes);
    if (client->closing && resp->stage == RESP_SERVING)
        resp->stage = RESP_FLUSHING; /* the feed has ended its client: its principal was revoked, say */
    return resp_client_settle(resp);
}

static size_t waiting_pushes(struct client *client)
{
    return resp_output_waiting((struct resp_client *)(void *)client);
}

const struct feed_sink resp_feed_sink = {begin_push, end_push, flush_pushes, waiting_pushes};
