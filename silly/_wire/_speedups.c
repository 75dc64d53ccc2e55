/* The wire code that costs the most in Python: masking (RFC 6455, section 5.3), taking
 * whole messages off a connection's buffer, building the frame of a message (section
 * 5.2), and taking a line off a buffer.
 *
 * Everything here has a Python twin in `lines.py`, `mask.py`, `messages.py` or
 * `payload.py`, which documents it and holds its limits; the tests run both. What isn't
 * simple (control frames, fragments, compression, anything that might be wrong) is left
 * to the Python code. So this file decides only one rule of the protocol: "this is a
 * whole, valid, unfragmented data frame".
 *
 * All functions hold the GIL throughout: masking a mebibyte takes less time than
 * another thread would wait for the GIL. The module owns its state: the names of the
 * two types, and the limits. Only the limited API is used, so one build is for every
 * Python from 3.11 on.
 */
#define _GNU_SOURCE /* memmem */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { FIN_TEXT = 0x81, FIN_BINARY = 0x82, MASKED = 0x80 };

enum {
    ON_STACK = 1024, /* bytes of text unmasked on the stack; more is allocated */
    FEW = 64,        /* messages held on the stack; a larger batch is allocated */
    LONGEST_HEAD = 14
};

typedef struct {
    PyObject *text;
    PyObject *binary;
    /* The limits of `messages.py` and `payload.py`, read at initialisation. */
    Py_ssize_t batch;
    Py_ssize_t fragment;
    Py_ssize_t reserve;
    Py_ssize_t least;
} State;

/* Writes `size` bytes of `from`, masked with the four bytes of `key`, to `to`. Words
 * are copied in and out, so any alignment works; `from` and `to` may be the same. */
static void
mask_bytes(unsigned char *to, const unsigned char *from, size_t size, const unsigned char *key)
{
    uint32_t four;
    memcpy(&four, key, 4);
    const uint64_t eight = (uint64_t)four << 32 | four;
    size_t at = 0;
    for (; size - at >= 32; at += 32) {
        uint64_t words[4];
        memcpy(words, from + at, 32);
        for (int i = 0; i < 4; i++) {
            words[i] ^= eight;
        }
        memcpy(to + at, words, 32);
    }
    for (; size - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, from + at, 8);
        word ^= eight;
        memcpy(to + at, &word, 8);
    }
    for (; at < size; at++) {
        to[at] = from[at] ^ key[at & 3];
    }
}

/* Returns a new bytes object of `size` bytes; `*at` points to them. */
static PyObject *
new_bytes(Py_ssize_t size, unsigned char **at)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes != NULL) {
        *at = (unsigned char *)PyBytes_AsString(bytes);
    }
    return bytes;
}

static PyObject *
masked_copy(const unsigned char *from, Py_ssize_t size, const unsigned char *key)
{
    unsigned char *to;
    PyObject *bytes = new_bytes(size, &to);
    if (bytes != NULL) {
        mask_bytes(to, from, (size_t)size, key);
    }
    return bytes;
}

static int
check_count(const char *name, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given != wanted) {
        PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", name, wanted, given);
        return -1;
    }
    return 0;
}

