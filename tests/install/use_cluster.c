/* SPDX-License-Identifier: Apache-2.0 */
/* A user's program with libpresence-cluster, in plain C11: install.sh compiles, links and runs it. Needs no NATS. */
#include <presence/cluster.h>
#include <stdio.h>

int main(void)
{
    presence_recorder *recorder = presence_recorder_new(NULL);
    presence_cluster_config config;
    presence_error error = {0, ""};
    presence_cluster_config_init(&config);
    config.node = "no name";
    if (recorder == NULL)
        return 1;
    presence_recorder_enable(recorder);
    if (presence_cluster_join(recorder, &config, &error) != NULL)
        return 1;
    printf("%s\n", error.message);
    presence_recorder_free(recorder);
    return 0;
}
