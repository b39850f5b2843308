/* SPDX-License-Identifier: Apache-2.0 */
/*
 * operations.c - the table of operations that test_alloc_failure runs out of memory.
 *
 * Keeps true: an operation does one call of the library that matters (and frees what it got), and answers its code.
 * On an empty scene many answer NOT_FOUND or GAP; that is then what they must answer in the end.
 */
#include "operations.h"

#include <string.h>

static int answer(const void *got)
{
    return got != NULL ? PRESENCE_OK : PRESENCE_E_NO_MEMORY;
}

/* ------------------------------------------------------------------------------------------------ single changes -- */

static int connect_new(struct scene *s)
{
    return presence_recorder_connect(s->recorder, OPEN, MODEL_A, "agent-4", 900, false, NULL);
}

static int connect_all_new(struct scene *s)
{
    return presence_recorder_connect(s->recorder, NEW_SERVER, "a-new-model", "a-new-agent", 1, false, "new data");
}

static int connect_long(struct scene *s)
{
    static char server[1025], model[1025], agent[1025], data[65536];
    memset(server, 's', 1024);
    memset(model, 'm', 1024);
    memset(agent, 'a', 1024);
    memset(data, 'd', 65535);
    return presence_recorder_connect(s->recorder, server, model, agent, 1, false, data);
}

static int connect_known(struct scene *s)
{
    return presence_recorder_connect(s->recorder, OPEN, MODEL_A, "agent-4", 4, false, "some data");
}

static int connect_revive(struct scene *s)
{
    return presence_recorder_connect(s->recorder, OPEN, MODEL_A, "agent-5", 5, false, NULL);
}

static int connect_other_agent(struct scene *s)
{
    return presence_recorder_connect(s->recorder, OPEN, "another-model", "another-agent", 4, false, NULL);
}

static int connect_other_data(struct scene *s)
{
    return presence_recorder_connect(s->recorder, OPEN, MODEL_A, "agent-4", 4, false,
                                     "other data, longer than what there was before it");
}

static int connect_mine(struct scene *s)
{
    return presence_recorder_connect(s->recorder, MINE, MODEL_A, "agent-1", 1, false, NULL);
}

static int connect_handle(struct scene *s)
{
    presence_value value = test_value(OPEN, 901, MODEL_B, "by-handle");
    presence_handle handle;
    return presence_recorder_connect_handle(s->recorder, &value, &handle, NULL, NULL);
}

static int disconnect_one(struct scene *s)
{
    return presence_recorder_disconnect(s->recorder, OPEN, 4);
}

static int disconnect_shared_agent(struct scene *s)
{
    return presence_recorder_disconnect(s->recorder, OPEN, 74); /* agent-4 has another */
}

static int disconnect_mine(struct scene *s)
{
    return presence_recorder_disconnect(s->recorder, MINE, 25);
}

static int disconnect_handle(struct scene *s)
{
    return presence_recorder_disconnect_handle(s->recorder, &s->handle);
}

static int activity(struct scene *s)
{
    return presence_recorder_activity(s->recorder, OPEN, 6);
}

static int activity_handle(struct scene *s)
{
    return presence_recorder_activity_handle(s->recorder, &s->handle);
}

static int server_down(struct scene *s)
{
    return presence_recorder_server_down(s->recorder, OPEN);
}

static int server_down_again(struct scene *s)
{
    size_t became_missing;
    return presence_recorder_server_down_because(s->recorder, MINE, PRESENCE_REASON_DRAINED, &became_missing);
}

static int server_down_unstated(struct scene *s)
{
    return presence_recorder_server_down_unstated(s->recorder, OPEN, s->noted, PRESENCE_REASON_TIMED_OUT, NULL);
}

static int mark(struct scene *s)
{
    uint64_t taken;
    return presence_recorder_mark(s->recorder, &taken);
}

static int set_limits(struct scene *s)
{
    presence_options options;
    presence_options_init(&options);
    options.limit_bytes = 1 << 30;
    return presence_recorder_set_limits(s->recorder, &options);
}

/* --------------------------------------------------------------------------------------------------------- lists -- */

