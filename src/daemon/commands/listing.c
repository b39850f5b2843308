/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listing.c - lists: MODELS, SERVERS, AGENTS, VALUES, in pages that are all of one snapshot; and SERVER, one of them.
 *
 * A list of names is sorted at its first page, O(names log names + rows looked at), and told from there, O(page).
 * VALUES walks the smallest slice that holds its filters; with STATUS it looks at MOST_LOOKED_AT rows a page at most,
 * so that a page may be short though its cursor says that there is more. No page is larger than a fourth of
 * max-output-bytes, unless it is a single row: rows may carry much. DETAILS of names come from the record as it
 * is, but for agents, whose evidence is the snapshot's. Any loop's thread.
 */
#include "cluster/joined.h"
#include "commands/groups.h"
#include "watches/listings.h"

#include <presence/replica.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LOOKED_AT = 200000 };

/* What distinguishes the lists of names. */
struct kind {
    const char *plural, *singular;
    int (*names)(const presence_connections *connections, char ***names, size_t *count);
    void (*details)(const struct listing *listing, struct call *call, const char *name);
};

static void models_details(const struct listing *listing, struct call *call, const char *name);
static void servers_details(const struct listing *listing, struct call *call, const char *name);
static void agents_details(const struct listing *listing, struct call *call, const char *name);

static const struct kind models = {"models", "model", presence_connections_models, models_details};
static const struct kind servers = {"servers", "server", presence_connections_servers, servers_details};
static const struct kind agents = {"agents", "agent", presence_connections_agents, agents_details};
static const struct kind values = {"values", "value", NULL, NULL};

/* ---------------------------------------------------------------------------------------------------- beginning -- */

static bool copy_filter(char **to, const char *text)
{
    *to = text ? strdup(text) : NULL;
    return !text || *to;
}

presence_connections *command_slice(const struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    presence_connections *(*const by[])(const presence_connections *, const char *) = {
        presence_connections_for_server, presence_connections_for_model, presence_connections_for_agent};
    const char *const names[] = {arguments->server, arguments->model, arguments->agent};
    presence_connections *slice = presence_recorder_connections(call->client->node->recorder);
    for (size_t i = 0; slice && i < 3; i++)
        if (names[i]) {
            presence_connections *wider = slice;
            slice = by[i](wider, names[i]);
            presence_connections_free(wider);
        }
    return slice;
}

static int check_filters(const struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    const char *const names[] = {arguments->server, arguments->model, arguments->agent};
    if (!presence_recorder_is_enabled(call->client->node->recorder))
        return PRESENCE_E_DISABLED;
    for (size_t i = 0; i < 3; i++)
        if (names[i] && name_problem(slice_of(names[i])))
            return PRESENCE_E_INVALID;
    return PRESENCE_OK;
}

/* A new listing of the call's filters, or NULL: an error was said. */
static struct listing *begin(struct call *call, const struct kind *kind)
{
    const struct arguments *arguments = &call->arguments;
    int code = check_filters(call);
    struct listing *listing = code ? NULL : calloc(1, sizeof *listing);
    if (!code && !listing)
        code = PRESENCE_E_NO_MEMORY;
    if (!code) {
        listing->what = kind;
        listing->details = arguments->details;
        listing->has_status = argument_given(arguments, SLOT_STATUS);
        listing->status = arguments->status;
        listing->slice = command_slice(call);
        if (!listing->slice || !copy_filter(&listing->model, arguments->model) ||
            !copy_filter(&listing->server, arguments->server))
            code = PRESENCE_E_NO_MEMORY;
    }
    if (!code && kind->names)
        code = kind->names(listing->slice, &listing->names, &listing->name_count);
    if (!code)
        return listing;
    listing_free(listing);
    command_failed(call, code, NULL);
    return NULL;
}

/* The listing of the call's cursor, or NULL: an error was said. */
static struct listing *resume(struct call *call, const struct kind *kind)
{
    const struct arguments *arguments = &call->arguments;
    struct listings *kept = call->client->node->listings;
    struct listing *listing = listings_take(kept, call->client, arguments->cursor);
    bool fits = listing && listing->what == kind &&
                (!arguments->model || (listing->model && strcmp(listing->model, arguments->model) == 0));
    if (fits)
        return listing;
    if (listing)
        listings_keep(kept, listing);
    reply_error(call->reply, ERROR_LAGGED,
                "the cursor is not, or no longer, of a list that is kept, which is %d s after its latest page and %d "
                "minutes after its first at most: begin it anew",
                LISTING_KEPT_MS / 1000, LISTING_MOST_MS / 60000);
    return NULL;
}

