/* SPDX-License-Identifier: Apache-2.0 */
/*
 * long.c - a client's long command, run as a job (worker/worker.h) while the client is paused: nothing more of it is
 * read or run, so its replies keep their order.
 *
 * The job has what the command needs as its own: the words are copied, for the input they lie in is the loop's; and so
 * is the client, for its loop may go on telling it what it watches, or take its token away. What the command changes of
 * a client (its session, its list) is taken over when it is back. Until then the client is not closed, whatever comes
 * of it: it is lost, and closed then.
 *
 * The owner's loop, but for run_job. O(bytes of the words) beside the command.
 */
#include "access/principal.h"
#include "commands/command.h"
#include "resp/client.h"

#include <stdlib.h>
#include <string.h>

struct resp_job {
    struct job job; /* first */
    struct resp_client *client;
    struct client asker; /* the client, as it was */
    struct call call;
    struct resp_reply reply;
    struct bytes replies;
    struct slice *words;
    char *text;
};

static void free_job(struct resp_job *job)
{
    principal_release(job->asker.principal);
    bytes_free(&job->replies);
    free(job->words);
    free(job->text);
    free(job);
}

/* Copies the words, of which there is one at least, each with its NUL. False: out of memory. */
static bool copy_words(struct resp_job *job, const struct call *call)
{
    if (call->word_count == 0)
        return false;
    size_t length = 0;
    for (size_t i = 0; i < call->word_count; i++)
        length += call->words[i].length + 1;
    job->words = malloc(call->word_count * sizeof *job->words);
    job->text = malloc(length);
    if (!job->words || !job->text)
        return false;
    char *to = job->text;
    for (size_t i = 0; i < call->word_count; i++) {
        struct slice word = call->words[i];
        memcpy(to, word.text, word.length);
        to[word.length] = 0;
        job->words[i] = (struct slice){to, word.length};
        to += word.length + 1;
    }
    return true;
}

/* An argument that is a word becomes the copy of it; others (a model that was filled in) belong to the principal. */
static void move_text(const struct resp_job *job, const struct call *from, const char **text)
{
    for (size_t i = 0; *text && i < from->word_count; i++)
        if (from->words[i].text == *text) {
            *text = job->words[i].text;
            return;
        }
}

static void copy_call(struct resp_job *job, const struct call *from)
{
    struct arguments *arguments = &job->call.arguments;
    job->call = *from;
    job->call.client = &job->asker;
    job->call.reply = &job->reply.reply;
    job->call.words = job->words;
    move_text(job, from, &arguments->server);
    move_text(job, from, &arguments->model);
    move_text(job, from, &arguments->agent);
    move_text(job, from, &arguments->data);
    move_text(job, from, &arguments->cursor);
    if (arguments->rest)
        arguments->rest = job->words + (from->arguments.rest - from->words);
}

static void run_job(struct job *base)
{
    struct resp_job *job = (struct resp_job *)(void *)base;
    command_execute(&job->call);
}

static void end_job(struct job *base)
{
    struct resp_job *job = (struct resp_job *)(void *)base;
    struct resp_client *client = job->client;
    client->job = NULL;
    client->client.session = job->asker.session;
    client->client.join = job->asker.join;
    client->client.gathering = job->asker.gathering;
    client->heard = client->moved = client->owner->tick;
    counter_add(&client->owner->node->counters[client->owner->loop->index].errors, job->reply.errors);
    if (base->skipped)
        client->lost = true;
    else if (!client->lost)
        resp_output_take(client, &job->replies);
    free_job(job);
    resp_client_resume(client);
    if (!client->lost && client->stage == RESP_SERVING && resp_client_is_welcome(client))
        resp_serve_kept(client);
    resp_client_settle(client);
}

bool resp_long_begin(struct resp_client *client, const struct call *call)
{
    struct resp_job *job = calloc(1, sizeof *job);
    if (!job || !copy_words(job, call)) {
        if (job)
            free_job(job);
        return false;
    }
    job->client = client;
    job->asker = client->client;
    job->asker.principal = principal_keep(client->client.principal);
    job->asker.feed = NULL;
    job->asker.on_worker = true;
    resp_reply_init(&job->reply, &job->replies, client->client.version);
    copy_call(job, call);
    job->job = (struct job){.run = run_job,
                            .done = end_job,
                            .loop = client->client.loop,
                            .server = command_writes_to(&job->call),
                            .waits = call->command->flags & COMMAND_WAITS};
    client->job = &job->job;
    if (worker_offer(client->client.node, &job->job)) {
        event_del(client->readable);
        return true;
    }
    client->job = NULL;
    free_job(job);
    return false;
}