static int update_server(struct scene *s)
{
    return presence_recorder_update_server(s->recorder, OPEN, s->list, SCENE_LIST, NULL);
}

static int update_to_nothing(struct scene *s)
{
    return presence_recorder_update_server(s->recorder, OPEN, NULL, 0, NULL);
}

static int update_mine(struct scene *s)
{
    for (size_t i = 0; i < SCENE_LIST; i++)
        s->list[i].server = MINE;
    return presence_recorder_update_server(s->recorder, MINE, s->list, SCENE_LIST, NULL);
}

static int update_new_server(struct scene *s)
{
    for (size_t i = 0; i < SCENE_LIST; i++)
        s->list[i].server = NEW_SERVER;
    return presence_recorder_update_server(s->recorder, NEW_SERVER, s->list, SCENE_LIST, NULL);
}

static int merge_server(struct scene *s)
{
    return presence_recorder_merge_server(s->recorder, OPEN, s->list, SCENE_LIST, NULL);
}

static int merge_server_since(struct scene *s)
{
    return presence_recorder_merge_server_since(s->recorder, OPEN, s->noted, s->list, SCENE_LIST, NULL);
}

/* ------------------------------------------------------------------------------------------------------- batches -- */

static const uint64_t some_ids[] = {2, 4, 6, 7777, 9, 11};

static int activity_many(struct scene *s)
{
    return presence_recorder_activity_many(s->recorder, OPEN, some_ids, 6, NULL);
}

static int disconnect_many(struct scene *s)
{
    return presence_recorder_disconnect_many(s->recorder, OPEN, some_ids, 6, NULL);
}

static int activity_handles(struct scene *s)
{
    return presence_recorder_activity_handles(s->recorder, &s->handle, 1, NULL);
}

static int disconnect_handles(struct scene *s)
{
    return presence_recorder_disconnect_handles(s->recorder, &s->handle, 1, NULL);
}

static int connect_many(struct scene *s)
{
    return presence_recorder_connect_many(s->recorder, s->list, SCENE_LIST, NULL, NULL);
}

/* Of batches that answer each element: whether one had no memory. */
static int touch_keys(struct scene *s, int (*touch)(presence_recorder *, presence_connection_key *, size_t, size_t *))
{
    presence_connection_key keys[] = {{OPEN, 2, 0},  {OPEN, 4, 0},  {MINE, 25, 0},   {NEW_SERVER, 1, 0},
                                      {OPEN, 74, 0}, {MINE, 30, 0}, {OPEN, 7777, 0}, {OPEN, 10, 0}};
    int code = touch(s->recorder, keys, sizeof keys / sizeof keys[0], NULL);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (keys[i].code == PRESENCE_E_NO_MEMORY)
            code = PRESENCE_E_NO_MEMORY;
    return code;
}

static int activity_keys(struct scene *s)
{
    return touch_keys(s, presence_recorder_activity_keys);
}

static int disconnect_keys(struct scene *s)
{
    return touch_keys(s, presence_recorder_disconnect_keys);
}

static int connect_values(struct scene *s)
{
    presence_connect_result results[SCENE_LIST];
    int code = presence_recorder_connect_values(s->recorder, s->list, SCENE_LIST, results, NULL);
    for (size_t i = 0; i < SCENE_LIST && code == PRESENCE_OK; i++)
        code = results[i].code;
    return code;
}

/* --------------------------------------------------------------------------------------------------------- views -- */

static int take_view(struct scene *s)
{
    presence_connections *view = presence_recorder_connections(s->recorder);
    int code = answer(view);
    presence_connections_free(view);
    return code;
}

static void prepare_view(struct scene *s)
{
    s->view = presence_recorder_connections(s->recorder);
    must(s->view != NULL);
}

static void prepare_change_and_view(struct scene *s)
{
    must(presence_recorder_connect(s->recorder, OPEN, MODEL_A, "changed", 950, false, NULL) == PRESENCE_OK);
}

static int slice(presence_connections *got)
{
    int code = answer(got);
    presence_connections_free(got);
    return code;
}

static int slice_model(struct scene *s)
{
    return slice(presence_connections_for_model(s->view, MODEL_A));
}