/* Says the cursor of the page at listing->position, or null where there is none. False: there is none. */
static bool say_cursor(struct call *call, struct listing *listing, bool more)
{
    char cursor[LISTING_CURSOR_BYTES];
    more = more && listing_cursor(call->client->node->listings, listing, call->client, cursor);
    reply_field(call->reply, "cursor");
    if (more)
        reply_string(call->reply, cursor);
    else
        reply_null(call->reply);
    return more;
}

/* What the rows of a page may take. A fourth, for a client is paused from a half on, and cut off beyond all of it. */
static size_t page_bytes(const struct call *call)
{
    return call->client->node->config->max_output_bytes / 4;
}

/* Ends a page: the listing is given away, and the revision of its snapshot told. */
static void end_page(struct call *call, struct listing *listing, bool more)
{
    uint64_t revision = presence_connections_revision(listing->slice);
    if (more)
        listings_keep(call->client->node->listings, listing);
    else
        listing_free(listing);
    reply_field(call->reply, "revision");
    reply_integer(call->reply, (int64_t)revision);
}

/* ------------------------------------------------------------------------------------------------------- names -- */

static void say_counts(struct reply *reply, const presence_counts *counts)
{
    reply_key(reply, "connections");
    reply_integer(reply, (int64_t)counts->connections);
    reply_key(reply, "alive");
    reply_integer(reply, (int64_t)counts->alive);
    reply_key(reply, "missing");
    reply_integer(reply, (int64_t)counts->missing);
}

static void models_details(const struct listing *listing, struct call *call, const char *name)
{
    (void)listing;
    size_t connections = 0, agents_of_it = 0;
    presence_recorder_model_counts(call->client->node->recorder, name, &connections, &agents_of_it);
    reply_map(call->reply, 3);
    reply_key(call->reply, "model");
    reply_string(call->reply, name);
    reply_key(call->reply, "connections");
    reply_integer(call->reply, (int64_t)connections);
    reply_key(call->reply, "agents");
    reply_integer(call->reply, (int64_t)agents_of_it);
}

/* A server is alive while it has a live connection, and missing when all of them are. */
static presence_status server_status(const presence_counts *counts)
{
    return counts->alive > 0 ? PRESENCE_ALIVE : counts->missing > 0 ? PRESENCE_MISSING : PRESENCE_UNKNOWN;
}

static void say_server(struct call *call, const char *name)
{
    struct reply *reply = call->reply;
    presence_recorder *recorder = call->client->node->recorder;
    presence_counts counts = {0};
    presence_server_description description = {0};
    presence_freshness freshness;
    presence_recorder_server_counts(recorder, name, &counts);
    presence_replica_describe(recorder, name, &description);
    cluster_freshness(call->client->node, name, &freshness);
    reply_map(reply, 7 + FRESHNESS_MEMBERS);
    reply_key(reply, "server");
    reply_string(reply, name);
    reply_key(reply, "status");
    reply_word(reply, presence_status_string(server_status(&counts)));
    say_counts(reply, &counts);
    reply_key(reply, "epoch");
    reply_id(reply, description.claim.epoch);
    reply_key(reply, "node");
    if (*freshness.node)
        reply_string(reply, freshness.node);
    else
        reply_null(reply);
    reply_freshness(reply, &freshness);
}

/* Within a model, nothing is told of a server but its name: the rest would speak of other models. */
static void servers_details(const struct listing *listing, struct call *call, const char *name)
{
    if (!listing->model) {
        say_server(call, name);
        return;
    }
    reply_map(call->reply, 1);
    reply_key(call->reply, "server");
    reply_string(call->reply, name);
}

static void agents_details(const struct listing *listing, struct call *call, const char *name)
{
    presence_evidence evidence = {0};
    presence_connections_agent_evidence(listing->slice, name, &evidence);
    struct reply *reply = call->reply;
    reply_map(reply, 6);
    reply_key(reply, "agent");
    reply_string(reply, name);
    reply_evidence(reply, &evidence);
}

static void say_names(struct call *call, const struct listing *listing, size_t from, size_t count)
{
    const struct kind *kind = listing->what;
    reply_array(call->reply, count);
    for (size_t i = from; i < from + count; i++) {
        if (listing->details)
            kind->details(listing, call, listing->names[i]);
        else
            reply_string(call->reply, listing->names[i]);
    }
}

