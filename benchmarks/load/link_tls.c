/* Links with TLS 1.3, by the system's OpenSSL. One cipher is offered, so that all servers encrypt alike. Certificates are not
 * verified. */
#include "link.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>

static const size_t READ_AHEAD = 1 << 16; /* bytes that are received at once, as many records as there are in them */

/* A `struct link` is OpenSSL's own object. */
static SSL *ssl_of(struct link *link) {
    return (SSL *)link;
}

static SSL_CTX *context(void) {
    static SSL_CTX *made;
    if (!made && (made = SSL_CTX_new(TLS_client_method()))) {
        SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION);
        SSL_CTX_set_ciphersuites(made, "TLS_AES_256_GCM_SHA384");
        SSL_CTX_set_read_ahead(made, 1);
        SSL_CTX_set_default_read_buffer_len(made, READ_AHEAD);
        signal(SIGPIPE, SIG_IGN); /* OpenSSL has no MSG_NOSIGNAL */
    }
    return made;
}

struct link *link_open(int fd) {
    SSL *ssl = context() ? SSL_new(context()) : NULL;
    if (ssl && SSL_set_fd(ssl, fd) && SSL_connect(ssl) == 1)
        return (struct link *)ssl;
    ERR_print_errors_fp(stderr);
    SSL_free(ssl);
    return NULL;
}

/* What SSL_write or SSL_read returned, as send or recv would have. */
static ssize_t outcome(SSL *ssl, int done) {
    if (done > 0)
        return done;
    int error = errno;
    switch (SSL_get_error(ssl, done)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        errno = error ? error : ECONNRESET;
        return -1;
    default:
        ERR_print_errors_fp(stderr);
        errno = EPROTO;
        return -1;
    }
}

ssize_t link_send(struct link *link, const char *data, size_t size) {
    return outcome(ssl_of(link), SSL_write(ssl_of(link), data, size < INT_MAX ? (int)size : INT_MAX));
}

/* Fills the room as far as it can: SSL_read gives one record at a time. */
ssize_t link_receive(struct link *link, char *room, size_t size) {
    SSL *ssl = ssl_of(link);
    size_t got = 0;
    do {
        int done = SSL_read(ssl, room + got, size - got < INT_MAX ? (int)(size - got) : INT_MAX);
        if (done <= 0)
            return got ? (ssize_t)got : outcome(ssl, done);
        got += done;
    } while (got < size && SSL_has_pending(ssl));
    return got;
}

bool link_holds(struct link *link) {
    return SSL_has_pending(ssl_of(link));
}
