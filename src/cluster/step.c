/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step.c - one node of a cluster as a function: making it, giving it messages, letting it do what is due.
 *
 * Keeps true: nothing in here waits or knows a clock; whatever order calls come in, and whatever bytes, the recorder is
 * only told what its claims and numbers allow. One thread at a time.
 */
#include "cluster/inside.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void step_config_default(struct step_config *config)
{
    *config = (struct step_config){
        .interval = 500,
        .lease = 3000,
        .settle = 30000,
        .hold = 30000,
        .activity = 20000,
        .tombstone = 3600000,
        .buffer_bytes = (size_t)16 << 20,
        .most_state_bytes = (size_t)4 << 30,
        .most_peers = 1024,
        .most_servers = 1000000,
        .most_changes = 1000000,
        .chunk_values = 1024,
    };
}

/* splitmix64: every bit of randomness of a node comes from its seed, so that a run can be repeated. */
uint64_t step_random(struct step *step)
{
    uint64_t z = (step->random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return z ? z : 1;
}

void step_say(struct step *step, enum step_level level, const char *event, const char *format, ...)
{
    if (!step->output.log)
        return;
    char text[1536];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    step->output.log(step->output.context, level, event, text);
}

bool step_may_say(struct step *step, unsigned kind)
{
    uint64_t *last = &step->logged[kind % 8];
    if (*last != 0 && step->now - *last < 10000 * MS)
        return false;
    *last = step->now;
    return true;
}

/* -------------------------------------------------------------------------------------------- making and freeing -- */

static bool name_is_good(const char *node)
{
    size_t length = node ? strlen(node) : 0;
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    return length > 0 && length < STEP_NODE_BYTES && strspn(node, allowed) == length;
}

static int check_config(const struct step_config *config, presence_error *error)
{
    const char *wrong = NULL;
    if (!name_is_good(config->node))
        wrong = "a node's name is 1 to 127 of A-Z a-z 0-9 - and _";
    else if (config->interval == 0 || config->lease < 3 * config->interval)
        wrong = "the lease must be at least three beats, and a beat at least a millisecond";
    if (wrong && error) {
        error->code = PRESENCE_E_INVALID;
        snprintf(error->message, sizeof error->message, "%s", wrong);
    }
    return wrong ? PRESENCE_E_INVALID : PRESENCE_OK;
}

struct step *step_new(const struct step_config *config, presence_recorder *recorder, const struct step_output *output,
                      uint64_t now, presence_error *error)
{
    if (check_config(config, error))
        return NULL;
    struct step *step = calloc(1, sizeof *step);
    if (!step)
        goto no_memory;
    step->config = *config;
    step->output = *output;
    step->recorder = recorder;
    step->random = config->seed;
    step->run = step_random(step);
    step->now = step->last_run = step->started = step->calm = now;
    step->doubt_since = now;
    step->next_beat = NEVER;
    step->statements_lagged = true;
    step->config.node = strdup(config->node);
    step->in = wire_arena_new();
    step->again = wire_arena_new();
    step->out = wire_arena_new();
    step->read = calloc(STATEMENTS_MOST, sizeof *step->read);
    if (!step->config.node || !step->in || !step->again || !step->out || !step->read ||
        presence_replica_statements(recorder, &step->statements) != PRESENCE_OK)
        goto no_memory;
    return step;
no_memory:
    if (error) {
        error->code = PRESENCE_E_NO_MEMORY;
        snprintf(error->message, sizeof error->message, "%s", presence_strerror(PRESENCE_E_NO_MEMORY));
    }
    step_free(step);
    return NULL;
}

static void listen_no_more(void *context, const char *node, bool wanted)
{
    (void)context;
    (void)node;
    (void)wanted;
}

void step_free(struct step *step)
{
    if (!step)
        return;
    step->output.listen = listen_no_more;
    step->output.apply = NULL; /* there may be no thread any more that runs jobs */
    while (step->servers)
        server_forget(step, step->servers);
    while (step->peers)
        peer_forget(step, step->peers);
    active_free(step);
    tell_free(step);
    presence_statement_reader_free(step->statements);
    wire_arena_free(step->in);
    wire_arena_free(step->again);
    wire_arena_free(step->out);
    free(step->read);
    free((void *)(uintptr_t)step->config.node);
    free(step);
}

int step_descriptor(const struct step *step)
{
    return presence_statement_fd(step->statements);
}

bool step_rests(const struct step *step)
{
    return step->rests;
}

/* ------------------------------------------------------------------------------------------------------- sending -- */

static bool encode(struct step *step, struct wire_message *message, const void **bytes, size_t *length)
{
    message->node = step->config.node;
    message->run = step->run;
    wire_arena_reset(step->out);
    int code = wire_encode(step->out, message, bytes, length);
    if (code && step_may_say(step, 0))
        step_say(step, STEP_WARNING, "send", "cannot encode a message of kind %d: %s", (int)message->kind,
                 wire_strerror(code));
    return code == WIRE_OK;
}

void step_broadcast(struct step *step, enum step_lane lane, struct wire_message *message)
{
    const void *bytes;
    size_t length;
    if (!step->link || !encode(step, message, &bytes, &length))
        return;
    step->counters.bytes_sent += length;
    step->output.broadcast(step->output.context, lane, bytes, length);
}

void step_send(struct step *step, const char *node, struct wire_message *message)
{
    const void *bytes;
    size_t length;
    if (!step->link || !encode(step, message, &bytes, &length))
        return;
    step->counters.bytes_sent += length;
    step->output.send(step->output.context, node, bytes, length);
}

bool step_may_send_bulk(struct step *step)
{
    return step->link && step->output.waiting(step->output.context) < STEP_MOST_WAITING;
}

/* ----------------------------------------------------------------------------------------------------- receiving -- */

static void note_time(struct step *step, uint64_t now)
{
    if (now > step->now)
        step->now = now;
}

/* What this process could not hear while it did not run was not silence (rule E). */
static void note_pause(struct step *step)
{
    uint64_t away = step->now - step->last_run;
    step->last_run = step->now;
    if (away <= step->config.lease * MS / 2)
        return;
    step->calm = step->now;
    step->echoed = 0;
    memset(step->echoes, 0, sizeof step->echoes); /* those under way are as old as what else was queued */
    step_say(step, STEP_INFO, "pause", "this process did not run for %llu ms", (unsigned long long)(away / MS));
}

static void count_malformed(struct step *step, int code)
{
    if (code == WIRE_E_VERSION)
        step->counters.foreign_version++;
    else if (code != WIRE_E_UNKNOWN)
        step->counters.malformed++;
    if (code != WIRE_E_UNKNOWN && step_may_say(step, 1))
        step_say(step, STEP_WARNING, "malformed", "dropped a message: %s (%" PRIu64 " of them so far)",
                 wire_strerror(code), step->counters.malformed + step->counters.foreign_version);
}

static void dispatch(struct step *step, struct peer *peer, const struct wire_message *message, const void *bytes,
                     size_t length)
{
    switch (message->kind) {
    case WIRE_CHANGES:
        follow_changes(step, peer, message, bytes, length);
        return;
    case WIRE_ACTIVITY:
        active_receive(step, &message->activity);
        return;
    case WIRE_ASK:
        tell_ask(step, message);
        return;
    case WIRE_CHUNK:
    case WIRE_DIFFERENCE:
        intake_chunk(step, peer, &message->chunk, message->kind == WIRE_DIFFERENCE);
        return;
    case WIRE_KNOWN:
        orphans_known(step, peer, &message->known);
        tell_answer(step, message, message->known.tag);
        return;
    case WIRE_FORGET:
        orphans_forget(step, &message->forget);
        return;
    case WIRE_EVIDENCE:
        tell_answer(step, message, message->evidence.tag);
        return;
    case WIRE_BEAT:
        return;
    }
}

void step_receive(struct step *step, uint64_t now, const void *bytes, size_t length)
{
    note_time(step, now);
    note_pause(step);
    struct wire_message message;
    step->counters.bytes_received += length;
    wire_arena_reset(step->in);
    int code = wire_decode(step->in, bytes, length, &message);
    if (code) {
        count_malformed(step, code);
        return;
    }
    if (step->left)
        return;
    if (message.kind == WIRE_BEAT) {
        beat_receive(step, &message);
        return;
    }
    if (message.run == step->run && strcmp(message.node, step->config.node) == 0)
        return;
    struct peer *peer = peer_find_or_add(step, message.node, message.run);
    if (peer)
        dispatch(step, peer, &message, bytes, length);
    else
        step->counters.refused++;
}

void step_link(struct step *step, uint64_t now, bool up)
{
    note_time(step, now);
    if (step->link == up)
        return;
    step->link = up;
    if (up) {
        if (step->linked == 0)
            step->linked = step->now;
        step->calm = step->now;
        step->next_beat = step->now;
        for (struct peer *peer = step->peers; peer; peer = peer->next)
            for (struct server *server = step->servers; server && peer->intakes; server = server->next)
                if (server->repair == REPAIR_STATE && server->source == peer)
                    step->output.listen(step->output.context, peer->node, true);
    } else {
        step->next_beat = NEVER;
        step->echoed = 0;
    }
    beat_judge(step);
}

/* --------------------------------------------------------------------------------------------------- what is due -- */

/* What goes by time of single servers. O(servers) each half interval. */
static void sweep(struct step *step)
{
    for (struct server *server = step->servers, *next; server; server = next) {
        next = server->next;
        if (server->repair != REPAIR_NONE && step->now - server->asked_at >= step->config.interval * MS)
            follow_retry(step, server);
        if (server->role == OURS && server->settle <= step->now)
            ours_complete(step, server);
        if (server->role == OURS && server->rumoured)
            ours_judge_rumour(step, server);
        uint64_t until = beat_since(step, server->orphaned) + step->config.lease * MS;
        if (server->role == THEIRS && server->orphaned && !server->lapsed && !step->deaf && !step->most_silent &&
            step->now > until && beat_heard_ourselves(step, until))
            follow_lapse(step, server);
        orphans_settle(step, server);
    }
    orphans_by_age(step);
}

static bool everything_is_here(const struct step *step)
{
    for (const struct server *server = step->servers; server; server = server->next)
        if (server->repair != REPAIR_NONE)
            return false;
    return true;
}

/* Ready once it has listened for a lease, is heard, and holds every server that it heard of (rule G). */
static void judge_ready(struct step *step)
{
    bool fetched = step->linked != 0 && step->now - step->linked >= step->config.lease * MS && everything_is_here(step);
    if (step->ready || step->deaf || (!fetched && rule(step, STEP_RULE_READY)))
        return;
    step->ready = true;
    step->doubt_since = 0;
    step_say(step, STEP_INFO, "ready", "joined with %zu peers and %zu servers known", step->peer_count,
             step->server_count);
    ours_claim_pending(step);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t step_run(struct step *step, uint64_t now)
{
    note_time(step, now);
    note_pause(step);
    if (step->left)
        return NEVER;
    bool more = ours_pump(step) && !step->rests;
    uint64_t due = beat_judge(step);
    if (step->next_sweep <= step->now) {
        sweep(step);
        step->next_sweep = step->now + step->config.interval * MS / 2;
        judge_ready(step);
    }
    more = transfer_run(step) || more;
    due = earlier(due, active_run(step));
    due = earlier(due, tell_run(step));
    due = earlier(due, orphans_run(step));
    due = earlier(due, beat_run(step));
    due = earlier(due, step->next_sweep);
    return more ? step->now : due;
}

/* ------------------------------------------------------------------------------------------------------- leaving -- */

void step_leave(struct step *step, uint64_t now)
{
    note_time(step, now);
    if (step->left)
        return;
    while (ours_pump(step))
        ;
    for (struct server *server = step->servers; server && rule(step, STEP_RULE_DRAIN); server = server->next)
        if (server->role == OURS)
            presence_recorder_server_down_because(step->recorder, server->name, PRESENCE_REASON_DRAINED, NULL);
    while (ours_pump(step))
        ;
    beat_send(step, true);
    step->left = true;
}

bool step_ready(const struct step *step)
{
    return step->ready;
}
