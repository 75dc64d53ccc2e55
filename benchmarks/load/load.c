/* A closed-loop load from one thread: each connection sends a batch of requests, checks every byte that answers it, and sends
 * again. Linux only. benchmarks/harness/load.py compiles it and talks to it; by hand:
 *
 *     cc -O2 -o load benchmarks/load/load.c benchmarks/load/link_tcp.c
 *     ./load MODE PORT CONNECTIONS IDLE DEPTH SIZE SECONDS [BODY [PATH [HEADERS]]]
 *
 * MODE: text or binary (masked WebSocket frames), broadcast (text frames from the first connection that come back to all of
 * them), lines (TCP), http (GET). CONNECTIONS with DEPTH messages of SIZE bytes in flight on each, and IDLE ones that are silent.
 * BODY is what an HTTP response must have; HEADERS are more lines of the request, each with its CRLF. All of it over TLS, if
 * link_tls.c takes the place of link_tcp.c (and -lssl is added).
 *
 * It connects, runs for a short time to warm the server up, and prints "ready". For each line on its standard input it runs for
 * the time asked for, waits for the answers that are still due, and prints a line of JSON; it leaves when its input ends. So
 * whoever started it can look at the server while that is idle: before a run and after it.
 *
 * The payload is the alphabet, over and over. Pings are left unanswered, so a run must be shorter than a server's patience.
 */
#define _GNU_SOURCE
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char *const MODES[] = {"text", "binary", "broadcast", "lines", "http"};
enum mode { TEXT, BINARY, BROADCAST, LINES, HTTP, UNKNOWN };
static const double WARM = 0.2; /* seconds */

struct connection {
    int fd;
    struct link *link; /* what goes over fd goes through this */
    size_t sent;     /* bytes of the batch that have gone out */
    size_t due;      /* answers that have not come yet */
    bool asked;      /* whether epoll was asked to tell when more can be sent */
    double begin;    /* when the batch was begun */
    /* The answer that arrives now: */
    size_t got;      /* bytes of its payload */
    uint64_t left;   /* bytes of its frame that are still to come */
    bool in_payload; /* its head, or its frame's head, is complete */
    size_t head_size;
    char head[1024];
};

static enum mode mode;
static int port, connections, depth;
static size_t size;
static const char *body = "", *path = "/", *headers = "";

