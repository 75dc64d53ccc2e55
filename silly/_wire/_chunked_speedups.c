/* The data of chunks (RFC 9112, section 7.1), taken off a connection's buffer.
 *
 * The Python twin, `chunk_data.py`, documents it and holds its limit; the tests run both.
 * What isn't a size alone, a chunk's data and its line end is left in the buffer to the
 * Python code of `chunked.py`: extensions, the last chunk, trailers, and all that is
 * wrong. So this file decides only one rule of the protocol: "this is a chunk's size".
 *
 * Only the limited API is used, so one build is for every Python from 3.11 on.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <limits.h>
#include <string.h>

enum {
    AT_SIZE = -1,     /* as in `chunk_data.py` */
    MOST_DIGITS = 15, /* such a size times two fits a long long */
    FREE = 12         /* bytes of a size line that are no overhead, its CRLF not counted */
};

typedef struct {
    long long overhead; /* the limit of `chunk_data.py`, read at initialisation */
} State;

typedef struct {
    long long left;
    long long overhead;
    long long chunks;
    Py_ssize_t at; /* how many bytes of the buffer were taken */
} Place;

static int
hex_digit(unsigned char byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    byte |= 0x20; /* lower case; no other byte becomes one of these letters */
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* Reads a whole line with nothing but a size at the front of the `have` bytes at `from`.
 * Returns how many digits it has, or 0 if it is none. */
static Py_ssize_t
read_size(const unsigned char *from, Py_ssize_t have, long long *size)
{
    Py_ssize_t digits = 0;
    int digit;
    *size = 0;
    while (digits < have && digits < MOST_DIGITS && (digit = hex_digit(from[digits])) >= 0) {
        *size = *size * 16 + digit;
        digits++;
    }
    return have - digits >= 2 && from[digits] == '\r' && from[digits + 1] == '\n' ? digits : 0;
}

static long long
smaller(long long one, long long other)
{
    return one < other ? one : other;
}

/* Walks over chunks in the `have` bytes at `from`, up to anything that isn't plain, and
 * moves `place` on. Returns how many bytes of data they have, at most `most`; copies them
 * to `to` unless that is NULL. */
static Py_ssize_t
walk(const unsigned char *from, Py_ssize_t have, long long most, long long limit, Place *place, char *to)
{
    Py_ssize_t taken = 0;
    while (taken < most) {
        const unsigned char *const next = from + place->at;
        const Py_ssize_t rest = have - place->at;
        if (place->left > 0) {
            const Py_ssize_t size = (Py_ssize_t)smaller(smaller(place->left, rest), most - taken);
            if (size == 0) {
                break;
            }
            if (to != NULL) {
                memcpy(to + taken, next, (size_t)size);
            }
            taken += size;
            place->left -= size;
            place->at += size;
        }
        else if (place->left == 0) {
            if (rest < 2 || next[0] != '\r' || next[1] != '\n') {
                break;
            }
            place->left = AT_SIZE;
            place->at += 2;
        }
        else {
            long long size;
            const Py_ssize_t digits = place->chunks > 0 ? read_size(next, rest, &size) : 0;
            if (digits == 0 || size == 0) {
                break;
            }
            const long long owed = place->overhead + digits - FREE - 2 * size;
            if (owed > limit) {
                break;
            }
            place->left = size;
            place->overhead = owed > 0 ? owed : 0;
            place->chunks--;
            place->at += digits + 2;
        }
    }
    return taken;
}

/* take_chunks(buf, left, overhead, most, chunks) -> (data, left, overhead, chunks): see
 * `chunk_data.py` */
static PyObject *
take_chunks(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    const long long limit = ((State *)PyModule_GetState(module))->overhead;
    PyObject *result = NULL;
    Py_buffer buf;

    if (count != 5) {
        PyErr_Format(PyExc_TypeError, "take_chunks takes 5 arguments, not %zd", count);
        return NULL;
    }
    if (!PyByteArray_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "take_chunks needs a bytearray");
        return NULL;
    }
    long long numbers[4];
    for (int i = 0; i < 4; i++) {
        numbers[i] = PyLong_AsLongLong(args[1 + i]);
        if (numbers[i] == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    Place place = {.left = numbers[0], .overhead = numbers[1], .chunks = numbers[3], .at = 0};
    const long long most = numbers[2];
    if (place.overhead < 0 || place.overhead > limit) {
        PyErr_Format(PyExc_ValueError, "the overhead is from 0 to %lld, not %lld", limit, place.overhead);
        return NULL;
    }
    /* While the buffer is exported nothing can resize it, not even a finalizer that an
     * allocation here may run. */
    if (PyObject_GetBuffer(args[0], &buf, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    /* Twice: first for the size alone, so that the data is copied once. */
    Place ahead = place;
    PyObject *data = PyBytes_FromStringAndSize(NULL, walk(buf.buf, buf.len, most, limit, &ahead, NULL));
    if (data != NULL) {
        walk(buf.buf, buf.len, most, limit, &place, PyBytes_AsString(data));
        result = Py_BuildValue("(NLLL)", data, place.left, place.overhead, place.chunks);
    }
    const Py_ssize_t have = buf.len;
    PyBuffer_Release(&buf);
    if (result != NULL && place.at > 0
        && (place.at == have ? PyByteArray_Resize(args[0], 0) : PySequence_DelSlice(args[0], 0, place.at)) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

static PyMethodDef functions[] = {
    {"take_chunks", (PyCFunction)(void (*)(void))take_chunks, METH_FASTCALL,
     "take_chunks(buf, left, overhead, most, chunks) -> (data, left, overhead, chunks)"},
    {NULL, NULL, 0, NULL},
};

static int
start(PyObject *module)
{
    State *state = PyModule_GetState(module);
    PyObject *home = PyImport_ImportModule("silly._wire.chunk_data");
    PyObject *number = home == NULL ? NULL : PyObject_GetAttrString(home, "OVERHEAD");
    Py_XDECREF(home);
    if (number == NULL) {
        return -1;
    }
    state->overhead = PyLong_AsLongLong(number);
    Py_DECREF(number);
    if (PyErr_Occurred()) {
        return -1;
    }
    /* The sum of an overhead and the digits of a line must fit. */
    if (state->overhead < 1 || state->overhead > LLONG_MAX - MOST_DIGITS) {
        PyErr_SetString(PyExc_ValueError, "OVERHEAD is not a positive number");
        return -1;
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, start}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "silly._wire._chunked_speedups",
    .m_doc = "The data of chunks in C.",
    .m_size = sizeof(State),
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__chunked_speedups(void)
{
    return PyModuleDef_Init(&definition);
}