/* How many names from there on make a page: at most `most`, and one at least if there is one. */
static size_t count_names(const struct call *call, const struct listing *listing, size_t from, size_t most)
{
    enum { RECORD_BYTES = 512 }; /* the largest of details, but for the name */
    size_t bytes = 0, count = 0;
    for (; count < most; count++) {
        bytes += reply_text_bytes(listing->names[from + count]) + (listing->details ? RECORD_BYTES : 0);
        if (count > 0 && bytes > page_bytes(call))
            break;
    }
    return count;
}

static void say_page_of_names(struct call *call, const struct kind *kind, struct listing *listing)
{
    uint64_t limit = argument_given(&call->arguments, SLOT_LIMIT) ? call->arguments.limit : LISTING_PAGE;
    size_t from = listing->position, left = listing->name_count - from;
    size_t count = count_names(call, listing, from, left < limit ? left : limit);
    listing->position = from + count;
    reply_tuple(call->reply, 3);
    bool more = say_cursor(call, listing, count < left);
    reply_field(call->reply, kind->plural);
    say_names(call, listing, from, count);
    end_page(call, listing, more);
}

/* All names in one array, where they fit what a client may have waiting. */
static void say_all_names(struct call *call, struct listing *listing)
{
    enum { BYTES_BESIDE_A_NAME = 16 };
    size_t bytes = 0;
    for (size_t i = 0; i < listing->name_count; i++)
        bytes += strlen(listing->names[i]) + BYTES_BESIDE_A_NAME;
    if (bytes > call->client->node->config->max_output_bytes / 2)
        reply_error(call->reply, ERROR_BUSY, "%zu names are too many for one reply: ask for pages, with LIMIT",
                    listing->name_count);
    else
        say_names(call, listing, 0, listing->name_count);
    listing_free(listing);
}

static void run_names(struct call *call, const struct kind *kind)
{
    const struct arguments *arguments = &call->arguments;
    bool paged = arguments->details || arguments->cursor || argument_given(arguments, SLOT_LIMIT) ||
                 call->client->kind == CLIENT_HTTP;
    struct listing *listing = arguments->cursor ? resume(call, kind) : begin(call, kind);
    if (listing && paged)
        say_page_of_names(call, kind, listing);
    else if (listing)
        say_all_names(call, listing);
}

static void run_models(struct call *call)
{
    run_names(call, &models);
}

static void run_servers(struct call *call)
{
    run_names(call, &servers);
}

static void run_agents(struct call *call)
{
    if (call->arguments.details && !call->arguments.model && !call->arguments.cursor)
        reply_error(call->reply, ERROR_INVALID, "DETAILS of agents wants MODEL: an agent is one within its model");
    else
        run_names(call, &agents);
}

static void run_server(struct call *call)
{
    int code = check_filters(call);
    if (code)
        command_failed(call, code, NULL);
    else
        say_server(call, call->arguments.server);
}

/* ------------------------------------------------------------------------------------------------------ values -- */

/* Walks to the end of a page: at most `most` values of the listing's status and so many bytes, but one value in any
 * case, into `found`. The value that went over is left for the next page. *more tells whether there may be others. */
static size_t walk(struct listing *listing, presence_value *found, size_t most, size_t most_bytes, bool *more)
{
    size_t count = 0, bytes = 0;
    presence_value value;
    presence_cursor ahead = listing->cursor;
    *more = true;
    for (size_t looked_at = 0; count < most && looked_at < MOST_LOOKED_AT; looked_at++) {
        if (!presence_connections_next(listing->slice, &ahead, &value)) {
            *more = false;
            return count;
        }
        if (!listing->has_status || value.status == listing->status) {
            bytes += reply_value_bytes(&value);
            if (count > 0 && bytes > most_bytes)
                return count;
            found[count++] = value;
        }
        listing->cursor = ahead;
    }
    *more = presence_connections_next(listing->slice, &ahead, &value); /* no empty page follows a full last one */
    return count;
}

