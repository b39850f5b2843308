/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node.c - the few things that are asked of the node as a whole. Any thread.
 */
#include "node/node.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t node_counter(const struct node *node, size_t offset)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < node->loops->count; i++) {
        const char *counters = (const char *)&node->counters[i];
        sum += atomic_load_explicit((const _Atomic uint64_t *)(const void *)(counters + offset), memory_order_relaxed);
    }
    return sum;
}

uint64_t node_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool node_choose_name(const struct config *config, char name[NODE_NAME_BYTES])
{
    size_t length = strlen(config->node);
    name[NODE_NAME_BYTES - 1] = 0;
    if (length > 0 && length < NODE_NAME_BYTES)
        memcpy(name, config->node, length + 1);
    else if (length > 0 || gethostname(name, NODE_NAME_BYTES - 1) != 0)
        name[0] = 0;
    return name[0] != 0;
}

bool node_admit_client(struct node *node)
{
    if (atomic_fetch_add(&node->clients, 1) < node->config->max_clients)
        return true;
    atomic_fetch_sub(&node->clients, 1);
    return false;
}

void node_dismiss_client(struct node *node)
{
    atomic_fetch_sub(&node->clients, 1);
}
