/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings.h - the options of the cluster, checked, and as <presence/cluster.h> wants them.
 */
#ifndef DAEMON_CLUSTER_SETTINGS_H
#define DAEMON_CLUSTER_SETTINGS_H

#include "node/node.h"

#include <presence/cluster.h>

enum { MOST_SECRET_BYTES = 4096 };

struct settings {
    presence_cluster_config config; /* its strings belong to the configuration, or lie below */
    char node[NODE_NAME_BYTES];
    char password[MOST_SECRET_BYTES], token[MOST_SECRET_BYTES];
};

/* False: `error` says which option is wrong. --nats is given. */
bool settings_read(struct settings *settings, const struct config *config, char *error, size_t error_bytes);
/* Leaves nothing of what the files of secrets held. */
void settings_wipe(struct settings *settings);

#endif