static int slice_server(struct scene *s)
{
    return slice(presence_connections_for_server(s->view, "no-such-server"));
}

static int slice_agent(struct scene *s)
{
    return slice(presence_connections_for_agent(s->view, "agent-4"));
}

static int list_names(struct scene *s, int (*list)(const presence_connections *, char ***, size_t *))
{
    char **names;
    size_t count;
    int code = list(s->view, &names, &count);
    if (code == PRESENCE_OK)
        presence_names_free(names);
    return code;
}

static int list_models(struct scene *s)
{
    return list_names(s, presence_connections_models);
}

static int list_servers(struct scene *s)
{
    return list_names(s, presence_connections_servers);
}

static int list_agents(struct scene *s)
{
    return list_names(s, presence_connections_agents);
}

/* ------------------------------------------------------------------------------------------------------- watches -- */

static int open_watch(struct scene *s)
{
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.model = MODEL_A;
    options.agent = "agent-4";
    presence_watch *watch = NULL;
    int code = presence_watch_open(s->recorder, &options, &watch, NULL);
    must((code == PRESENCE_OK) == (watch != NULL));
    presence_watch_free(watch);
    return code;
}

/* All that is pending, in as many calls as it takes; the first failure ends it. */
static int read_watch(struct scene *s)
{
    if (s->pending == NULL)
        return PRESENCE_OK;
    presence_event event;
    int code;
    while ((code = presence_watch_next(s->pending, &event)) == 1)
        must(event.value.agent[0] != '\0');
    return code;
}

/* --------------------------------------------------------------------------------------------------- maintenance -- */

static int check(struct scene *s)
{
    return presence_recorder_check(s->recorder, NULL);
}

static int trim(struct scene *s)
{
    presence_recorder_trim(s->recorder);
    return PRESENCE_OK;
}

static int query(struct scene *s)
{
    presence_evidence evidence;
    presence_counts counts;
    size_t connections, agents;
    presence_handle handle;
    presence_status status;
    presence_agent_key keys[] = {{.model = MODEL_A, .agent = "agent-4"}, {.model = MODEL_B, .agent = "nobody"}};
    must(presence_recorder_agent_status(s->recorder, MODEL_A, "agent-4", &status) == PRESENCE_OK);
    must(presence_recorder_agent_statuses(s->recorder, keys, 2) == PRESENCE_OK);
    must(presence_recorder_agent_evidence(s->recorder, MODEL_B, "agent-3", &evidence) == PRESENCE_OK);
    must(presence_recorder_counts(s->recorder, &counts) == PRESENCE_OK);
    must(presence_recorder_server_counts(s->recorder, LAPSED, &counts) == PRESENCE_OK);
    must(presence_recorder_model_counts(s->recorder, MODEL_A, &connections, &agents) == PRESENCE_OK);
    return presence_recorder_find_handle(s->recorder, OPEN, 4, &handle);
}

/* ------------------------------------------------------------------------------------------------------- replica -- */

static int claim_open(struct scene *s)
{
    return presence_replica_claim(s->recorder, OPEN, &scene_claim_mine, true);
}

static int claim_new_server(struct scene *s)
{
    return presence_replica_claim(s->recorder, NEW_SERVER, &scene_claim_mine, false);
}

static int claim_newer_life(struct scene *s)
{
    return presence_replica_claim(s->recorder, THEIRS, &scene_claim_newer, false);
}

static int complete(struct scene *s)
{
    return presence_replica_complete(s->recorder, MINE, NULL);
}

static int apply(struct scene *s, presence_change change)
{
    change.number = 51;
    change.time = 77;
    return presence_replica_apply(s->recorder, THEIRS, &scene_claim_theirs, &change, NULL, NULL);
}

static int apply_connect(struct scene *s)
{
    presence_value value = test_value(THEIRS, 900, "a-new-model", "a-new-agent");
    value.user_data = "new data";
    return apply(s, (presence_change){.kind = PRESENCE_CHANGE_CONNECT, .value = value});
}

static int apply_replace(struct scene *s)
{
    return apply(s, (presence_change){.kind = PRESENCE_CHANGE_CONNECT,
                                      .value = test_value(THEIRS, 3, "a-new-model", "a-new-agent")});
}