static int poller;
static struct connection *all;
static const char *expected; /* the payload of each answer */
static size_t expected_size;
static char *batch; /* `depth` requests */
static size_t batch_size;
static char input[1 << 20];
static size_t messages, pending; /* answered, and still to be answered */
static int round_left;           /* connections that the message of a broadcast has not reached */
static double *latencies;
static size_t latency_count, latency_room;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static void *allocate(void *old, size_t bytes) {
    void *memory = realloc(old, bytes);
    return memory ? memory : (fail("out of memory"), NULL);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

/* ---- what is sent, and what has to come back ------------------------------------------------------------------------- */

static void prepare(void) {
    static const char key[4] = {0x12, 0x34, 0x56, 0x78};
    char *payload = allocate(NULL, size + 2), *request = allocate(NULL, size + strlen(path) + strlen(headers) + 256);
    for (size_t i = 0; i < size; i++)
        payload[i] = 'a' + i % 26;
    strcpy(payload + size, mode == LINES ? "\n" : "");
    expected = mode == HTTP ? body : payload;
    expected_size = strlen(expected);
    size_t length;
    if (mode == HTTP) {
        length = sprintf(request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n", path, port, headers);
    } else if (mode == LINES) {
        length = expected_size;
        memcpy(request, payload, length);
    } else {
        int length_bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
        request[0] = (char)(0x80 | (mode == BINARY ? 2 : 1));
        request[1] = (char)(0x80 | (size < 126 ? size : size < 65536 ? 126 : 127));
        for (int i = 0; i < length_bytes; i++)
            request[2 + i] = (char)(size >> 8 * (length_bytes - 1 - i));
        memcpy(request + 2 + length_bytes, key, 4);
        length = 2 + length_bytes + 4;
        for (size_t i = 0; i < size; i++)
            request[length++] = payload[i] ^ key[i % 4];
    }
    batch_size = length * depth;
    batch = allocate(NULL, batch_size);
    for (int i = 0; i < depth; i++)
        memcpy(batch + i * length, request, length);
}

static void upgrade(struct link *link) {
    char text[4096];
    int length = snprintf(text, sizeof text,
                          "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                          port);
    if (link_send(link, text, length) != length)
        fail("the handshake can't be sent: %s", strerror(errno));
    size_t got = 0;
    do { /* byte by byte: what follows the head is not ours to take */
        if (got == sizeof text - 1 || link_receive(link, text + got, 1) != 1)
            fail("no answer to the handshake: %.*s", (int)got, text);
        text[++got] = 0;
    } while (got < 4 || memcmp(text + got - 4, "\r\n\r\n", 4));
    if (!strstr(text, " 101 ") || !strstr(text, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) /* RFC 6455, section 1.3 */
        fail("no upgrade: %s", text);
}

/* Connects, and upgrades; from then on the socket doesn't block. */
static void dial(struct connection *connection) {
    struct sockaddr_in address = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {0}};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0 || connect(fd, (void *)&address, sizeof address))
        fail("no connection to port %d: %s", port, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection->fd = fd;
    connection->link = link_open(fd);
    if (!connection->link)
        fail("no link over the connection to port %d", port);
    if (mode < LINES)
        upgrade(connection->link);
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK))
        fail("fcntl: %s", strerror(errno));
}

static void watch(struct connection *connection, int change, bool ask) {
    struct epoll_event event = {.events = EPOLLIN | (ask ? EPOLLOUT : 0), .data.ptr = connection};
    epoll_ctl(poller, change, connection->fd, &event);
    connection->asked = ask;
}

static void send_batch(struct connection *connection) {
    while (connection->sent < batch_size) {
        ssize_t sent = link_send(connection->link, batch + connection->sent, batch_size - connection->sent);
        if (sent < 0 && errno != EAGAIN)
            fail("send: %s", strerror(errno));
        if (sent < 0)
            break;
        connection->sent += sent;
    }
    if (connection->asked != (connection->sent < batch_size))
        watch(connection, EPOLL_CTL_MOD, !connection->asked);
}

static void begin_batch(struct connection *connection) {
    connection->sent = 0;
    connection->begin = now();
    round_left = mode == BROADCAST ? connections : 1;
    for (int i = 0; i < round_left; i++)
        connection[i].due = depth;
    pending += round_left * depth;
    send_batch(connection);
}

/* ---- receiving: each of these takes some of what has come, and says how much; `got` is the payload checked so far ----- */

static size_t check_payload(struct connection *connection, const char *data, size_t length) {
    if (connection->got + length > expected_size || memcmp(data, expected + connection->got, length))
        fail("an answer is not what was expected, at byte %zu of %zu", connection->got, expected_size);
    connection->got += length;
    return length;
}

static void answered(struct connection *connection) {
    if (connection->got != expected_size)
        fail("an answer of %zu bytes, not %zu", connection->got, expected_size);
    if (!connection->due)
        fail("an answer that nobody asked for");
    connection->got = 0;
    connection->due--;
    pending--;
}

static size_t take_body(struct connection *connection, const char *data, size_t length) {
    size_t missing = expected_size - connection->got;
    size_t taken = check_payload(connection, data, length < missing ? length : missing);
    if (connection->got == expected_size) {
        connection->in_payload = false;
        connection->head_size = 0;
        answered(connection);
    }
    return taken;
}

static size_t take_frame(struct connection *connection, const char *data, size_t length) {
    unsigned char *head = (unsigned char *)connection->head;
    size_t empty = 0;
    if (!connection->in_payload) {
        head[connection->head_size++] = *data;
        size_t kind = connection->head_size > 1 ? head[1] & 0x7F : 0;
        if (connection->head_size < 2 || connection->head_size < (kind == 127 ? 10 : kind == 126 ? 4 : 2))
            return 1;
        if (head[0] & 0x70 || head[1] & 0x80 || (head[0] & 0x0F) == 8)
            fail("a frame that begins with %02x %02x", head[0], head[1]);
        connection->left = kind < 126 ? kind : 0;
        for (size_t i = 2; i < connection->head_size; i++)
            connection->left = connection->left << 8 | head[i];
        connection->in_payload = true;
        if (connection->left)
            return 1;
        empty = 1; /* an empty frame ends with its head */
    }
    size_t taken = length < connection->left ? length : connection->left;
    if (!(head[0] & 0x08))
        check_payload(connection, data, taken);
    connection->left -= taken;
    if (!connection->left) {
        connection->in_payload = false;
        connection->head_size = 0;
        if (head[0] & 0x80 && !(head[0] & 0x08))
            answered(connection);
    }
    return taken + empty;
}

static size_t take_response(struct connection *connection, const char *data, size_t length) {
    char *head = connection->head;
    if (connection->in_payload)
        return take_body(connection, data, length);
    if (connection->head_size == sizeof connection->head - 1)
        fail("a response's head of more than %zu bytes", connection->head_size);
    head[connection->head_size++] = *data;
    head[connection->head_size] = 0;
    if (connection->head_size >= 4 && !memcmp(head + connection->head_size - 4, "\r\n\r\n", 4)) {
        const char *field = strcasestr(head, "\r\ncontent-length:");
        if (strncmp(head, "HTTP/1.1 200 ", 13) || !field || strtoull(field + 17, NULL, 10) != expected_size)
            fail("not the response that was expected: %s", head);
        connection->in_payload = true;
    }
    return 1;
}

static void receive(struct connection *connection) {
    do {
        ssize_t got = link_receive(connection->link, input, sizeof input);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0)
            fail("the server ended a connection: %s", got ? strerror(errno) : "end of stream");
        for (size_t at = 0; at < (size_t)got;) {
            const char *data = input + at;
            at += mode == LINES  ? take_body(connection, data, got - at)
                  : mode == HTTP ? take_response(connection, data, got - at)
                                 : take_frame(connection, data, got - at);
        }
    } while (link_holds(connection->link));
}

