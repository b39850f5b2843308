/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.h - where to listen: HOST:PORT, [V6]:PORT, unix:PATH. Hosts are numbers or "localhost": no name service is
 * asked, so that what is bound is what was written.
 */
#ifndef DAEMON_BASE_ADDRESS_H
#define DAEMON_BASE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { ADDRESS_TEXT_BYTES = 128 };

struct address {
    char text[ADDRESS_TEXT_BYTES]; /* as it was written */
    struct sockaddr_storage socket;
    socklen_t length;
};

/* A list split by commas; "none" is empty. False: `error` names the option and what is wrong. */
bool address_parse_list(const char *list, const char *option, struct address *addresses, size_t most, size_t *count,
                        char *error, size_t error_bytes);
/* Loopback or a unix socket. */
bool address_is_local(const struct address *address);
/* A listening socket that does not block, or -1. A unix socket that nobody listens on any more is replaced; its file is
 * for this user and group only. */
int address_listen(const struct address *address, char *error, size_t error_bytes);
/* Removes a unix socket's file; nothing for others. */
void address_remove(const struct address *address);
/* Who is at the other end: for logs. A unix socket's is "unix". */
void address_of_peer(const struct sockaddr *from, socklen_t length, char *text, size_t text_bytes);
/* A TCP peer that is gone without a word is found out: asked after `silence_ms` of silence, three times in as long
 * again; and whoever does not acknowledge what we send for both together is given up. Nothing for unix sockets. */
void address_watch_peer(int fd, uint64_t silence_ms);
/* Where a listening socket really is: port 0 asks the system for one. */
void address_of_socket(int fd, const struct address *address, char *text, size_t text_bytes);

#endif
