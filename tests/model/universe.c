/* SPDX-License-Identifier: Apache-2.0 */
/*
 * universe.c - the names of the model tests. See universe.h. Each look-up is a walk of a handful of strings.
 */
#include "universe.h"

#include <stdio.h>
#include <string.h>

enum { LONGEST_NAME = 1024, LONG_DATA = 2000 };

static char long_name[LONGEST_NAME + 1];
static char long_data[LONG_DATA + 1];
static char agent_names[SHADOW_AGENTS][32];
static const char *servers[SHADOW_SERVERS] = {"machine-0", "machine-1", long_name, "a", "serveur-\xc3\xa9t\xc3\xa9"};
static const char *models[SHADOW_MODELS] = {"deadbeef-0bad-400d-8000-4b1d0d06f00d", "machine-0", "a"};
static const char *datas[SHADOW_DATA] = {"", "x", "region=eu;rack=7\n", long_data, "\xe2\x82\xac \xf0\x9f\x90\xa7"};

static void make_names(void)
{
    static bool made;
    if (made) {
        return;
    }
    made = true;
    memset(long_name, 'n', LONGEST_NAME);
    memset(long_data, 'd', LONG_DATA);
    for (int agent = 0; agent < SHADOW_AGENTS; agent++) {
        snprintf(agent_names[agent], sizeof agent_names[agent], "unit-%d", agent);
    }
    strcpy(agent_names[0], "machine-0");
    strcpy(agent_names[1], "a");
    strcpy(agent_names[2], "\xc3\xbcnit/2");
    strcpy(agent_names[3], "unit-");
}

const char *universe_server(int server)
{
    make_names();
    return servers[server];
}

const char *universe_model(int model)
{
    make_names();
    return models[model];
}

const char *universe_agent(int agent)
{
    make_names();
    return agent_names[agent];
}

const char *universe_data(int data)
{
    make_names();
    return datas[data];
}

int universe_server_of(const char *name)
{
    for (int at = 0; at < SHADOW_SERVERS; at++) {
        if (strcmp(universe_server(at), name) == 0) {
            return at;
        }
    }
    return -1;
}

int universe_model_of(const char *name)
{
    for (int at = 0; at < SHADOW_MODELS; at++) {
        if (strcmp(universe_model(at), name) == 0) {
            return at;
        }
    }
    return -1;
}

int universe_agent_of(const char *name)
{
    for (int at = 0; at < SHADOW_AGENTS; at++) {
        if (strcmp(universe_agent(at), name) == 0) {
            return at;
        }
    }
    return -1;
}

int universe_data_of(const char *data)
{
    for (int at = 0; at < SHADOW_DATA; at++) {
        if (strcmp(universe_data(at), data) == 0) {
            return at;
        }
    }
    return -1;
}

presence_value universe_value(int server, unsigned id, const struct shadow_facts *facts)
{
    return (presence_value){
        .model = universe_model(facts->model),
        .server = universe_server(server),
        .agent = universe_agent(facts->agent),
        .user_data = facts->data == 0 && id % 2 == 0 ? NULL : universe_data(facts->data),
        .connection_id = id,
        .controller_agent = facts->controller,
    };
}

bool universe_facts(const presence_value *value, int *server, struct shadow_facts *facts)
{
    *server = universe_server_of(value->server);
    facts->model = universe_model_of(value->model);
    facts->agent = universe_agent_of(value->agent);
    facts->data = universe_data_of(value->user_data);
    facts->controller = value->controller_agent;
    return *server >= 0 && facts->model >= 0 && facts->agent >= 0 && facts->data >= 0;
}