static void batch_done(struct connection *connection, double end) {
    double time = now();
    if (latency_count == latency_room)
        latencies = allocate(latencies, (latency_room = latency_room * 2 + 65536) * sizeof *latencies);
    latencies[latency_count++] = time - connection->begin;
    messages += depth;
    if (time < end)
        begin_batch(connection);
}

/* Runs for `duration`, until everything is answered; how long that took. */
static double run(double duration) {
    double begin = now(), end = begin + duration;
    int active = mode == BROADCAST ? 1 : connections;
    messages = latency_count = 0;
    for (int i = 0; i < active; i++)
        begin_batch(&all[i]);
    while (pending) {
        struct epoll_event events[256];
        int count = epoll_wait(poller, events, 256, 10000);
        if (count == 0)
            fail("no answer for 10 s");
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                send_batch(connection);
            size_t before = connection->due;
            if (events[i].events & ~EPOLLOUT)
                receive(connection);
            if (before && !connection->due && (mode != BROADCAST || --round_left == 0))
                batch_done(mode == BROADCAST ? all : connection, end);
        }
    }
    return now() - begin;
}

static int by_value(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

int main(int count, char **arguments) {
    while (count > 1 && mode < UNKNOWN && strcmp(arguments[1], MODES[mode]))
        mode++;
    if (count < 8 || mode == UNKNOWN)
        fail("usage: load text|binary|broadcast|lines|http PORT CONNECTIONS IDLE DEPTH SIZE SECONDS [BODY [PATH [HEADERS]]]");
    port = atoi(arguments[2]);
    connections = atoi(arguments[3]);
    depth = atoi(arguments[5]);
    size = strtoull(arguments[6], NULL, 10);
    body = count > 8 ? arguments[8] : body;
    path = count > 9 ? arguments[9] : path;
    headers = count > 10 ? arguments[10] : headers;
    if (connections < 1 || depth < 1 || (mode == HTTP && !*body))
        fail("CONNECTIONS and DEPTH are 1 at least, and http needs a BODY");
    prepare();
    poller = epoll_create1(0);
    int idle = atoi(arguments[4]); /* the last of all: they stay open, and nobody looks at them */
    all = allocate(NULL, (connections + idle) * sizeof *all);
    memset(all, 0, (connections + idle) * sizeof *all);
    for (int i = connections; i < connections + idle; i++)
        dial(&all[i]); /* first: these may take long, and the server loses its patience with silent ones */
    for (int i = 0; i < connections; i++) {
        dial(&all[i]);
        watch(&all[i], EPOLL_CTL_ADD, false);
    }
    run(0); /* one batch: the server may still be starting */
    run(WARM);
    puts("ready");
    fflush(stdout);
    for (int byte; (byte = getchar()) != EOF;) {
        if (byte != '\n')
            continue;
        double took = run(atof(arguments[7]));
        qsort(latencies, latency_count, sizeof *latencies, by_value);
        printf("{\"messages\": %zu, \"seconds\": %.6f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", messages, took,
               latencies[latency_count / 2] * 1e6, latencies[latency_count * 99 / 100] * 1e6);
        fflush(stdout);
    }
    return 0;
}
