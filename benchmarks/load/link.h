/* What a connection of the load sends and receives through: TCP (link_tcp.c) or TLS over it (link_tls.c). One of them is linked
 * with load.c. They use the socket as it is: one that blocks until O_NONBLOCK is set. */
#include <stdbool.h>
#include <sys/types.h>

struct link;

/* A link over a connected socket, its handshake done. NULL: it failed, and stderr says why. */
struct link *link_open(int fd);

/* Like send and recv: bytes that went or came; 0 from link_receive is the end. -1 with errno, EAGAIN where it would block. */
ssize_t link_send(struct link *link, const char *data, size_t size);
ssize_t link_receive(struct link *link, char *room, size_t size);

/* Whether the link has read bytes from the socket that it has not given yet: epoll doesn't tell of those. */
bool link_holds(struct link *link);
