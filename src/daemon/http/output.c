/* SPDX-License-Identifier: Apache-2.0 */
/*
 * output.c - what waits to be sent to HTTP clients: whose reader is too slow is cut off, and all that waits on a loop
 * is bounded.
 *
 * Keeps true: the connections with something waiting are a list, in the order in which each was last seen to get on;
 * `waiting` of the loop is the sum of theirs. A reader gets on by a floor of bytes, so that a byte now and then keeps
 * nobody; what counts is what the peer's system has acknowledged, for our own takes megabytes ahead. Beyond
 * MOST_OUTPUTS times max-output-bytes on one loop, who has waited longest goes: replies are small, or pages and pieces
 * far below max-output-bytes, so a loop comes there by readers that do not read.
 *
 * The loop of the connection. A reply costs two links and a look at the clock; a look each second at all that wait
 * costs a system call each.
 */
#include "http/exchange.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

enum { MOST_OUTPUTS = 4, FLOOR_BYTES_A_S = 512 };

static void unlink_waiting(struct http_connection *connection)
{
    struct http_loop *loop = connection->loop;
    *(connection->wait_before ? &connection->wait_before->wait_next : &loop->first_waiting) = connection->wait_next;
    *(connection->wait_next ? &connection->wait_next->wait_before : &loop->last_waiting) = connection->wait_before;
    connection->wait_next = connection->wait_before = NULL;
}

/* At the end of the list: it got on now. */
static void link_waiting(struct http_connection *connection)
{
    struct http_loop *loop = connection->loop;
    connection->wait_before = loop->last_waiting;
    *(loop->last_waiting ? &loop->last_waiting->wait_next : &loop->first_waiting) = connection;
    loop->last_waiting = connection;
}

/* Bytes that have come to the peer's system, or near enough: those of TLS are counted as they are inside. */
static int64_t arrived(const struct http_connection *connection)
{
    int on_the_way = 0;
    evutil_socket_t fd = bufferevent_getfd(connection->bufferevent);
    if (fd < 0 || ioctl(fd, SIOCOUTQ, &on_the_way) != 0)
        on_the_way = 0;
    return (int64_t)connection->sent - on_the_way;
}

static void set_waiting(struct http_connection *connection, size_t waiting)
{
    struct http_loop *loop = connection->loop;
    if (waiting > 0 && connection->waiting == 0) {
        connection->got_on_ms = node_now_ms();
        connection->got_on_at = (int64_t)connection->sent;
        link_waiting(connection);
    } else if (waiting == 0 && connection->waiting > 0) {
        unlink_waiting(connection);
    }
    loop->waiting += waiting - connection->waiting;
    connection->waiting = waiting;
}

void output_changed(struct http_connection *connection, size_t added, size_t sent)
{
    connection->sent += sent;
    if (!connection->given_up)
        set_waiting(connection, connection->waiting + added - sent);
}

void output_give_up(struct http_connection *connection)
{
    set_waiting(connection, 0);
    connection->given_up = true;
}

/* Whether it has got on since it was last seen to: then it is last in the list. */
static bool gets_on(struct http_connection *connection, uint64_t now)
{
    uint64_t timeout_ms = connection->client.node->config->request_timeout;
    int64_t at = arrived(connection), floor = (int64_t)(timeout_ms * FLOOR_BYTES_A_S / 1000);
    if (at - connection->got_on_at < (floor > 0 ? floor : 1))
        return false;
    connection->got_on_ms = now;
    connection->got_on_at = at;
    unlink_waiting(connection);
    link_waiting(connection);
    return true;
}

static void cut_off(struct http_connection *connection, const char *why)
{
    counter_add(&connection_counters(connection)->cut_off_output, 1);
    output_give_up(connection);
    connection_cut_off(connection, why);
}

void output_check(struct http_loop *loop, uint64_t now)
{
    uint64_t most_ms = loop->node->config->request_timeout;
    struct http_connection *last = loop->last_waiting;
    for (struct http_connection *connection = loop->first_waiting, *next; connection; connection = next) {
        next = connection == last ? NULL : connection->wait_next;
        if (!gets_on(connection, now) && most_ms > 0 && now - connection->got_on_ms >= most_ms)
            cut_off(connection, "reads too slowly");
    }
}

void output_limit(struct http_connection *newest)
{
    static const char too_much[] = "too much waits for clients that read slowly";
    struct http_loop *loop = newest->loop;
    const size_t most = MOST_OUTPUTS * (size_t)loop->node->config->max_output_bytes;
    if (loop->waiting <= most)
        return;
    uint64_t now = node_now_ms();
    struct http_connection *last = loop->last_waiting; /* who gets on comes behind it, and is asked once */
    for (struct http_connection *connection = loop->first_waiting, *next; connection && loop->waiting > most;
         connection = next) {
        next = connection == last ? NULL : connection->wait_next;
        if (connection != newest && !gets_on(connection, now))
            cut_off(connection, too_much);
    }
    /* All of them read, and too slowly for what they ask. */
    for (struct http_connection *first; loop->waiting > most && (first = loop->first_waiting);) {
        first = first == newest ? first->wait_next : first;
        if (!first)
            break;
        cut_off(first, too_much);
    }
}
