/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h - what Prometheus is told: counters of the loops, gauges of the record, in its text format 0.0.4.
 *
 * A counter of struct counters appears here by a row in the table of metrics.c: its name, its HELP, its offset. A gauge
 * is a row with a function. No metric has the name of a model, a server or an agent in it: their number is not ours to
 * bound, and whoever reads metrics need not be one who may read those.
 */
#ifndef DAEMON_METRICS_METRICS_H
#define DAEMON_METRICS_METRICS_H

#include "base/bytes.h"
#include "node/node.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Appends all metrics. False: out of memory. Any thread; O(servers), for the recorder's own numbers. Who may read them
 * is the caller's business: principal_may_read. */
bool metrics_write(const struct node *node, struct bytes *out);

#endif
