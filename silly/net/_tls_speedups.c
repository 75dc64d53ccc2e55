/* A TLS connection's bytes on their way through OpenSSL: one call for what has come, one
 * for all that a turn has written. The Python twin is `Pipe` in `_tls_pipe.py`. That
 * module also says what the methods do, chooses between the two, and hands over the
 * addresses of OpenSSL's functions. OpenSSL is that of the package cryptography, and all
 * its objects are pyOpenSSL's: nothing is linked, no header of OpenSSL is used.
 *
 * OpenSSL may call back into Python from within `SSL_read` and `SSL_write`: a context may
 * have callbacks. So no buffer is shared between calls, the bytearray that data goes to
 * is held in place meanwhile, and the counters are right before each call. The
 * descriptors do not block, so the GIL is held throughout. Only the limited API is used.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <structmember.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>

enum {
    /* The results of `receive`, and below those of `status`: see `_tls_pipe.py`. */
    NOTHING = -1,
    PARTIAL = -2,
    ATTEND = -3,
    RAISED = -4 /* a Python error is set; not for Python */
};
enum { FLOWING, DRAINED, CLOSED, REFUSED };
enum { SSL_ERROR_WANT_READ = 2, SSL_ERROR_ZERO_RETURN = 6 };
enum {
    HEADER = 5,     /* bytes of a record's header: type, version, length */
    RECORD = 16384, /* the most data in a record (RFC 8446, section 5.1) */
    /* The greatest length in its header (RFC 5246, section 6.2.3). */
    CIPHERTEXT = RECORD + 2048,
    ON_STACK = 18 * 1024 /* up to this size, what comes is received on the stack */
};

/* In the order of `_FUNCTIONS` in `_tls_pipe.py`. */
static struct {
    int (*ssl_read)(void *, void *, int);
    int (*ssl_write)(void *, const void *, int);
    int (*bio_read)(void *, void *, int);
    int (*bio_write)(void *, const void *, int);
    unsigned long (*err_peek_error)(void);
    void (*err_clear_error)(void);
    int (*ssl_get_error)(const void *, int);
    long (*bio_get_mem_data)(void *, char **);
    void *(*bio_new)(const void *);
    const void *(*bio_s_mem)(void);
    int (*bio_free)(void *);
    void (*ssl_set_bio)(void *, void *, void *);
} openssl;

/* `failure(connection, result)`: the exception for a call that returned `result`. */
static PyObject *failure;
/* PIECE and MOST of `_tls_pipe.py`. */
static Py_ssize_t piece_size;
static Py_ssize_t most;

/* Sets `*address` to the address in `object`, which is not 0. */
static int
read_address(PyObject *object, void **address)
{
    if (object == NULL || !PyLong_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "an address is an int");
        return -1;
    }
    *address = PyLong_AsVoidPtr(object);
    if (*address == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "no address");
        }
        return -1;
    }
    return 0;
}

/* use_openssl(functions, failure, piece, most): see `_tls_pipe.py: _make`. The functions
 * are the addresses of those in the struct above. */
static PyObject *
use_openssl(PyObject *module, PyObject *args)
{
    enum { FUNCTIONS = sizeof openssl / sizeof(void *) };
    PyObject *functions, *call;
    Py_ssize_t piece, limit;
    void *at[FUNCTIONS];
    (void)module;
    if (!PyArg_ParseTuple(args, "O!Onn", &PyTuple_Type, &functions, &call, &piece, &limit)) {
        return NULL;
    }
    if (PyTuple_Size(functions) != FUNCTIONS || !PyCallable_Check(call)) {
        PyErr_Format(PyExc_TypeError, "use_openssl takes the addresses of %d functions, and a function", FUNCTIONS);
        return NULL;
    }
    if (piece < 1 || piece > INT_MAX / 2 || limit < 1) {
        PyErr_SetString(PyExc_ValueError, "no size");
        return NULL;
    }
    for (int i = 0; i < FUNCTIONS; i++) {
        if (read_address(PyTuple_GetItem(functions, i), &at[i]) < 0) {
            return NULL;
        }
    }
    memcpy(&openssl, at, sizeof openssl);
    PyObject *before = failure;
    failure = Py_NewRef(call);
    Py_XDECREF(before);
    piece_size = piece;
    most = limit;
    return Py_NewRef(Py_None);
}