static void say_page_of_values(struct call *call, struct listing *listing, size_t limit)
{
    bool more;
    presence_value *found = malloc(limit * sizeof *found);
    if (!found) {
        listing_free(listing);
        command_failed(call, PRESENCE_E_NO_MEMORY, NULL);
        return;
    }
    listing->last_position = listing->position;
    listing->last_cursor = listing->cursor;
    size_t count = walk(listing, found, limit, page_bytes(call), &more);
    listing->position += count > 0 ? count : 1; /* a page without a row has a cursor of its own too */
    reply_tuple(call->reply, 3);
    more = say_cursor(call, listing, more);
    reply_field(call->reply, "values");
    reply_array(call->reply, count);
    for (size_t i = 0; i < count; i++) {
        reply_map(call->reply, REPLY_VALUE_MEMBERS);
        reply_value(call->reply, &found[i]);
    }
    free(found);
    end_page(call, listing, more);
}

static void run_values(struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    struct listing *listing = arguments->cursor ? resume(call, &values) : begin(call, &values);
    if (listing)
        say_page_of_values(call, listing, argument_given(arguments, SLOT_LIMIT) ? arguments->limit : LISTING_PAGE);
}

/* Names are sorted at the first page: of a model or a server after a walk of its connections. */
static bool is_long_list(const struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    presence_stats stats = {.struct_bytes = sizeof stats};
    if (arguments->cursor)
        return false;
    if (arguments->model || arguments->server)
        return long_of_filters(call);
    presence_recorder_stats(call->client->node->recorder, &stats);
    return stats.names > LONG_ROWS;
}

/* A page looks at as many as it tells, but for one of a status. JSON takes several times as long as RESP. */
static bool is_long_page(const struct call *call)
{
    enum { LONG_PAGE = 2000 };
    const struct arguments *arguments = &call->arguments;
    bool is_large = arguments->limit > LONG_PAGE && call->client->kind == CLIENT_HTTP;
    return (is_large || argument_given(arguments, SLOT_STATUS)) && (arguments->cursor || long_of_filters(call));
}

/* What the lists of names have in common: who may ask for them, and what may be said of them. */
#define LIST_OF_NAMES                                                                                  \
    .flags = COMMAND_READ, .least_words = 1, .most_words = 10,                                         \
    .syntax = "[MODEL model] [SERVER server] [CURSOR cursor] [LIMIT rows] [DETAILS]", .spec_count = 5, \
    .specs = {{SLOT_MODEL, "MODEL"},                                                                   \
              {SLOT_SERVER, "SERVER"},                                                                 \
              {SLOT_CURSOR, "CURSOR"},                                                                 \
              {SLOT_LIMIT, "LIMIT"},                                                                   \
              {SLOT_DETAILS, "DETAILS"}},                                                              \
    .is_long = is_long_list

static const struct command commands[] = {
    {
        .name = "PRESENCE.MODELS",
        LIST_OF_NAMES,
        .summary = "The models, sorted; with LIMIT, CURSOR or DETAILS a page: next cursor, models, revision.",
        .run = run_models,
    },
    {
        .name = "PRESENCE.SERVERS",
        LIST_OF_NAMES,
        .summary = "The servers, sorted; with LIMIT, CURSOR or DETAILS a page: next cursor, servers, revision.",
        .run = run_servers,
    },
    {
        .name = "PRESENCE.SERVER",
        .flags = COMMAND_READ,
        .least_words = 2,
        .most_words = 2,
        .syntax = "server",
        .summary = "A server's status and counts.",
        .specs = {{SLOT_SERVER, NULL}},
        .spec_count = 1,
        .run = run_server,
    },
    {
        .name = "PRESENCE.AGENTS",
        LIST_OF_NAMES,
        .summary = "The agents, sorted; with LIMIT, CURSOR or DETAILS a page: next cursor, agents, revision.",
        .run = run_agents,
    },
    {
        .name = "PRESENCE.VALUES",
        .flags = COMMAND_READ,
        .least_words = 1,
        .most_words = 13,
        .syntax = "[MODEL model] [SERVER server] [AGENT agent] [STATUS status] [CURSOR cursor] [LIMIT rows]",
        .summary = "Connections, in pages of one snapshot: next cursor, values, revision.",
        .specs = {{SLOT_MODEL, "MODEL"},
                  {SLOT_SERVER, "SERVER"},
                  {SLOT_AGENT, "AGENT"},
                  {SLOT_STATUS, "STATUS"},
                  {SLOT_CURSOR, "CURSOR"},
                  {SLOT_LIMIT, "LIMIT"}},
        .spec_count = 6,
        .run = run_values,
        .is_long = is_long_page,
    },
};

const struct command_group group_listing = {commands, sizeof commands / sizeof *commands};