static int apply_disconnect(struct scene *s)
{
    return apply(s, (presence_change){.kind = PRESENCE_CHANGE_DISCONNECT, .value = {.connection_id = 3}});
}

static int apply_down(struct scene *s)
{
    return apply(s, (presence_change){.kind = PRESENCE_CHANGE_DOWN, .reason = PRESENCE_REASON_TIMED_OUT});
}

static int replica_activity(struct scene *s)
{
    return presence_replica_activity(s->recorder, THEIRS, &scene_claim_theirs, 50, 3, 12345);
}

static int apply_state(struct scene *s)
{
    for (size_t i = 0; i < SCENE_LIST; i++) {
        s->list[i].server = THEIRS;
        s->list[i].status = i % 4 ? PRESENCE_ALIVE : PRESENCE_MISSING;
    }
    return presence_replica_apply_state(s->recorder, THEIRS, &scene_claim_theirs, 60, 55, PRESENCE_REASON_TIMED_OUT, 9,
                                        s->list, SCENE_LIST, NULL);
}

static int apply_incomplete(struct scene *s)
{
    for (size_t i = 0; i < SCENE_LIST; i++) {
        s->list[i].server = THEIRS;
        s->list[i].status = i % 4 || i < SCENE_LIST / 2 ? PRESENCE_ALIVE : PRESENCE_MISSING;
    }
    return presence_replica_apply_incomplete(s->recorder, THEIRS, &scene_claim_theirs, 60, 55,
                                             PRESENCE_REASON_TIMED_OUT, 9, s->list, SCENE_LIST, SCENE_LIST / 2, NULL);
}

static int take_inherited(struct scene *s)
{
    presence_server_description description;
    presence_connections *state = presence_replica_state(s->recorder, MINE, &description);
    presence_connections *view = presence_replica_inherited(state);
    presence_connections_free(state);
    return slice(view);
}

static int state_in_pieces(struct scene *s, bool inherits)
{
    const char *server = TOMB; /* nothing is recorded of it */
    presence_state_writer *writer;
    int code = presence_replica_state_begin(s->recorder, server, &scene_claim_theirs, 60, 55, PRESENCE_REASON_TIMED_OUT,
                                            9, &writer, NULL);
    if (code)
        return code;
    for (size_t i = 0; i < SCENE_LIST; i++) {
        s->list[i].server = server;
        s->list[i].status = i % 4 || (inherits && i < SCENE_LIST / 2) ? PRESENCE_ALIVE : PRESENCE_MISSING;
    }
    int (*add_rest)(presence_state_writer *, const presence_value *, size_t, presence_error *) =
        inherits ? presence_replica_state_add_inherited : presence_replica_state_add;
    code = presence_replica_state_add(writer, s->list, SCENE_LIST / 2, NULL);
    if (code == PRESENCE_OK)
        code = add_rest(writer, s->list + SCENE_LIST / 2, SCENE_LIST - SCENE_LIST / 2, NULL);
    if (code == PRESENCE_OK)
        return presence_replica_state_commit(writer, NULL);
    presence_replica_state_abort(writer);
    return code;
}

static int apply_state_in_pieces(struct scene *s)
{
    return state_in_pieces(s, false);
}

static int apply_incomplete_in_pieces(struct scene *s)
{
    return state_in_pieces(s, true);
}

/* Some are new, some stated anew, and what is gone came back: so the digest is as it was but for the new. */
static int apply_difference(struct scene *s)
{
    presence_server_description state;
    int code = presence_replica_describe(s->recorder, THEIRS, &state);
    if (code)
        return code;
    enum { STATED_ANEW = 12 };
    presence_value values[STATED_ANEW];
    char names[STATED_ANEW][TEST_NAME_BYTES];
    for (uint64_t i = 0; i < STATED_ANEW; i++) {
        uint64_t id = i + i / 4 + 1; /* the alive ones */
        values[i] = test_value(THEIRS, id, id % 2 ? MODEL_A : MODEL_B, test_name(names[i], "agent", id));
        values[i].status = PRESENCE_ALIVE;
        values[i].last_seen = 1000;
    }
    static const uint64_t gone[] = {1, 3, 4, 77};
    state.number++;
    return presence_replica_apply_difference(s->recorder, THEIRS, state.number - 1, &state, values, STATED_ANEW, gone,
                                             sizeof gone / sizeof gone[0], NULL);
}

