/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lines.c - lines of text over a socket, bounded in length and in time.
 *
 * Keeps true: a peer can make it hold LINE_BYTES_MAX bytes and no more, and can make line_read wait for the timeout and
 * no longer, however slowly it sends. One reader is used by one thread; different readers share nothing. A line costs
 * one recv at most as often as the peer sends, and one look at each of its bytes for each recv.
 */
#include "lines.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

void line_reader_init(struct line_reader *reader, int fd)
{
    reader->fd = fd;
    reader->begin = 0;
    reader->end = 0;
}

static long long monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Takes the next whole line out of the buffer, if there is one. */
static bool take_line(struct line_reader *reader, enum line_result *result, char **line)
{
    char *begin = reader->bytes + reader->begin;
    size_t length = reader->end - reader->begin;
    char *newline = memchr(begin, '\n', length);
    if (newline == NULL)
        return false;
    reader->begin = (size_t)(newline + 1 - reader->bytes);
    *newline = '\0';
    if (newline > begin && newline[-1] == '\r')
        *--newline = '\0';
    *result = memchr(begin, '\0', (size_t)(newline - begin)) == NULL ? LINE_OK : LINE_INVALID;
    *line = begin;
    return true;
}

/* Moves what is left to the front, so that the whole buffer is there for one line. */
static void make_room(struct line_reader *reader)
{
    if (reader->begin == 0)
        return;
    memmove(reader->bytes, reader->bytes + reader->begin, reader->end - reader->begin);
    reader->end -= reader->begin;
    reader->begin = 0;
}

static enum line_result receive_more(struct line_reader *reader, long long deadline_ms)
{
    long long left_ms = deadline_ms - monotonic_ms();
    if (left_ms <= 0)
        return LINE_TIMED_OUT;
    struct pollfd waited = {.fd = reader->fd, .events = POLLIN};
    int ready = poll(&waited, 1, (int)left_ms);
    if (ready == 0)
        return LINE_TIMED_OUT;
    if (ready < 0)
        return errno == EINTR ? LINE_OK : LINE_FAILED;
    ssize_t received = recv(reader->fd, reader->bytes + reader->end, sizeof reader->bytes - reader->end, 0);
    if (received < 0 && errno == EINTR)
        return LINE_OK;
    /* A reset is how the end looks when the peer died with bytes of ours unread. */
    if (received < 0)
        return errno == ECONNRESET ? LINE_END : LINE_FAILED;
    reader->end += (size_t)received;
    return received == 0 ? LINE_END : LINE_OK;
}

enum line_result line_read(struct line_reader *reader, int timeout_ms, char **line)
{
    long long deadline_ms = monotonic_ms() + timeout_ms;
    enum line_result result = LINE_OK;
    while (result == LINE_OK) {
        if (take_line(reader, &result, line))
            return result;
        make_room(reader);
        if (reader->end == sizeof reader->bytes)
            return LINE_TOO_LONG;
        result = receive_more(reader, deadline_ms);
    }
    return result;
}

bool lines_write(int fd, const char *text, size_t length_bytes)
{
    while (length_bytes > 0) {
        ssize_t sent = send(fd, text, length_bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        text += sent;
        length_bytes -= (size_t)sent;
    }
    return true;
}
