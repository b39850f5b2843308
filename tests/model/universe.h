/* SPDX-License-Identifier: Apache-2.0 */
/*
 * universe.h - the few names that model tests use, and the way back from a name to its number.
 *
 * Some names are the same string in several kinds, one is as long as a name may be, some share a beginning: whatever
 * mixes up kinds, lengths or bytes shows. Static strings, made at the first use; one thread.
 */
#ifndef TESTS_MODEL_UNIVERSE_H
#define TESTS_MODEL_UNIVERSE_H

#include "shadow.h"

const char *universe_server(int server);
const char *universe_model(int model);
const char *universe_agent(int agent);
const char *universe_data(int data);

/* -1: not one of ours. */
int universe_server_of(const char *name);
int universe_model_of(const char *name);
int universe_agent_of(const char *name);
int universe_data_of(const char *data);

/* The value that states these facts. */
presence_value universe_value(int server, unsigned id, const struct shadow_facts *facts);
/* False: a string is not one of ours. */
bool universe_facts(const presence_value *value, int *server, struct shadow_facts *facts);
#endif
