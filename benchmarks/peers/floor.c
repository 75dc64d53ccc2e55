/* The least that a WebSocket echo can cost one thread: epoll, one recv, unmasking, one send, and no more. No user would write
 * it: it trusts its clients, knows one handshake by heart, that of load.c, and keeps a fixed room for each connection.
 *
 *     cc -O2 -o floor benchmarks/peers/floor.c && ./floor PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 2 << 20 }; /* bytes of a connection each way: a message of 1 MiB, and some */

static const char UPGRADED[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"; /* RFC 6455, section 1.3 */

struct connection {
    int fd;
    bool upgraded;
    size_t got, unsent, sent; /* bytes of `input` that wait; bytes in `output`, and how many of them have gone */
    char *input, *output;
};

static int poller;

static void check(bool good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static void watch(struct connection *connection, int change, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    check(!epoll_ctl(poller, change, connection->fd, &event), "epoll_ctl");
}

/* Copies `size` bytes, each XORed with the byte of the key that is due. */
static void unmask(char *to, const char *from, size_t size, const char *key) {
    uint64_t wide, word;
    memcpy(&wide, key, 4);
    memcpy((char *)&wide + 4, key, 4);
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        memcpy(&word, from + i, 8);
        word ^= wide;
        memcpy(to + i, &word, 8);
    }
    for (; i < size; i++)
        to[i] = from[i] ^ key[i % 4];
}

/* Moves the frames that are complete to the output, without their masks, while there is room. */
static void echo(struct connection *connection) {
    size_t at = 0;
    while (connection->got - at >= 2) {
        const unsigned char *head = (unsigned char *)connection->input + at;
        uint64_t size = head[1] & 0x7F;
        size_t length_bytes = size < 126 ? 0 : size == 126 ? 2 : 8, head_size = 2 + length_bytes;
        if (connection->got - at < head_size + 4)
            break;
        if (length_bytes)
            size = 0;
        for (size_t i = 0; i < length_bytes; i++)
            size = size << 8 | head[2 + i];
        if (connection->got - at < head_size + 4 + size || ROOM - connection->unsent < head_size + size)
            break;
        char *out = connection->output + connection->unsent;
        memcpy(out, head, head_size);
        out[1] &= 0x7F;
        unmask(out + head_size, (char *)head + head_size + 4, size, (char *)head + head_size);
        connection->unsent += head_size + size;
        at += head_size + 4 + size;
    }
    memmove(connection->input, connection->input + at, connection->got - at);
    connection->got -= at;
}

static void upgrade(struct connection *connection) {
    if (!memmem(connection->input, connection->got, "\r\n\r\n", 4))
        return;
    connection->upgraded = true;
    connection->got = 0;
    connection->unsent = sizeof UPGRADED - 1;
    memcpy(connection->output, UPGRADED, connection->unsent);
}

static void end(struct connection *connection) {
    close(connection->fd);
    free(connection->input);
    free(connection->output);
    free(connection);
}

static void serve(struct connection *connection, uint32_t events) {
    bool waiting = events & EPOLLOUT;
    if (!waiting) {
        ssize_t got = recv(connection->fd, connection->input + connection->got, ROOM - connection->got, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            end(connection);
            return;
        }
        connection->got += got;
        (connection->upgraded ? echo : upgrade)(connection);
    }
    while (connection->sent < connection->unsent) {
        ssize_t sent = send(connection->fd, connection->output + connection->sent, connection->unsent - connection->sent,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            if (!waiting)
                watch(connection, EPOLL_CTL_MOD, EPOLLOUT);
            return;
        }
        if (sent < 0) {
            end(connection);
            return;
        }
        connection->sent += sent;
    }
    connection->sent = connection->unsent = 0;
    if (waiting)
        watch(connection, EPOLL_CTL_MOD, EPOLLIN);
}

static void accept_one(int listener) {
    int on = 1, fd = accept(listener, NULL, NULL);
    check(fd >= 0, "accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *connection = calloc(1, sizeof *connection);
    check(connection && (connection->input = malloc(ROOM)) && (connection->output = malloc(ROOM)), "malloc");
    connection->fd = fd;
    watch(connection, EPOLL_CTL_ADD, EPOLLIN);
}

int main(int count, char **arguments) {
    struct sockaddr_in address = {AF_INET, htons(count > 1 ? atoi(arguments[1]) : 0), {htonl(INADDR_LOOPBACK)}, {0}};
    struct connection listener = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
    int on = 1;
    setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    check(!bind(listener.fd, (void *)&address, sizeof address) && !listen(listener.fd, 1024), "listen");
    poller = epoll_create1(0);
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        struct epoll_event events[256];
        int ready = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection == &listener)
                accept_one(listener.fd);
            else
                serve(connection, events[i].events);
        }
    }
}
