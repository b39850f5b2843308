/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster.c - a node of a cluster: what it states all nodes see, and it sees what they state.
 *
 *   nats-server &
 *   ./cluster a &          # a node called a, at nats://localhost:4222
 *   ./cluster b            # another, on this machine or elsewhere: ./cluster b nats://elsewhere:4222
 *
 * Each node is an API server to which one agent is connected. It prints every change that it learns of, by whomever it
 * was stated, until its input ends (Ctrl-D); then it leaves, and the others see its agent missing because it drained.
 * Killed instead, it is missing after the lease, 3 seconds, because it lapsed.
 */
#include <presence/cluster.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *model = "2e15302a-bbdf-4077-8e65-116a5a0e0348";

/* On the cluster's thread. */
static void log_line(void *context, presence_cluster_level level, const char *event, const char *text)
{
    (void)context;
    if (level != PRESENCE_CLUSTER_DEBUG)
        fprintf(stderr, "%s: %s\n", event, text);
}

static presence_recorder *make_recorder(void)
{
    presence_options options;
    presence_options_init(&options);
    options.history_bytes = 8 << 20; /* or each change would cost a whole state */
    presence_recorder *recorder = presence_recorder_new_with(&options, NULL);
    if (recorder)
        presence_recorder_enable(recorder);
    return recorder;
}

/* Prints changes as they come, until the input ends. */
static void follow(presence_watch *watch)
{
    struct pollfd descriptors[] = {{.fd = presence_watch_fd(watch), .events = POLLIN},
                                   {.fd = STDIN_FILENO, .events = POLLIN}};
    char input[256];
    for (;;) {
        presence_event event;
        while (presence_watch_next(watch, &event) == 1)
            printf("%s %s on %s: %s\n", event.value.agent, presence_event_kind_string(event.kind), event.value.server,
                   presence_reason_string(event.reason));
        fflush(stdout);
        if (poll(descriptors, 2, -1) < 0 || (descriptors[1].revents && read(STDIN_FILENO, input, sizeof input) <= 0))
            return;
    }
}

int main(int count, char **words)
{
    if (count < 2 || count > 3) {
        fprintf(stderr, "usage: cluster NODE [URL]\n");
        return 2;
    }
    presence_recorder *recorder = make_recorder();
    presence_watch *watch;
    if (!recorder || presence_watch_open(recorder, NULL, &watch, NULL) != PRESENCE_OK)
        return 1;

    presence_cluster_config config;
    presence_cluster_config_init(&config);
    config.node = words[1];
    if (count == 3)
        config.urls = words[2];
    config.log = log_line;

    presence_error error;
    presence_cluster *cluster = presence_cluster_join(recorder, &config, &error);
    if (!cluster || presence_cluster_wait(cluster, 10000, &error) != PRESENCE_OK) {
        fprintf(stderr, "cluster: %s\n", error.message);
        return 1;
    }

    char server[200], agent[200];
    snprintf(server, sizeof server, "machine-%s", words[1]);
    snprintf(agent, sizeof agent, "unit-%s", words[1]);
    presence_recorder_connect(recorder, server, model, agent, 1, false, NULL);
    follow(watch);

    presence_cluster_leave(cluster);
    presence_watch_free(watch);
    presence_recorder_free(recorder);
    return 0;
}
