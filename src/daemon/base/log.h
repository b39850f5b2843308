/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - what presenced tells its operator: one line an event, on stderr, as `level=info event=started key=value`.
 *
 * Values are quoted and escaped here, always, so that nothing that a peer sent can break a line or a terminal. Where
 * stderr leads to the journal (JOURNAL_STREAM names it) each line begins with its priority, `<6>`, and no time; else
 * with the time. Any thread; a line is one write.
 */
#ifndef DAEMON_BASE_LOG_H
#define DAEMON_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Before any thread is started; again on a reload. */
void log_set_level(enum log_level level);
bool log_is_on(enum log_level level);

/* An event and its facts: pairs of a key and a value, ended by NULL. Keys are words of ours. A line that is too long
 * (4 KiB) is cut. */
__attribute__((sentinel)) void log_event(enum log_level level, const char *event, ...);

/* A number as text, for log_event: in the buffer, which is returned. */
enum { LOG_NUMBER_BYTES = 24 };
const char *log_number(char *buffer, int64_t number);

#endif
