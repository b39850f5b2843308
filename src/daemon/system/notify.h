/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.h - telling systemd how we are: datagrams to NOTIFY_SOCKET. Where there is none, nothing happens.
 */
#ifndef DAEMON_SYSTEM_NOTIFY_H
#define DAEMON_SYSTEM_NOTIFY_H

#include <stdint.h>

/* Lines of the protocol, as "READY=1\nSTATUS=listening". Any thread; what cannot be sent is lost. */
void notify_send(const char *lines);
/* READY, after a start or a reload; RELOADING with its time; STOPPING. */
void notify_ready(void);
void notify_reloading(void);
void notify_stopping(void);
/* How often systemd wants to hear WATCHDOG=1, in milliseconds: half of what it waits. 0: it does not. */
uint64_t notify_watchdog_ms(void);

#endif