static void prepare_difference(struct scene *s)
{
    must(presence_replica_claim(s->recorder, OPEN, &scene_claim_mine, true) == PRESENCE_OK);
    s->noted = presence_recorder_revision(s->recorder);
    must(connect_new(s) == PRESENCE_OK);
}

static int take_difference(struct scene *s)
{
    presence_server_description description;
    presence_connections *view = NULL;
    uint64_t gone[4];
    size_t count;
    int code = presence_replica_difference(s->recorder, OPEN, s->noted, &description, gone, 4, &count, &view);
    presence_connections_free(view);
    return code;
}

static int lapse(struct scene *s)
{
    return presence_replica_lapse(s->recorder, THEIRS);
}

static int restore(struct scene *s)
{
    return presence_replica_restore(s->recorder, LAPSED);
}

static int forget(struct scene *s)
{
    return presence_replica_forget(s->recorder, THEIRS, NULL);
}

static int replica_servers(struct scene *s)
{
    char **names;
    size_t count;
    int code = presence_replica_servers(s->recorder, &names, &count);
    if (code == PRESENCE_OK)
        presence_names_free(names);
    return code;
}

/* NULL may also say: not found. On an empty scene it does, always. */
static int take_state(struct scene *s)
{
    presence_server_description description;
    int known = presence_replica_describe(s->recorder, MINE, &description);
    return known == PRESENCE_OK ? slice(presence_replica_state(s->recorder, MINE, &description)) : known;
}

static int open_changes(struct scene *s)
{
    presence_change_reader *reader = NULL;
    int code = presence_replica_changes(s->recorder, MINE, 15, &reader);
    if (code == PRESENCE_OK) {
        presence_change change;
        while ((code = presence_change_next(reader, &change)) == 1)
            ;
    }
    presence_change_reader_free(reader);
    return code;
}

static int apply_many(struct scene *s)
{
    enum { COUNT = 70 }; /* more than one group */
    static presence_change changes[COUNT];
    static char names[COUNT][TEST_NAME_BYTES];
    for (uint64_t i = 0; i < COUNT; i++) {
        changes[i] = (presence_change){.number = 51 + i,
                                       .kind = i == 66      ? PRESENCE_CHANGE_COMPLETE
                                               : i == 30    ? PRESENCE_CHANGE_DOWN
                                               : i % 3 == 2 ? PRESENCE_CHANGE_DISCONNECT
                                                            : PRESENCE_CHANGE_CONNECT,
                                       .reason = i == 30 ? PRESENCE_REASON_DRAINED : PRESENCE_REASON_NONE,
                                       .time = 77,
                                       .value = test_value(THEIRS, i, "a-new-model", test_name(names[i], "new", i))};
    }
    return presence_replica_apply_many(s->recorder, THEIRS, &scene_claim_theirs, changes, COUNT, NULL, NULL);
}

static int open_statements(struct scene *s)
{
    presence_statement_reader *reader = NULL;
    int code = presence_replica_statements(s->recorder, &reader);
    must((code == PRESENCE_OK) == (reader != NULL));
    presence_statement_reader_free(reader);
    return code;
}

/* One of the longest, which needs a larger buffer, among others. */
static void prepare_statements(struct scene *s)
{
    must(presence_replica_statements(s->recorder, &s->statements) == PRESENCE_OK);
    must(connect_new(s) == PRESENCE_OK);
    must(connect_long(s) == PRESENCE_OK);
    must(disconnect_one(s) != PRESENCE_E_NO_MEMORY);
}

static int read_statements(struct scene *s)
{
    presence_statement told[3];
    size_t count;
    int code;
    while ((code = presence_statements_read(s->statements, told, 3, &count)) == PRESENCE_OK && count > 0)
        for (size_t i = 0; i < count; i++)
            must(strcmp(told[i].server, told[i].change.value.server) == 0);
    must(count == 0);
    return code;
}

