/* Receiving and sending on a connection's descriptor. The methods of `socket` make
 * objects and release the GIL, which takes as long as the system call itself; these
 * functions do neither.
 *
 * The Python twins are in `_descriptor.py` and `_gathered.py`; the limits come from
 * there. The descriptors do not block, so the GIL is held throughout: no call waits,
 * and most take less time than releasing it. The only state is the limits and one
 * buffer. Only the limited API is used.
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
    NOTHING = -1,
    READ = 1, /* the mask of an event that means data and nothing else */
    /* Up to this size, copying is cheaper than receiving in place. */
    ON_STACK = 16 * 1024
};

/* The limits of `_gathered.py`, read when this module is initialised. */
static Py_ssize_t gather_limit;
static Py_ssize_t joined_limit;
/* Where pieces are joined: `joined_limit` bytes. All streams share it, since the GIL is
 * held while it is in use. */
static char *joined;
/* `scheduler.wake`; the names of the methods of `Stream` that `on_event` calls, and of the
 * one of a pipe. */
static PyObject *wake, *name_came, *name_other_event, *name_receive_failed, *name_seal;

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* where it is missing, Python ignores SIGPIPE */
#endif

/* The descriptor in `object`, or -1 with an error. */
static int
descriptor(PyObject *object)
{
    const long fd = PyLong_AsLong(object);
    if (fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (fd < 0 || fd > INT_MAX) {
        PyErr_SetString(PyExc_ValueError, "not a descriptor");
        return -1;
    }
    return (int)fd;
}

/* Whether `number`, the `errno` of a call, says that it would have blocked. */
static int
would_block(int number)
{
    return number == EAGAIN || number == EWOULDBLOCK || number == EINTR;
}

/* send(fd, data) -> int: how many bytes of `data` the kernel took, or -1 for none. */
static PyObject *
send_data(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer data;
    (void)module;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "send takes a descriptor and data");
        return NULL;
    }
    const int fd = descriptor(args[0]);
    if (fd < 0 || PyObject_GetBuffer(args[1], &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    const ssize_t sent = send(fd, data.buf, (size_t)data.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    const int number = errno;
    PyBuffer_Release(&data);
    if (sent >= 0) {
        return PyLong_FromSsize_t(sent);
    }
    if (would_block(number)) {
        return PyLong_FromLong(NOTHING);
    }
    errno = number;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* Gathered: see `_gathered.py`. A base class; its subclass uses the attributes too.
 *
 * What is written goes into `gathered`, and what is sent comes from `out`. Without a pipe
 * they are one list. With a pipe only what its `seal` returns goes from one to the other:
 * plaintext can't be sent. */
typedef struct {
    PyObject_HEAD
    PyObject *fd;
    PyObject *werr;
    PyObject *pipe;
    PyObject *gathered;
    PyObject *out;
    PyObject *all_dirty;
    PyObject *file_sender;
    PyObject *buf;
    PyObject *need;
    PyObject *peer_alive;
    PyObject *reader;
    PyObject *payload;
    PyObject *recv_size;
    Py_ssize_t unsent;
    long long received;
    long long flushed;
    long long queued;
    unsigned long thread;
    char dirty;
    char blocked;
} Gathered;

static PyObject *
gathered_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Gathered *self = (Gathered *)alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->thread = PyThread_get_thread_ident();
    self->fd = PyLong_FromLong(-1);
    self->werr = Py_NewRef(Py_None);
    self->file_sender = Py_NewRef(Py_None);
    self->pipe = Py_NewRef(Py_None);
    self->gathered = PyList_New(0);
    self->out = PyList_New(0);
    self->all_dirty = PyList_New(0);
    self->buf = PyByteArray_FromStringAndSize(NULL, 0);
    self->need = PyLong_FromLong(0);
    self->peer_alive = Py_NewRef(Py_True);
    self->reader = Py_NewRef(Py_None);
    self->payload = Py_NewRef(Py_None);
    self->recv_size = PyLong_FromLong(0);
    if (self->fd == NULL || self->gathered == NULL || self->out == NULL || self->all_dirty == NULL || self->buf == NULL
        || self->need == NULL || self->recv_size == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
gathered_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    Gathered *self = (Gathered *)object;
    if (PyTuple_Size(args) != 1 || (kwargs != NULL && PyDict_Size(kwargs) > 0)) {
        PyErr_SetString(PyExc_TypeError, "Gathered takes a pipe, or None");
        return -1;
    }
    if (self->pipe != Py_None || self->gathered == self->out) {
        PyErr_SetString(PyExc_RuntimeError, "it was initialised before");
        return -1;
    }
    PyObject *pipe = PyTuple_GetItem(args, 0), *before;
    if (pipe == Py_None) {
        before = self->gathered;
        self->gathered = Py_NewRef(self->out);
    }
    else {
        before = self->pipe;
        self->pipe = Py_NewRef(pipe);
    }
    Py_DECREF(before);
    return 0;
}

static int
gathered_traverse(PyObject *object, visitproc visit, void *arg)
{
    Gathered *self = (Gathered *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->fd);
    Py_VISIT(self->werr);
    Py_VISIT(self->pipe);
    Py_VISIT(self->gathered);
    Py_VISIT(self->out);
    Py_VISIT(self->all_dirty);
    Py_VISIT(self->file_sender);
    Py_VISIT(self->buf);
    Py_VISIT(self->need);
    Py_VISIT(self->peer_alive);
    Py_VISIT(self->reader);
    Py_VISIT(self->payload);
    Py_VISIT(self->recv_size);
    return 0;
}

static int
gathered_clear(PyObject *object)
{
    Gathered *self = (Gathered *)object;
    Py_CLEAR(self->fd);
    Py_CLEAR(self->werr);
    Py_CLEAR(self->pipe);
    Py_CLEAR(self->gathered);
    Py_CLEAR(self->out);
    Py_CLEAR(self->all_dirty);
    Py_CLEAR(self->file_sender);
    Py_CLEAR(self->buf);
    Py_CLEAR(self->need);
    Py_CLEAR(self->peer_alive);
    Py_CLEAR(self->reader);
    Py_CLEAR(self->payload);
    Py_CLEAR(self->recv_size);
    return 0;
}

static void
gathered_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    PyObject_GC_UnTrack(object);
    gathered_clear(object);
    release(object);
    Py_DECREF(type);
}

/* Raises TypeError if a list is missing, or if the one that a subclass may exchange is no
 * list any more. */
static int
check_gathered(Gathered *self)
{
    if (self->gathered == NULL || self->out == NULL || self->all_dirty == NULL || !PyList_Check(self->all_dirty)) {
        PyErr_SetString(PyExc_TypeError, "what was gathered is no list");
        return -1;
    }
    return 0;
}

/* Appends at most `size` received bytes to the bytearray `buf`. Returns how many, 0 at
 * the end of the data, or NOTHING: then `*number` is the `errno` of receiving, or 0 if an
 * error was raised. */
static Py_ssize_t
receive(Gathered *self, PyObject *buf, Py_ssize_t size, int *number)
{
    char small[ON_STACK];
    *number = 0;
    const int fd = descriptor(self->fd);
    if (fd < 0) {
        return NOTHING;
    }
    const Py_ssize_t before = PyByteArray_Size(buf);
    if (size < 1 || size > PY_SSIZE_T_MAX - before) {
        PyErr_SetString(PyExc_ValueError, "no size to receive");
        return NOTHING;
    }
    ssize_t got;
    int failure;
    if (size <= ON_STACK) {
        got = recv(fd, small, (size_t)size, MSG_DONTWAIT);
        failure = errno;
        if (got > 0) {
            if (PyByteArray_Resize(buf, before + got) < 0) {
                return NOTHING;
            }
            memcpy(PyByteArray_AsString(buf) + before, small, (size_t)got);
        }
    }
    else {
        /* In place: for so much data a copy costs more than making room first. */
        if (PyByteArray_Resize(buf, before + size) < 0) {
            return NOTHING;
        }
        got = recv(fd, PyByteArray_AsString(buf) + before, (size_t)size, MSG_DONTWAIT);
        failure = errno;
        if (PyByteArray_Resize(buf, before + (got > 0 ? got : 0)) < 0) {
            return NOTHING;
        }
    }
    if (got < 0) {
        *number = failure;
        return NOTHING;
    }
    self->received += got;
    return got;
}

/* The OSError of `number`, or NULL with another error. */
static PyObject *
os_error(int number)
{
    PyObject *type, *error, *traceback;
    errno = number;
    PyErr_SetFromErrno(PyExc_OSError);
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return error == NULL ? PyErr_NoMemory() : error;
}

/* object.name(arg); takes over the reference to `arg`, which may be NULL with an error */
static PyObject *
call_with(PyObject *object, PyObject *name, PyObject *arg)
{
    if (arg == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_CallMethodObjArgs(object, name, arg, NULL);
    Py_DECREF(arg);
    return result;
}

/* on_event(mask) */
static PyObject *
gathered_on_event(PyObject *object, PyObject *mask)
{
    Gathered *self = (Gathered *)object;
    PyObject *buf = self->buf;
    if (buf == NULL || !PyByteArray_Check(buf) || self->fd == NULL || self->need == NULL || self->reader == NULL
        || self->recv_size == NULL) {
        PyErr_SetString(PyExc_TypeError, "the stream lacks what receiving needs");
        return NULL;
    }
    const long events = PyLong_AsLong(mask);
    const long fd = PyLong_AsLong(self->fd);
    const Py_ssize_t size = PyLong_AsSsize_t(self->recv_size);
    const Py_ssize_t need = PyLong_AsSsize_t(self->need);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (events != READ || self->payload != Py_None || fd < 0) {
        return PyObject_CallMethodObjArgs(object, name_other_event, mask, NULL);
    }
    int number;
    const Py_ssize_t got = receive(self, buf, size, &number);
    if (got < 0) {
        if (number == 0) {
            return NULL;
        }
        return would_block(number) ? Py_NewRef(Py_None) : call_with(object, name_receive_failed, os_error(number));
    }
    if (self->peer_alive != Py_True) {
        Py_XDECREF(self->peer_alive);
        self->peer_alive = Py_NewRef(Py_True);
    }
    if (self->reader == Py_None || got == 0 || PyByteArray_Size(buf) < need) {
        return call_with(object, name_came, PyLong_FromSsize_t(got));
    }
    PyObject *reader = self->reader;
    self->reader = Py_NewRef(Py_None);
    PyObject *result = PyObject_CallFunctionObjArgs(wake, reader, NULL);
    Py_DECREF(reader);
    return result;
}

/* try_queue(data) -> bool */
static PyObject *
gathered_try_queue(PyObject *object, PyObject *data)
{
    Gathered *self = (Gathered *)object;
    if (check_gathered(self) < 0) {
        return NULL;
    }
    if (self->werr != Py_None || self->blocked || self->file_sender != Py_None || !PyBytes_CheckExact(data)
        || self->thread != PyThread_get_thread_ident()) {
        return Py_NewRef(Py_False);
    }
    const Py_ssize_t size = PyBytes_Size(data);
    if (self->unsent >= gather_limit || size >= gather_limit - self->unsent) {
        return Py_NewRef(Py_False);
    }
    if (PyList_Append(self->gathered, data) < 0) {
        return NULL;
    }
    self->unsent += size;
    self->queued++;
    if (!self->dirty) {
        if (PyList_Append(self->all_dirty, object) < 0) {
            const Py_ssize_t last = PyList_Size(self->gathered) - 1;
            self->unsent -= size;
            self->queued--;
            PyList_SetSlice(self->gathered, last, last + 1, NULL);
            return NULL;
        }
        self->dirty = 1;
    }
    return Py_NewRef(Py_True);
}

/* Copies the `pieces` of `out` to `to`, which has room for `size` bytes. Returns their
 * size, or -1 if they are not bytes objects that fit. */
static Py_ssize_t
join(PyObject *out, Py_ssize_t pieces, char *to, Py_ssize_t size)
{
    Py_ssize_t at = 0;
    for (Py_ssize_t i = 0; i < pieces; i++) {
        PyObject *piece = PyList_GetItem(out, i);
        if (!PyBytes_CheckExact(piece) || PyBytes_Size(piece) > size - at) {
            return -1;
        }
        memcpy(to + at, PyBytes_AsString(piece), (size_t)PyBytes_Size(piece));
        at += PyBytes_Size(piece);
    }
    return at;
}

/* self._flush(sent, failure): `failure` is the exception that is set, or None */
static PyObject *
flush_rest(PyObject *self, Py_ssize_t sent)
{
    PyObject *type, *failure, *traceback;
    PyErr_Fetch(&type, &failure, &traceback);
    if (type == NULL) {
        failure = Py_NewRef(Py_None);
    }
    else {
        PyErr_NormalizeException(&type, &failure, &traceback);
        Py_XDECREF(type);
        Py_XDECREF(traceback);
        if (failure == NULL) {
            return PyErr_NoMemory();
        }
    }
    PyObject *result = PyObject_CallMethod(self, "_flush", "nN", sent, failure);
    Py_XDECREF(result);
    return result == NULL ? NULL : Py_NewRef(Py_None);
}

/* Makes records of all that was gathered, which are all that is to be sent then. */
static int
seal(Gathered *self)
{
    const Py_ssize_t plain = self->unsent;
    PyObject *records = PyObject_CallMethodObjArgs(self->pipe, name_seal, self->gathered, NULL);
    if (records == NULL) {
        return -1;
    }
    int failed = -1;
    if (!PyBytes_CheckExact(records)) {
        PyErr_SetString(PyExc_TypeError, "records are bytes");
    }
    else if (PyList_Append(self->out, records) == 0) {
        self->unsent += PyBytes_Size(records) - plain;
        failed = 0;
    }
    Py_DECREF(records);
    return failed;
}

/* flush() */
static PyObject *
gathered_flush(PyObject *object, PyObject *unused)
{
    Gathered *self = (Gathered *)object;
    const char *data = joined;
    (void)unused;
    self->dirty = 0;
    if (check_gathered(self) < 0) {
        return NULL;
    }
    if (self->blocked || PyList_Size(self->gathered) + PyList_Size(self->out) == 0) {
        return Py_NewRef(Py_None);
    }
    const int fd = descriptor(self->fd);
    if (fd < 0) {
        return NULL;
    }
    if (self->pipe != Py_None && PyList_Size(self->gathered) > 0
        && (PyList_Size(self->out) > 0 || self->unsent > joined_limit || seal(self) < 0)) {
        return flush_rest(object, 0);
    }
    const Py_ssize_t pieces = PyList_Size(self->out);
    PyObject *first = pieces == 1 ? PyList_GetItem(self->out, 0) : NULL;
    Py_ssize_t size;
    if (first != NULL && PyBytes_CheckExact(first)) {
        data = PyBytes_AsString(first);
        size = PyBytes_Size(first);
    }
    else {
        size = join(self->out, pieces, joined, joined_limit);
    }
    if (size < 0) {
        return flush_rest(object, 0);
    }
    const ssize_t sent = send(fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
        if (!would_block(errno)) {
            PyErr_SetFromErrno(PyExc_OSError);
        }
        return flush_rest(object, 0);
    }
    if (sent < size) {
        return flush_rest(object, sent);
    }
    self->flushed += sent;
    self->unsent -= sent;
    if (PyList_SetSlice(self->out, 0, pieces, NULL) < 0) {
        return NULL;
    }
    return Py_NewRef(Py_None);
}

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL

static PyMethodDef gathered_methods[] = {
    {"on_event", gathered_on_event, METH_O, "on_event(mask): receives what has come, and makes the reader ready"},
    {"try_queue", gathered_try_queue, METH_O, "try_queue(data) -> bool: queues data if it is small and output is not blocked"},
    {"flush", gathered_flush, METH_NOARGS, "flush(): sends what was gathered"},
    {NULL, NULL, 0, NULL},
};

#define MEMBER(name, type, field) {name, type, offsetof(Gathered, field), 0, NULL}

static PyMemberDef gathered_members[] = {
    MEMBER("fd", T_OBJECT_EX, fd),
    MEMBER("werr", T_OBJECT_EX, werr),
    MEMBER("pipe", T_OBJECT_EX, pipe),
    {"_gathered", T_OBJECT_EX, offsetof(Gathered, gathered), READONLY, NULL},
    {"_out", T_OBJECT_EX, offsetof(Gathered, out), READONLY, NULL},
    MEMBER("_all_dirty", T_OBJECT_EX, all_dirty),
    MEMBER("file_sender", T_OBJECT_EX, file_sender),
    MEMBER("buf", T_OBJECT_EX, buf),
    MEMBER("need", T_OBJECT_EX, need),
    MEMBER("peer_alive", T_OBJECT_EX, peer_alive),
    MEMBER("_reader", T_OBJECT_EX, reader),
    MEMBER("_payload", T_OBJECT_EX, payload),
    MEMBER("_recv_size", T_OBJECT_EX, recv_size),
    MEMBER("unsent", T_PYSSIZET, unsent),
    MEMBER("_dirty", T_BOOL, dirty),
    MEMBER("_blocked", T_BOOL, blocked),
    MEMBER("received", T_LONGLONG, received),
    MEMBER("flushed", T_LONGLONG, flushed),
    MEMBER("queued", T_LONGLONG, queued),
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot gathered_slots[] = {
    {Py_tp_doc, "What a stream does for nearly every event and every write."},
    {Py_tp_new, gathered_new},
    {Py_tp_init, gathered_init},
    {Py_tp_dealloc, gathered_dealloc},
    {Py_tp_traverse, gathered_traverse},
    {Py_tp_clear, gathered_clear},
    {Py_tp_methods, gathered_methods},
    {Py_tp_members, gathered_members},
    {0, NULL},
};

static PyType_Spec gathered_spec = {
    .name = "silly.net._speedups.Gathered",
    .basicsize = sizeof(Gathered),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = gathered_slots,
};

static PyMethodDef functions[] = {
    {"send", FAST(send_data), "send(fd, data) -> int"},
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

static int
read_limits(void)
{
    PyObject *home = PyImport_ImportModule("silly.net._gathered");
    if (home == NULL) {
        return -1;
    }
    const int failed = read_limit(home, "GATHER", &gather_limit) < 0 || read_limit(home, "JOINED", &joined_limit) < 0;
    Py_DECREF(home);
    if (failed) {
        return -1;
    }
    char *larger = PyMem_Realloc(joined, (size_t)joined_limit);
    if (larger == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    joined = larger;
    return 0;
}

static int
read_names(void)
{
    PyObject *scheduler = PyImport_ImportModule("silly._core.scheduler");
    if (scheduler == NULL) {
        return -1;
    }
    wake = PyObject_GetAttrString(scheduler, "wake");
    Py_DECREF(scheduler);
    name_came = PyUnicode_InternFromString("_came");
    name_other_event = PyUnicode_InternFromString("_other_event");
    name_receive_failed = PyUnicode_InternFromString("_receive_failed");
    name_seal = PyUnicode_InternFromString("seal");
    return PyErr_Occurred() ? -1 : 0;
}

static int
start(PyObject *module)
{
    if (read_limits() < 0 || read_names() < 0) {
        return -1;
    }
    PyObject *gathered = PyType_FromModuleAndSpec(module, &gathered_spec, NULL);
    if (gathered == NULL) {
        return -1;
    }
    const int added = PyModule_AddObjectRef(module, "Gathered", gathered);
    Py_DECREF(gathered);
    return added;
}

static struct PyModuleDef_Slot slots[] = {{Py_mod_exec, start}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "silly.net._speedups",
    .m_doc = "Receiving and sending on a descriptor in C.",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__speedups(void)
{
    return PyModuleDef_Init(&definition);
}