/* apply_mask(data, key) -> bytes */
static PyObject *
apply_mask(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer data, key;
    PyObject *result = NULL;
    (void)module;
    if (check_count("apply_mask", count, 2) < 0 || PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (PyObject_GetBuffer(args[1], &key, PyBUF_SIMPLE) == 0) {
        if (key.len == 4) {
            result = masked_copy(data.buf, data.len, key.buf);
        }
        else {
            PyErr_Format(PyExc_ValueError, "a masking key has 4 bytes, not %zd", key.len);
        }
        PyBuffer_Release(&key);
    }
    PyBuffer_Release(&data);
    return result;
}

/* unmask(buf, at, end) -> bytes: `buf[at:end]`; the key is the four bytes before it */
static PyObject *
unmask(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer buf;
    PyObject *result = NULL;
    (void)module;
    if (check_count("unmask", count, 3) < 0) {
        return NULL;
    }
    Py_ssize_t at = PyLong_AsSsize_t(args[1]);
    if (at == -1 && PyErr_Occurred()) {
        return NULL;
    }
    Py_ssize_t end = PyLong_AsSsize_t(args[2]);
    if ((end == -1 && PyErr_Occurred()) || PyObject_GetBuffer(args[0], &buf, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (at < 4 || at > end || end > buf.len) {
        PyErr_Format(PyExc_ValueError, "no payload at [%zd:%zd] of %zd bytes", at, end, buf.len);
    }
    else {
        const unsigned char *payload = (const unsigned char *)buf.buf + at;
        result = masked_copy(payload, end - at, payload - 4);
    }
    PyBuffer_Release(&buf);
    return result;
}

/* Decodes a text of `size` bytes, masked with `key` unless that is NULL. */
static PyObject *
make_text(const unsigned char *payload, Py_ssize_t size, const unsigned char *key)
{
    unsigned char small[ON_STACK];
    unsigned char *plain = small;
    if (key == NULL) {
        return PyUnicode_DecodeUTF8((const char *)payload, size, NULL);
    }
    if (size > ON_STACK && (plain = PyMem_Malloc((size_t)size)) == NULL) {
        return PyErr_NoMemory();
    }
    mask_bytes(plain, payload, (size_t)size, key);
    PyObject *text = PyUnicode_DecodeUTF8((const char *)plain, size, NULL);
    if (plain != small) {
        PyMem_Free(plain);
    }
    return text;
}

typedef struct {
    int text;
    const unsigned char *key; /* NULL if it isn't masked */
    const unsigned char *payload;
    Py_ssize_t size;
} Frame;

/* Reads the frame at the front of the `have` bytes at `from`. Returns its whole size; 0
 * unless it is a whole, valid, unfragmented data frame of at most `most` bytes. */
static Py_ssize_t
read_frame(const unsigned char *from, Py_ssize_t have, int masked, Py_ssize_t most, Frame *frame)
{
    if (have < 2 || (from[0] != FIN_TEXT && from[0] != FIN_BINARY) || (from[1] & MASKED) != masked) {
        return 0;
    }
    uint64_t size = from[1] & 0x7F;
    Py_ssize_t head = 2;
    if (size > 125) {
        const Py_ssize_t bytes = size == 126 ? 2 : 8;
        const uint64_t least = size == 126 ? 126 : 65536;
        head += bytes;
        if (have < head) {
            return 0;
        }
        size = 0;
        for (Py_ssize_t i = 2; i < head; i++) {
            size = size << 8 | from[i];
        }
        if (size < least) {
            return 0;
        }
    }
    if (masked) {
        head += 4;
    }
    /* `most` is not negative; a size that doesn't fit a Py_ssize_t is larger. */
    if (have < head || size > (uint64_t)most || (Py_ssize_t)size > have - head) {
        return 0;
    }
    frame->text = from[0] == FIN_TEXT;
    frame->payload = from + head;
    frame->key = masked ? frame->payload - 4 : NULL;
    frame->size = (Py_ssize_t)size;
    return head + (Py_ssize_t)size;
}

/* Returns `(data, typ)` of a frame; NULL with an exception, or without one if its text
 * is not UTF-8. */
static PyObject *
make_message(const State *state, const Frame *frame)
{
    PyObject *data;
    if (frame->text) {
        data = make_text(frame->payload, frame->size, frame->key);
        if (data == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            PyErr_Clear();
        }
    }
    else if (frame->key != NULL) {
        data = masked_copy(frame->payload, frame->size, frame->key);
    }
    else {
        data = PyBytes_FromStringAndSize((const char *)frame->payload, frame->size);
    }
    if (data == NULL) {
        return NULL;
    }
    PyObject *message = PyTuple_Pack(2, data, frame->text ? state->text : state->binary);
    Py_DECREF(data);
    return message;
}

/* take_messages(buf, rest, masked, most) -> (data, typ) or None: see `messages.py` */
static PyObject *
take_messages(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    const State *state = PyModule_GetState(module);
    PyObject *few[FEW];
    PyObject **messages = few;
    PyObject *result = NULL;
    Py_ssize_t taken = 0;
    Py_ssize_t at = 0;
    Py_buffer buf;

    if (check_count("take_messages", count, 4) < 0) {
        return NULL;
    }
    if (!PyByteArray_Check(args[0]) || !PyList_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "take_messages needs a bytearray and a list");
        return NULL;
    }
    const int truth = PyObject_IsTrue(args[2]);
    const Py_ssize_t most = PyLong_AsSsize_t(args[3]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    const int masked = truth ? MASKED : 0;
    if (state->batch > FEW && (messages = PyMem_Calloc((size_t)state->batch, sizeof *messages)) == NULL) {
        return PyErr_NoMemory();
    }
    /* While the buffer is exported nothing can resize it, not even a finalizer that an
     * allocation here may run. */
    if (PyObject_GetBuffer(args[0], &buf, PyBUF_SIMPLE) < 0) {
        goto end;
    }
    const Py_ssize_t have = buf.len;
    while (most >= 0 && taken < state->batch && at < state->fragment) {
        Frame frame;
        const Py_ssize_t size = read_frame((const unsigned char *)buf.buf + at, have - at, masked, most, &frame);
        PyObject *message = size ? make_message(state, &frame) : NULL;
        if (message == NULL) {
            break;
        }
        messages[taken++] = message;
        at += size;
    }
    PyBuffer_Release(&buf);
    if (PyErr_Occurred()) {
        goto end;
    }
    if (taken == 0) {
        result = Py_NewRef(Py_None);
        goto end;
    }
    /* In reverse order, for `rest.pop()`. */
    const Py_ssize_t before = PyList_Size(args[1]);
    for (Py_ssize_t i = taken - 1; i > 0; i--) {
        if (PyList_Append(args[1], messages[i]) < 0) {
            PyList_SetSlice(args[1], before, PyList_Size(args[1]), NULL);
            goto end;
        }
    }
    if ((at == have ? PyByteArray_Resize(args[0], 0) : PySequence_DelSlice(args[0], 0, at)) < 0) {
        PyList_SetSlice(args[1], before, PyList_Size(args[1]), NULL);
        goto end;
    }
    result = Py_NewRef(messages[0]);
end:
    while (taken > 0) {
        Py_DECREF(messages[--taken]);
    }
    if (messages != few) {
        PyMem_Free(messages);
    }
    return result;
}

/* take_until(buf, delimiter, start, most) -> bytes or None: see `lines.py` */
static PyObject *
take_until(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (check_count("take_until", count, 4) < 0) {
        return NULL;
    }
    if (!PyByteArray_Check(args[0]) || !PyBytes_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "take_until needs a bytearray and bytes");
        return NULL;
    }
    const Py_ssize_t start = PyLong_AsSsize_t(args[2]);
    const Py_ssize_t most = PyLong_AsSsize_t(args[3]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    const char *const data = PyByteArray_AsString(args[0]);
    const Py_ssize_t have = PyByteArray_Size(args[0]);
    const char *const delimiter = PyBytes_AsString(args[1]);
    const Py_ssize_t size = PyBytes_Size(args[1]);
    if (size == 0 || start < 0 || start > have) {
        return Py_NewRef(Py_None);
    }
    const char *const found = size == 1 ? memchr(data + start, delimiter[0], (size_t)(have - start))
                                        : memmem(data + start, (size_t)(have - start), delimiter, (size_t)size);
    if (found == NULL || found - data > most - size) {
        return Py_NewRef(Py_None);
    }
    const Py_ssize_t end = found - data + size;
    /* Bytes are no object of the garbage collector, so this runs no other code. */
    PyObject *taken = PyBytes_FromStringAndSize(data, end);
    if (taken == NULL) {
        return NULL;
    }
    if ((end == have ? PyByteArray_Resize(args[0], 0) : PySequence_DelSlice(args[0], 0, end)) < 0) {
        Py_DECREF(taken);
        return NULL;
    }
    return taken;
}

/* Writes the header of a frame of `size` bytes; returns the header's length. */
static Py_ssize_t
write_head(unsigned char *to, unsigned char first, Py_ssize_t size, int masked)
{
    Py_ssize_t bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    to[0] = first;
    to[1] = (unsigned char)(masked | (bytes == 0 ? size : bytes == 2 ? 126 : 127));
    for (Py_ssize_t i = 0; i < bytes; i++) {
        to[2 + i] = (unsigned char)((uint64_t)size >> (8 * (bytes - 1 - i)));
    }
    return 2 + bytes;
}

/* message_frame(data, typ, key) -> bytes or None: see `messages.py` */
static PyObject *
message_frame(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    const State *state = PyModule_GetState(module);
    const char *payload;
    char *key = NULL;
    Py_ssize_t size;

    if (check_count("message_frame", count, 3) < 0) {
        return NULL;
    }
    /* String literals in a program are interned, so there is one object of each; any
     * other object is left to the Python code. */
    const int text = args[1] == state->text;
    if (!text && args[1] != state->binary) {
        return Py_NewRef(Py_None);
    }
    if (PyUnicode_CheckExact(args[0])) {
        if (PyUnicode_GetLength(args[0]) >= state->fragment) {
            /* Checked before its UTF-8 is made, which the text would keep. */
            return Py_NewRef(Py_None);
        }
        payload = PyUnicode_AsUTF8AndSize(args[0], &size);
        if (payload == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
                return NULL;
            }
            PyErr_Clear();
            return Py_NewRef(Py_None);
        }
    }
    else if (PyBytes_CheckExact(args[0]) && !text) {
        payload = PyBytes_AsString(args[0]);
        size = PyBytes_Size(args[0]);
    }
    else {
        return Py_NewRef(Py_None);
    }
    if (size >= state->fragment) {
        return Py_NewRef(Py_None);
    }
    if (args[2] != Py_None) {
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(args[2], &key, &length) < 0) {
            return NULL;
        }
        if (length != 4) {
            PyErr_Format(PyExc_ValueError, "a masking key has 4 bytes, not %zd", length);
            return NULL;
        }
    }
    unsigned char head[LONGEST_HEAD];
    Py_ssize_t at = write_head(head, text ? FIN_TEXT : FIN_BINARY, size, key ? MASKED : 0);
    if (key) {
        memcpy(head + at, key, 4);
        at += 4;
    }
    unsigned char *to;
    PyObject *frame = new_bytes(at + size, &to);
    if (frame == NULL) {
        return NULL;
    }
    memcpy(to, head, (size_t)at);
    if (key) {
        mask_bytes(to + at, (const unsigned char *)payload, (size_t)size, (const unsigned char *)key);
    }
    else {
        memcpy(to + at, payload, (size_t)size);
    }
    return frame;
}

/* Payload(size, key): see `payload.py`. The bytes object that `take` returns exists
 * from the start; no other code has it until it is complete. */
typedef struct {
    PyObject_HEAD
    PyObject *bytes; /* of `capacity` bytes; NULL after `take` */
    Py_ssize_t size; /* of the whole payload */
    Py_ssize_t capacity;
    Py_ssize_t got;
    Py_ssize_t exports; /* how many memoryviews of the free room exist */
    int masked;
    unsigned char key[4];
} Payload;

static unsigned char *
payload_at(Payload *self, Py_ssize_t at)
{
    return (unsigned char *)PyBytes_AsString(self->bytes) + at;
}

/* Refuses to move or release the free room while other code may write to it. */
static int
check_payload(Payload *self)
{
    if (self->bytes == NULL) {
        PyErr_SetString(PyExc_ValueError, "the payload was taken");
        return -1;
    }
    if (self->exports > 0) {
        PyErr_SetString(PyExc_BufferError, "the room of the payload is in use");
        return -1;
    }
    return 0;
}

/* Makes free room if there is none and more is to come. `coming` bytes are about to be
 * added. The room grows with what has come: an announced length alone allocates little. */
static int
make_room(Payload *self, Py_ssize_t coming)
{
    if (self->got < self->capacity || self->got == self->size) {
        return 0;
    }
    const State *state = PyType_GetModuleState(Py_TYPE((PyObject *)self));
    if (state == NULL) {
        return -1;
    }
    Py_ssize_t come = coming < self->size - self->got ? self->got + coming : self->size;
    if (come < state->least) {
        come = state->least;
    }
    const Py_ssize_t capacity = come < self->size / state->reserve ? come * state->reserve : self->size;
    unsigned char *to;
    PyObject *bytes = new_bytes(capacity, &to);
    if (bytes == NULL) {
        return -1;
    }
    memcpy(to, payload_at(self, 0), (size_t)self->got);
    Py_DECREF(self->bytes);
    self->bytes = bytes;
    self->capacity = capacity;
    return 0;
}

/* Unmasks the next `size` bytes in place. */
static void
unmask_next(Payload *self, Py_ssize_t size)
{
    if (self->masked) {
        unsigned char key[4];
        for (int i = 0; i < 4; i++) {
            key[i] = self->key[(self->got + i) & 3];
        }
        unsigned char *next = payload_at(self, self->got);
        mask_bytes(next, next, (size_t)size, key);
    }
    self->got += size;
}

static PyObject *
payload_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t size;
    PyObject *key;
    char *bytes = NULL;
    Py_ssize_t length = 0;
    if (kwargs != NULL && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Payload takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "nO:Payload", &size, &key)) {
        return NULL;
    }
    if (size < 0) {
        PyErr_Format(PyExc_ValueError, "no payload has %zd bytes", size);
        return NULL;
    }
    if (key != Py_None && PyBytes_AsStringAndSize(key, &bytes, &length) < 0) {
        return NULL;
    }
    if (key != Py_None && length != 4) {
        PyErr_Format(PyExc_ValueError, "a masking key has 4 bytes, not %zd", length);
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Payload *self = (Payload *)alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->size = size;
    self->masked = bytes != NULL;
    if (bytes != NULL) {
        memcpy(self->key, bytes, 4);
    }
    self->bytes = PyBytes_FromStringAndSize(NULL, 0);
    if (self->bytes == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void
payload_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    Py_XDECREF(((Payload *)object)->bytes);
    release(object);
    Py_DECREF(type);
}

static int
payload_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
    Payload *self = (Payload *)object;
    if (check_payload(self) < 0 || make_room(self, 0) < 0) {
        view->obj = NULL;
        return -1;
    }
    if (PyBuffer_FillInfo(view, object, payload_at(self, self->got), self->capacity - self->got, 0, flags) < 0) {
        return -1;
    }
    self->exports++;
    return 0;
}