/* ---- Pipe -------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *connection; /* pyOpenSSL's: it has the callbacks */
    PyObject *owner;      /* its `SSL *`, which it frees together with both buffers */
    void *ssl;
    void *into; /* the buffers of what has come, and of what goes out */
    void *from;
    Py_ssize_t ready;   /* records that OpenSSL has whole, and that were not read yet */
    Py_ssize_t unread;  /* bytes of all records that were not read yet, with headers */
    Py_ssize_t missing; /* bytes still to come of a record whose header is complete */
    Py_ssize_t record;  /* the size of that record */
    int header_size;    /* bytes in `header`: of a header that is not complete */
    unsigned char header[HEADER];
    int error_number; /* of a receive behind data: the next call raises it */
    int status;
    Py_ssize_t got;
    Py_ssize_t received;
    Py_ssize_t sealed;
    PyObject *error;
} Pipe;

static PyObject *
pipe_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *connection, *owner, *ssl, *into, *from;
    if (kwargs != NULL && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Pipe takes no names");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "OOOOO", &connection, &owner, &ssl, &into, &from)) {
        return NULL;
    }
    if (openssl.ssl_read == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "use_openssl was not called");
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Pipe *self = (Pipe *)alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->connection = Py_NewRef(connection);
    self->owner = Py_NewRef(owner);
    self->error = Py_NewRef(Py_None);
    if (read_address(ssl, &self->ssl) < 0 || read_address(into, &self->into) < 0 || read_address(from, &self->from) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* There is no `tp_clear`: OpenSSL's objects must be there as long as this one. */
static int
pipe_traverse(PyObject *object, visitproc visit, void *arg)
{
    Pipe *self = (Pipe *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->connection);
    Py_VISIT(self->owner);
    Py_VISIT(self->error);
    return 0;
}

static void
pipe_dealloc(PyObject *object)
{
    Pipe *self = (Pipe *)object;
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    PyObject_GC_UnTrack(object);
    Py_CLEAR(self->error);
    Py_CLEAR(self->connection);
    Py_CLEAR(self->owner);
    release(object);
    Py_DECREF(type);
}

/* What others have left in this thread's queue of errors would be taken for ours. */
static void
forget_errors(void)
{
    if (openssl.err_peek_error() != 0) {
        openssl.err_clear_error();
    }
}

/* The exception for a call that returned `result`, or NULL with another one. */
static PyObject *
explain(Pipe *self, int result)
{
    PyObject *number = PyLong_FromLong(result);
    if (number == NULL) {
        return NULL;
    }
    PyObject *error = PyObject_CallFunctionObjArgs(failure, self->connection, number, NULL);
    Py_DECREF(number);
    if (error != NULL && !PyExceptionInstance_Check(error)) {
        Py_DECREF(error);
        PyErr_SetString(PyExc_TypeError, "no exception");
        return NULL;
    }
    return error;
}

/* ---- what has come ----------------------------------------------------------------------- */

static Py_ssize_t
bytes_of_partial(const Pipe *self)
{
    return self->missing > 0 ? self->record - self->missing : self->header_size;
}

/* Returns how many records `data` completes: `Pipe._records` of the twin. */
static Py_ssize_t
count_records(Pipe *self, const unsigned char *data, Py_ssize_t size)
{
    Py_ssize_t count = 0, at = 0;
    if (self->missing > 0) {
        if (size < self->missing) {
            self->missing -= size;
            return 0;
        }
        at = self->missing;
        self->missing = 0;
        count = 1;
    }
    while (at < size) {
        while (self->header_size < HEADER && at < size) {
            self->header[self->header_size++] = data[at++];
        }
        if (self->header_size < HEADER) {
            break;
        }
        const unsigned char *header = self->header;
        const Py_ssize_t length = header[3] << 8 | header[4];
        self->header_size = 0;
        if (size - at < length) {
            self->missing = length - (size - at);
            self->record = HEADER + length;
            if (length > CIPHERTEXT || header[0] < 20 || header[0] > 23 || header[1] != 3) {
                count++; /* OpenSSL rejects it at once */
            }
            break;
        }
        at += length;
        count++;
    }
    return count;
}

/* Gives OpenSSL `size` bytes, which are at most INT_MAX. */
static int
give(Pipe *self, const void *data, Py_ssize_t size)
{
    if (openssl.bio_write(self->into, data, (int)size) != size) {
        PyErr_NoMemory(); /* the only reason */
        return -1;
    }
    self->received += size;
    self->unread += size;
    self->ready += count_records(self, data, size);
    return 0;
}

/* Appends to `buf` what OpenSSL has decrypted, up to `ready` records; adds to `got`, and
 * sets `status`. When it can't make room, nothing is lost.
 *
 * The data is decrypted in place. There is room for all of it, and a byte more, since a
 * record is longer than its data: there is no compression (`new_context`). */
static int
take(Pipe *self, PyObject *buf)
{
    const Py_ssize_t before = PyByteArray_Size(buf);
    const Py_ssize_t room = self->unread < INT_MAX ? self->unread + 1 : INT_MAX;
    Py_ssize_t taken = 0;
    int result = 1, code = 0;
    Py_buffer view;
    if (room > PY_SSIZE_T_MAX - before) {
        PyErr_NoMemory();
        return -1;
    }
    if (PyByteArray_Resize(buf, before + room) < 0) {
        return -1;
    }
    /* As long as it is held, nobody can move or resize it. */
    if (PyObject_GetBuffer(buf, &view, PyBUF_WRITABLE) < 0) {
        PyByteArray_Resize(buf, before);
        return -1;
    }
    char *to = (char *)view.buf + before;
    forget_errors();
    while (self->ready > 0 && taken < room) {
        result = openssl.ssl_read(self->ssl, to + taken, (int)(room - taken));
        if (result <= 0) {
            code = openssl.ssl_get_error(self->ssl, result);
            self->ready = 0;
            break;
        }
        taken += result;
        self->ready--;
    }
    memset(to + taken, 0, (size_t)(room - taken));
    PyBuffer_Release(&view);
    if (PyByteArray_Resize(buf, before + taken) < 0) {
        return -1;
    }
    self->got += taken;
    if (self->ready == 0) {
        self->unread = bytes_of_partial(self);
    }
    if (result > 0) {
        return 0;
    }
    self->status = code == SSL_ERROR_WANT_READ ? DRAINED : code == SSL_ERROR_ZERO_RETURN ? CLOSED : REFUSED;
    if (self->status == REFUSED) {
        PyObject *error = explain(self, result);
        if (error == NULL) {
            return -1;
        }
        PyObject *old = self->error;
        self->error = error;
        Py_DECREF(old);
    }
    return 0;
}

static int
would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* `receive`, with memory for `room` bytes at `piece`. Returns RAISED with an error. */
static Py_ssize_t
receive_pieces(Pipe *self, int fd, PyObject *buf, Py_ssize_t size, char *piece, Py_ssize_t room)
{
    Py_ssize_t total = 0;
    if (self->ready > 0 && take(self, buf) < 0) { /* what it could not take before */
        return RAISED;
    }
    while (self->status == FLOWING) {
        const Py_ssize_t ask = size - total < room ? size - total : room;
        const ssize_t came = recv(fd, piece, (size_t)ask, MSG_DONTWAIT);
        if (came <= 0) {
            if (total > 0 || self->got > 0) {
                self->error_number = came < 0 && !would_block() ? errno : 0;
                break; /* an end is there at the next call, too */
            }
            if (came == 0) {
                return 0;
            }
            if (would_block()) {
                return NOTHING;
            }
            PyErr_SetFromErrno(PyExc_OSError);
            return RAISED;
        }
        total += came;
        if (give(self, piece, came) < 0 || (self->ready > 0 && take(self, buf) < 0)) {
            return RAISED;
        }
        if (came < ask || total == size) {
            break;
        }
    }
    if (self->status != FLOWING) {
        return ATTEND;
    }
    return self->got > 0 ? self->got : PARTIAL;
}

static PyObject *
pipe_receive(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    Pipe *self = (Pipe *)object;
    if (count != 3 || !PyByteArray_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "receive takes a descriptor, a bytearray and a size");
        return NULL;
    }
    const long fd = PyLong_AsLong(args[0]);
    if (fd == -1 && PyErr_Occurred()) {
        return NULL;
    }
    Py_ssize_t size = PyLong_AsSsize_t(args[2]);
    if (size == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (fd < 0 || fd > INT_MAX || size < 1) {
        PyErr_SetString(PyExc_ValueError, size < 1 ? "no size to receive" : "not a descriptor");
        return NULL;
    }
    if (size > most) {
        size = most;
    }
    self->got = 0;
    self->status = FLOWING;
    if (self->error_number != 0) {
        errno = self->error_number;
        self->error_number = 0;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_ssize_t result;
    if (size <= ON_STACK) {
        char piece[ON_STACK];
        result = receive_pieces(self, (int)fd, args[1], size, piece, ON_STACK);
    }
    else {
        char *piece = PyMem_Malloc((size_t)piece_size);
        if (piece == NULL) {
            return PyErr_NoMemory();
        }
        result = receive_pieces(self, (int)fd, args[1], size, piece, piece_size);
        PyMem_Free(piece);
    }
    return result == RAISED ? NULL : PyLong_FromSsize_t(result);
}

static PyObject *
pipe_put(PyObject *object, PyObject *data)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    int result = -1;
    if (view.len < 1 || view.len > piece_size) {
        PyErr_SetString(PyExc_ValueError, "too many bytes at once, or none");
    }
    else {
        result = give((Pipe *)object, view.buf, view.len);
    }
    PyBuffer_Release(&view);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
pipe_read(PyObject *object, PyObject *buf)
{
    Pipe *self = (Pipe *)object;
    if (!PyByteArray_CheckExact(buf)) {
        PyErr_SetString(PyExc_TypeError, "read takes a bytearray");
        return NULL;
    }
    self->got = 0;
    self->status = FLOWING;
    self->ready = PY_SSIZE_T_MAX / 2; /* until OpenSSL says that there is no more */
    return take(self, buf) < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- what goes out ----------------------------------------------------------------------- */

/* How many bytes OpenSSL has to send. */
static Py_ssize_t
bytes_to_send(Pipe *self)
{
    char *data;
    const long size = openssl.bio_get_mem_data(self->from, &data);
    return size < 0 ? 0 : size > INT_MAX ? INT_MAX : size;
}

/* Moves `size` bytes, which OpenSSL has to send, to `to`. */
static int
fetch(Pipe *self, char *to, Py_ssize_t size)
{
    if (size > 0 && openssl.bio_read(self->from, to, (int)size) != size) {
        PyErr_SetString(PyExc_RuntimeError, "OpenSSL has fewer bytes to send than it says");
        return -1;
    }
    return 0;
}

static PyObject *
pipe_pending(PyObject *object, PyObject *unused)
{
    Pipe *self = (Pipe *)object;
    const Py_ssize_t size = bytes_to_send(self);
    PyObject *result = PyBytes_FromStringAndSize(NULL, size);
    (void)unused;
    if (result != NULL && fetch(self, PyBytes_AsString(result), size) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* Makes one record of the first bytes of `data`. Returns how many, or 0 with an error. It
 * may be fewer than a record can have: the peer may ask for short ones (RFC 6066, section
 * 4), and pyOpenSSL lets OpenSSL write a part of what it gets. */
static Py_ssize_t
seal_first(Pipe *self, const char *data, Py_ssize_t size)
{
    const int sealed = openssl.ssl_write(self->ssl, data, size < RECORD ? (int)size : RECORD);
    if (sealed > 0) {
        self->sealed += sealed;
        return sealed;
    }
    PyObject *error = explain(self, sealed);
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return 0;
}

/* Records that are being made. */
typedef struct {
    PyObject *bytes; /* NULL until the first */
    Py_ssize_t used;
    Py_ssize_t room;
    Py_ssize_t left; /* bytes of data that are still to be sealed */
} Records;

/* Makes room for `size` bytes behind those in use. */
static int
make_room(Records *records, Py_ssize_t size)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, records->used + size);
    if (bytes == NULL) {
        return -1;
    }
    if (records->bytes != NULL) {
        memcpy(PyBytes_AsString(bytes), PyBytes_AsString(records->bytes), (size_t)records->used);
        Py_DECREF(records->bytes);
    }
    records->bytes = bytes;
    records->room = records->used + size;
    return 0;
}

/* Adds the records of `size` bytes of `data`, behind what OpenSSL has to send. Each is
 * fetched before the next is made: OpenSSL's buffer would keep the size of them all. */
static int
add_records(Pipe *self, Records *records, const char *data, Py_ssize_t size)
{
    while (size > 0) {
        const Py_ssize_t before = bytes_to_send(self);
        const Py_ssize_t sealed = seal_first(self, data, size);
        if (sealed == 0) {
            return -1;
        }
        data += sealed;
        size -= sealed;
        records->left -= sealed;
        const Py_ssize_t made = bytes_to_send(self);
        if (made > records->room - records->used) {
            /* The records to come are expected to add as much as this one. */
            const Py_ssize_t added = made - before > sealed ? made - before - sealed : 0;
            const Py_ssize_t to_come = (records->left + sealed - 1) / sealed;
            if (make_room(records, made + records->left + to_come * added) < 0) {
                return -1;
            }
        }
        if (fetch(self, PyBytes_AsString(records->bytes) + records->used, made) < 0) {
            return -1;
        }
        records->used += made;
    }
    return 0;
}

/* What was made. Takes the reference; NULL if that failed. */
static PyObject *
finished(Records *records, int result)
{
    if (result == 0 && records->room > records->used && make_room(records, 0) < 0) {
        result = -1;
    }
    if (result == 0) {
        return records->bytes;
    }
    Py_XDECREF(records->bytes);
    return NULL;
}

/* How many bytes `piece` has, or -1. */
static Py_ssize_t
bytes_in(PyObject *piece)
{
    Py_buffer view;
    if (PyBytes_CheckExact(piece)) {
        return PyBytes_Size(piece);
    }
    if (!PyMemoryView_Check(piece)) {
        PyErr_SetString(PyExc_TypeError, "what is sealed is bytes or a memoryview");
        return -1;
    }
    if (PyObject_GetBuffer(piece, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    PyBuffer_Release(&view);
    return view.len;
}

/* Takes the front of the list `pieces`, as another list, and sets `*size` to the bytes in
 * that: `_front` of the twin, with PIECE and RECORD. An error loses nothing. */
static PyObject *
take_front(PyObject *pieces, Py_ssize_t *size)
{
    const Py_ssize_t count = PyList_Size(pieces);
    Py_ssize_t end = 0;
    *size = 0;
    while (end < count) {
        PyObject *piece = PyList_GetItem(pieces, end);
        const Py_ssize_t length = bytes_in(piece), at = piece_size - *size;
        if (length < 0) {
            return NULL;
        }
        if (length <= at + RECORD) {
            *size += length;
            end++;
            continue;
        }
        if (at > 0) {
            PyObject *view = PyMemoryView_FromObject(piece);
            if (view == NULL) {
                return NULL;
            }
            PyObject *parts = Py_BuildValue("NN", PySequence_GetSlice(view, 0, at), PySequence_GetSlice(view, at, length));
            const int failed = parts == NULL || PyList_SetSlice(pieces, end, end + 1, parts) < 0;
            Py_XDECREF(parts);
            Py_DECREF(view);
            if (failed) {
                return NULL;
            }
            *size += at;
            end++;
        }
        break;
    }
    PyObject *front = PyList_GetSlice(pieces, 0, end);
    if (front != NULL && PyList_SetSlice(pieces, 0, end, NULL) < 0) {
        Py_CLEAR(front);
    }
    return front;
}

/* `seal`, for more than one record, or for a memoryview. */
static PyObject *
seal_several(Pipe *self, PyObject *pieces)
{
    Records records = {NULL, 0, 0, 0};
    char joined[RECORD]; /* a record whose data is not of one piece */
    Py_ssize_t used = 0;
    int result = 0;
    PyObject *front = take_front(pieces, &records.left);
    if (front == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_Size(front) && result == 0; i++) {
        Py_buffer view;
        if (PyObject_GetBuffer(PyList_GetItem(front, i), &view, PyBUF_SIMPLE) < 0) {
            result = -1;
            break;
        }
        for (Py_ssize_t at = 0, part; at < view.len && result == 0; at += part) {
            const char *data = (const char *)view.buf + at;
            part = view.len - at < RECORD - used ? view.len - at : RECORD - used;
            if (part == RECORD) {
                result = add_records(self, &records, data, RECORD);
                continue;
            }
            memcpy(joined + used, data, (size_t)part);
            used += part;
            if (used == RECORD) {
                result = add_records(self, &records, joined, RECORD);
                used = 0;
            }
        }
        PyBuffer_Release(&view);
    }
    Py_DECREF(front);
    if (result == 0) {
        result = add_records(self, &records, joined, used);
    }
    if (result == 0 && records.bytes == NULL) {
        result = make_room(&records, 0);
    }
    return finished(&records, result);
}

static PyObject *
pipe_seal(PyObject *object, PyObject *pieces)
{
    Pipe *self = (Pipe *)object;
    char joined[RECORD];
    Py_ssize_t size = 0;
    if (!PyList_CheckExact(pieces)) {
        PyErr_SetString(PyExc_TypeError, "seal takes a list");
        return NULL;
    }
    forget_errors();
    const Py_ssize_t count = PyList_Size(pieces);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *piece = PyList_GetItem(pieces, i);
        if (!PyBytes_CheckExact(piece) || PyBytes_Size(piece) > RECORD - size) {
            return seal_several(self, pieces);
        }
        size += PyBytes_Size(piece);
    }
    if (size == 0) {
        return PyList_SetSlice(pieces, 0, count, NULL) < 0 ? NULL : PyBytes_FromStringAndSize(NULL, 0);
    }
    /* Nearly always: one record. It is taken off the list before OpenSSL sees it, as in
     * `take_front`. */
    PyObject *only = NULL;
    const char *data = joined;
    if (count == 1) {
        only = Py_NewRef(PyList_GetItem(pieces, 0));
        data = PyBytes_AsString(only);
    }
    else {
        for (Py_ssize_t i = 0, at = 0; i < count; i++) {
            PyObject *piece = PyList_GetItem(pieces, i);
            memcpy(joined + at, PyBytes_AsString(piece), (size_t)PyBytes_Size(piece));
            at += PyBytes_Size(piece);
        }
    }
    PyObject *result = NULL;
    if (PyList_SetSlice(pieces, 0, count, NULL) == 0) {
        const Py_ssize_t sealed = seal_first(self, data, size);
        if (sealed == size) { /* nearly always, too */
            result = pipe_pending(object, NULL);
        }
        else if (sealed > 0) {
            Records records = {NULL, 0, 0, size - sealed};
            result = finished(&records, add_records(self, &records, data + sealed, size - sealed));
        }
    }
    Py_XDECREF(only);
    return result;
}

/* renew() -> bool: replaces both buffers, if they are empty. pyOpenSSL's own pointers to
 * the old ones, which `SSL_set_bio` frees, are gone before that. All is one call, since a
 * signal handler may raise between any two steps in Python. */
static PyObject *
pipe_renew(PyObject *object, PyObject *unused)
{
    Pipe *self = (Pipe *)object;
    char *data;
    (void)unused;
    if (openssl.bio_get_mem_data(self->into, &data) != 0 || openssl.bio_get_mem_data(self->from, &data) != 0) {
        return Py_NewRef(Py_False);
    }
    if (PyObject_SetAttrString(self->connection, "_into_ssl", Py_None) < 0
        || PyObject_SetAttrString(self->connection, "_from_ssl", Py_None) < 0) {
        return NULL;
    }
    void *into = openssl.bio_new(openssl.bio_s_mem());
    void *from = openssl.bio_new(openssl.bio_s_mem());
    if (into == NULL || from == NULL) {
        openssl.bio_free(into); /* which takes NULL */
        openssl.bio_free(from);
        forget_errors();
        return Py_NewRef(Py_False);
    }
    openssl.ssl_set_bio(self->ssl, into, from);
    self->into = into;
    self->from = from;
    return Py_NewRef(Py_True);
}

static PyObject *
pipe_partial(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(bytes_of_partial((Pipe *)object));
}

static PyMethodDef pipe_methods[] = {
    {"receive", (PyCFunction)(void (*)(void))pipe_receive, METH_FASTCALL, "receive(fd, buf, size) -> int"},
    {"put", pipe_put, METH_O, "put(data)"},
    {"read", pipe_read, METH_O, "read(buf)"},
    {"seal", pipe_seal, METH_O, "seal(pieces) -> bytes"},
    {"pending", pipe_pending, METH_NOARGS, "pending() -> bytes"},
    {"renew", pipe_renew, METH_NOARGS, "renew() -> bool"},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef pipe_members[] = {
    {"got", T_PYSSIZET, offsetof(Pipe, got), READONLY, NULL},
    {"received", T_PYSSIZET, offsetof(Pipe, received), READONLY, NULL},
    {"sealed", T_PYSSIZET, offsetof(Pipe, sealed), READONLY, NULL},
    {"status", T_INT, offsetof(Pipe, status), READONLY, NULL},
    {"error", T_OBJECT_EX, offsetof(Pipe, error), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef pipe_computed[] = {
    {"partial", pipe_partial, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot pipe_slots[] = {
    {Py_tp_doc, "The way of a TLS connection's bytes through OpenSSL."},
    {Py_tp_new, pipe_new},
    {Py_tp_dealloc, pipe_dealloc},
    {Py_tp_traverse, pipe_traverse},
    {Py_tp_methods, pipe_methods},
    {Py_tp_members, pipe_members},
    {Py_tp_getset, pipe_computed},
    {0, NULL},
};

static PyType_Spec pipe_spec = {
    .name = "silly.net._tls_speedups.Pipe",
    .basicsize = sizeof(Pipe),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pipe_slots,
};

/* ---- the module -------------------------------------------------------------------------- */

static PyMethodDef functions[] = {
    {"use_openssl", use_openssl, METH_VARARGS, "use_openssl(functions, failure, piece, most)"},
    {NULL, NULL, 0, NULL},
};

static int
start(PyObject *module)
{
    PyObject *pipe = PyType_FromModuleAndSpec(module, &pipe_spec, NULL);
    if (pipe == NULL) {
        return -1;
    }
    const int added = PyModule_AddObjectRef(module, "Pipe", pipe);
    Py_DECREF(pipe);
    return added;
}

static struct PyModuleDef_Slot slots[] = {{Py_mod_exec, start}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "silly.net._tls_speedups",
    .m_doc = "TLS in C, without Python's calls between the socket and OpenSSL.",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__tls_speedups(void)
{
    return PyModuleDef_Init(&definition);
}