const struct operation operations[] = {
    {"connect: a new one", connect_new, NULL, false},
    {"connect: all names new", connect_all_new, NULL, false},
    {"connect: the longest names and data", connect_long, NULL, false},
    {"connect: a known one", connect_known, NULL, false},
    {"connect: a missing one", connect_revive, NULL, false},
    {"connect: for another agent", connect_other_agent, NULL, false},
    {"connect: with other data", connect_other_data, NULL, false},
    {"connect: under a claim, an inherited one", connect_mine, NULL, false},
    {"connect_handle", connect_handle, NULL, false},
    {"disconnect", disconnect_one, NULL, false},
    {"disconnect: its agent has another", disconnect_shared_agent, NULL, false},
    {"disconnect: under a claim", disconnect_mine, NULL, false},
    {"disconnect_handle", disconnect_handle, NULL, false},
    {"activity", activity, NULL, false},
    {"activity_handle", activity_handle, NULL, false},
    {"server_down", server_down, NULL, false},
    {"server_down_because", server_down_again, NULL, false},
    {"server_down_unstated", server_down_unstated, NULL, false},
    {"mark", mark, NULL, false},
    {"set_limits", set_limits, NULL, false},
    {"update_server", update_server, NULL, false},
    {"update_server: to nothing", update_to_nothing, NULL, false},
    {"update_server: under a claim", update_mine, NULL, false},
    {"update_server: a new server", update_new_server, NULL, false},
    {"merge_server", merge_server, NULL, false},
    {"merge_server_since", merge_server_since, NULL, false},
    {"activity_many", activity_many, NULL, true},
    {"disconnect_many", disconnect_many, NULL, true},
    {"activity_handles", activity_handles, NULL, true},
    {"disconnect_handles", disconnect_handles, NULL, true},
    {"connect_many", connect_many, NULL, true},
    {"activity_keys", activity_keys, NULL, true},
    {"disconnect_keys", disconnect_keys, NULL, true},
    {"connect_values", connect_values, NULL, true},
    {"connections", take_view, NULL, false},
    {"connections: after a change", take_view, prepare_change_and_view, false},
    {"for_model", slice_model, prepare_view, false},
    {"for_server", slice_server, prepare_view, false},
    {"for_agent", slice_agent, prepare_view, false},
    {"models", list_models, prepare_view, false},
    {"servers", list_servers, prepare_view, false},
    {"agents", list_agents, prepare_view, false},
    {"watch_open", open_watch, NULL, false},
    {"watch_next", read_watch, NULL, false},
    {"check", check, NULL, false},
    {"trim", trim, NULL, false},
    {"queries", query, NULL, false},
    {"claim: what was unclaimed", claim_open, NULL, false},
    {"claim: a new server", claim_new_server, NULL, false},
    {"claim: a newer life", claim_newer_life, NULL, false},
    {"complete", complete, NULL, false},
    {"apply: connect", apply_connect, NULL, false},
    {"apply: replace", apply_replace, NULL, false},
    {"apply: disconnect", apply_disconnect, NULL, false},
    {"apply: down", apply_down, NULL, false},
    {"replica activity", replica_activity, NULL, false},
    {"apply_state", apply_state, NULL, false},
    {"state in pieces", apply_state_in_pieces, NULL, false},
    {"state in pieces, with what is inherited", apply_incomplete_in_pieces, NULL, false},
    {"apply_incomplete", apply_incomplete, NULL, false},
    {"replica inherited", take_inherited, NULL, false},
    {"apply_difference", apply_difference, NULL, false},
    {"replica difference", take_difference, prepare_difference, false},
    {"lapse", lapse, NULL, false},
    {"restore", restore, NULL, false},
    {"forget", forget, NULL, false},
    {"replica servers", replica_servers, NULL, false},
    {"replica state", take_state, NULL, false},
    {"changes", open_changes, NULL, false},
    {"apply_many", apply_many, NULL, true},
    {"statements", open_statements, NULL, false},
    {"statements_read", read_statements, prepare_statements, false},
};
const size_t operation_count = sizeof operations / sizeof *operations;