static void
payload_releasebuffer(PyObject *object, Py_buffer *view)
{
    (void)view;
    ((Payload *)object)->exports--;
}

static PyObject *
payload_room(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyMemoryView_FromObject(object);
}

static PyObject *
payload_received(PyObject *object, PyObject *argument)
{
    Payload *self = (Payload *)object;
    const Py_ssize_t size = PyLong_AsSsize_t(argument);
    if (PyErr_Occurred() || check_payload(self) < 0) {
        return NULL;
    }
    if (size < 0 || size > self->capacity - self->got) {
        PyErr_Format(PyExc_ValueError, "there is no room for %zd bytes", size);
        return NULL;
    }
    unmask_next(self, size);
    Py_RETURN_NONE;
}

static PyObject *
payload_add(PyObject *object, PyObject *buf)
{
    Payload *self = (Payload *)object;
    const Py_ssize_t before = self->got;
    Py_ssize_t taken = 0;
    Py_buffer data;
    if (check_payload(self) < 0) {
        return NULL;
    }
    if (!PyByteArray_Check(buf)) {
        PyErr_SetString(PyExc_TypeError, "add needs a bytearray");
        return NULL;
    }
    if (PyObject_GetBuffer(buf, &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    while (taken < data.len && self->got < self->size) {
        if (make_room(self, data.len - taken) < 0) {
            break;
        }
        const Py_ssize_t room = self->capacity - self->got;
        const Py_ssize_t size = data.len - taken < room ? data.len - taken : room;
        memcpy(payload_at(self, self->got), (const char *)data.buf + taken, (size_t)size);
        unmask_next(self, size);
        taken += size;
    }
    PyBuffer_Release(&data);
    if (PyErr_Occurred() || PySequence_DelSlice(buf, 0, taken) < 0) {
        self->got = before; /* it is still in `buf`, and will be added again */
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
payload_take(PyObject *object, PyObject *unused)
{
    Payload *self = (Payload *)object;
    (void)unused;
    if (check_payload(self) < 0) {
        return NULL;
    }
    if (self->got < self->size) {
        PyErr_Format(PyExc_ValueError, "%zd bytes of the payload are still to come", self->size - self->got);
        return NULL;
    }
    PyObject *bytes = self->bytes;
    self->bytes = NULL;
    return bytes;
}

static PyObject *
payload_so_far(PyObject *object, PyObject *unused)
{
    Payload *self = (Payload *)object;
    (void)unused;
    if (self->bytes == NULL) {
        check_payload(self);
        return NULL;
    }
    return PyBytes_FromStringAndSize((const char *)payload_at(self, 0), self->got);
}

static PyObject *
payload_left(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(((Payload *)object)->size - ((Payload *)object)->got);
}

static PyMethodDef payload_methods[] = {
    {"room", payload_room, METH_NOARGS, "room() -> memoryview: where the next bytes go"},
    {"received", payload_received, METH_O, "received(size): adds the bytes that were written to the room"},
    {"add", payload_add, METH_O, "add(buf): takes what belongs to the payload off the front of a bytearray"},
    {"take", payload_take, METH_NOARGS, "take() -> bytes: the whole payload, once"},
    {"so_far", payload_so_far, METH_NOARGS, "so_far() -> bytes: a copy of what has come"},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef payload_members[] = {
    {"left", payload_left, NULL, "the bytes that are still to come", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot payload_slots[] = {
    {Py_tp_doc, "Payload(size, key): a large payload while it arrives"},
    {Py_tp_new, payload_new},
    {Py_tp_dealloc, payload_dealloc},
    {Py_tp_methods, payload_methods},
    {Py_tp_getset, payload_members},
    {Py_bf_getbuffer, payload_getbuffer},
    {Py_bf_releasebuffer, payload_releasebuffer},
    {0, NULL},
};

static PyType_Spec payload_spec = {
    .name = "silly._wire._speedups.Payload",
    .basicsize = sizeof(Payload),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = payload_slots,
};

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL

static PyMethodDef functions[] = {
    {"apply_mask", FAST(apply_mask), "apply_mask(data, key) -> bytes"},
    {"unmask", FAST(unmask), "unmask(buf, at, end) -> bytes"},
    {"take_messages", FAST(take_messages), "take_messages(buf, rest, masked, most) -> (data, typ) or None"},
    {"take_until", FAST(take_until), "take_until(buf, delimiter, start, most) -> bytes or None"},
    {"message_frame", FAST(message_frame), "message_frame(data, typ, key) -> bytes or None"},
    {NULL, NULL, 0, NULL},
};

/* Sets `*limit` to the number `name` of the module `home`. */
static int
read_limit(PyObject *home, const char *name, Py_ssize_t *limit)
{
    PyObject *number = PyObject_GetAttrString(home, name);
    if (number == NULL) {
        return -1;
    }
    *limit = PyLong_AsSsize_t(number);
    Py_DECREF(number);
    if (*limit < 1) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "%s is not a positive number", name);
        }
        return -1;
    }
    return 0;
}

/* Reads two limits from the module `home`. */
static int
read_limits(const char *home, const char *first, Py_ssize_t *one, const char *second, Py_ssize_t *other)
{
    PyObject *module = PyImport_ImportModule(home);
    if (module == NULL) {
        return -1;
    }
    const int failed = read_limit(module, first, one) < 0 || read_limit(module, second, other) < 0;
    Py_DECREF(module);
    return failed ? -1 : 0;
}

static int
start(PyObject *module)
{
    State *state = PyModule_GetState(module);
    if (read_limits("silly._wire.messages", "BATCH", &state->batch, "FRAGMENT", &state->fragment) < 0
        || read_limits("silly._wire.payload", "RESERVE", &state->reserve, "LEAST", &state->least) < 0) {
        return -1;
    }
    state->text = PyUnicode_InternFromString("text");
    state->binary = PyUnicode_InternFromString("binary");
    if (state->text == NULL || state->binary == NULL) {
        return -1;
    }
    PyObject *payload = PyType_FromModuleAndSpec(module, &payload_spec, NULL);
    if (payload == NULL) {
        return -1;
    }
    const int added = PyModule_AddObjectRef(module, "Payload", payload);
    Py_DECREF(payload);
    return added;
}

static void
finish(void *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->text);
    Py_CLEAR(state->binary);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, start}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "silly._wire._speedups",
    .m_doc = "Masking, messages and frames of WebSockets, and lines, in C.",
    .m_size = sizeof(State),
    .m_methods = functions,
    .m_slots = slots,
    .m_free = finish,
};

PyMODINIT_FUNC
PyInit__speedups(void)
{
    return PyModuleDef_Init(&definition);
}
