/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport.c - the plain transport: a system call each. The client's loop only.
 */
#include "resp/transport.h"

#include "resp/client.h"

#include <errno.h>
#include <sys/socket.h>

static ssize_t told(ssize_t count)
{
    if (count >= 0)
        return count;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? TRANSPORT_LATER : TRANSPORT_LOST;
}

static ssize_t plain_read(struct resp_client *client, char *to, size_t room)
{
    return told(recv(client->fd, to, room, 0));
}

static ssize_t plain_write(struct resp_client *client, const char *data, size_t length)
{
    return told(send(client->fd, data, length, MSG_NOSIGNAL));
}

static void plain_end(struct resp_client *client)
{
    shutdown(client->fd, SHUT_WR);
}

static bool plain_holds_input(struct resp_client *client)
{
    (void)client;
    return false;
}

static void plain_free(struct resp_client *client)
{
    (void)client;
}

const struct resp_transport resp_plain_transport = {plain_read, plain_write, plain_end, plain_holds_input, plain_free};
