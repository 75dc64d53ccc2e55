/* Receiving and sending on a connection's descriptor, without the objects and the release of the interpreter's lock that the
 * methods of `socket` cost: they take as long as the system call itself.
 *
 * The twins in Python are in `_descriptor.py`. The descriptors do not block, so the GIL is held throughout: no call waits, and
 * to let go of it costs more than most take. There is no state. Only the limited API is used.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>

enum { NOTHING = -1, SMALL = 16 * 1024 };

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* where it is missing, Python ignores the signal */
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

/* `NOTHING` where the call would have waited, else an OSError. */
static PyObject *
refused(void)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
        return PyLong_FromLong(NOTHING);
    }
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* receive(fd, buf, size) -> int: appends what has come to the bytearray `buf`, `size` bytes at most. How many, 0 at the end of
 * the data, -1 when there is nothing now. */
static PyObject *
receive(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    char small[SMALL];
    (void)module;
    if (count != 3 || !PyByteArray_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "receive takes a descriptor, a bytearray and a size");
        return NULL;
    }
    const int fd = descriptor(args[0]);
    if (fd < 0) {
        return NULL;
    }
    PyObject *buf = args[1];
    const Py_ssize_t size = PyLong_AsSsize_t(args[2]);
    const Py_ssize_t before = PyByteArray_Size(buf);
    if (size < 1 || size > PY_SSIZE_T_MAX - before) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "no size to receive");
        }
        return NULL;
    }
    ssize_t got;
    if (size <= SMALL) {
        got = recv(fd, small, (size_t)size, MSG_DONTWAIT);
        if (got > 0) {
            if (PyByteArray_Resize(buf, before + got) < 0) {
                return NULL;
            }
            memcpy(PyByteArray_AsString(buf) + before, small, (size_t)got);
        }
    }
    else {
        /* Much is expected: in place, since a copy costs more than to make the room first. */
        if (PyByteArray_Resize(buf, before + size) < 0) {
            return NULL;
        }
        got = recv(fd, PyByteArray_AsString(buf) + before, (size_t)size, MSG_DONTWAIT);
        const int saved = errno;
        if (PyByteArray_Resize(buf, before + (got > 0 ? got : 0)) < 0) {
            return NULL;
        }
        errno = saved;
    }
    return got < 0 ? refused() : PyLong_FromSsize_t(got);
}

/* send(fd, data) -> int: how many bytes of `data` the system took, -1 when none. */
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
    const int saved = errno;
    PyBuffer_Release(&data);
    errno = saved;
    return sent < 0 ? refused() : PyLong_FromSsize_t(sent);
}

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL

static PyMethodDef functions[] = {
    {"receive", FAST(receive), "receive(fd, buf, size) -> int"},
    {"send", FAST(send_data), "send(fd, data) -> int"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef_Slot slots[] = {{0, NULL}};

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
